// Mesa 22's lavapipe keeps what it makes of some kernels of attention. Handles that we would leak
// are wgpu-native's allocations, which are reported all the same.
extern "C" const char* __lsan_default_suppressions();   // NOLINT(bugprone-reserved-identifier)
extern "C" const char* __lsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier)
  return "leak:libvulkan_lvp.so\n";
}
