#include "src/kernels/amx_support.h"

#include <sstream>
#include <system_error>

#ifdef __x86_64__
#include <cpuid.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#endif

namespace turboquant::kernels {
namespace {

constexpr uint64_t kTileState = uint64_t{3} << 17;

#ifdef __x86_64__

uint64_t ReadXcr0() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned kOsXsave = 1u << 27;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & kOsXsave) == 0) return 0;
  uint32_t low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

void AskCpu(AmxFacts& facts) {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return;
  facts.amx_tile = (edx >> 24 & 1u) != 0;
  facts.amx_int8 = (edx >> 25 & 1u) != 0;
  if (facts.amx_tile) facts.xcr0 = ReadXcr0();
}

#endif

#if defined(__x86_64__) && defined(__linux__)

// Of the process, for good; threads to come have it too.
int AskLinux() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0 ? 0 : errno;
}

bool CpuAndSystemHaveTiles(const AmxFacts& facts) {
  return facts.avx512 && facts.amx_tile && facts.amx_int8 &&
         (facts.xcr0 & kTileState) == kTileState;
}

#endif

}  // namespace

AmxFacts ThisAmxFacts(bool avx512) {
  AmxFacts facts;
  facts.avx512 = avx512;
#ifdef __x86_64__
  facts.x86_64 = true;
  AskCpu(facts);
#ifdef __linux__
  facts.is_linux = true;
  if (CpuAndSystemHaveTiles(facts)) facts.permission_error = AskLinux();
#endif
#endif
  return facts;
}

std::string AmxObstacle(const AmxFacts& facts) {
  if (!facts.x86_64) return "this build is not for x86-64";
  if (!facts.avx512) return "this CPU lacks AVX-512 with VNNI and VBMI";
  if (!facts.amx_tile) return "this CPU lacks amx-tile (CPUID leaf 7, EDX bit 24)";
  if (!facts.amx_int8) return "this CPU lacks amx-int8 (CPUID leaf 7, EDX bit 25)";
  if ((facts.xcr0 & kTileState) != kTileState) {
    std::ostringstream reason;
    reason << "the operating system does not save tiles: XCR0 is 0x" << std::hex << facts.xcr0
           << ", bits 17 and 18 (0x60000) are needed";
    return std::move(reason).str();
  }
  if (!facts.is_linux) return "leave to use tiles can be asked of Linux only";
  if (facts.permission_error != 0) {
    return "Linux gave no leave to use tiles: arch_prctl(ARCH_REQ_XCOMP_PERM, 18) failed with "
           "errno " +
           std::to_string(facts.permission_error) + ", " +
           std::system_category().message(facts.permission_error);
  }
  return {};
}

}  // namespace turboquant::kernels
