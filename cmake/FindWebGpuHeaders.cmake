# Defines WebGpu::headers, webgpu.h and wgpu.h alone: the library is loaded at run time
# (src/webgpu/library.cc). Loose files, by default those that `scripts/setup webgpu` puts below
# build/deps-webgpu:
#   WEBGPU_INCLUDE_DIR   folder of webgpu.h and wgpu.h, as wgpu-native ships them
#   WEBGPU_LIBRARY_DIR   where this build's programs also look for the library; may stay empty
set(turboquant_webgpu_deps ${PROJECT_SOURCE_DIR}/build/deps-webgpu/wgpu/resources)
find_path(WEBGPU_INCLUDE_DIR NAMES wgpu.h HINTS ${turboquant_webgpu_deps}
  PATH_SUFFIXES webgpu wgpu DOC "Folder of wgpu-native's webgpu.h and wgpu.h")
find_path(WEBGPU_LIBRARY_DIR
  NAMES libwgpu_native.so libwgpu_native-release.so libwgpu_native.dylib
        libwgpu_native-release.dylib
  HINTS ${turboquant_webgpu_deps} PATH_SUFFIXES lib
  DOC "Folder of wgpu-native's library, for programs run from the build folder")

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(WebGpuHeaders REQUIRED_VARS WEBGPU_INCLUDE_DIR)
if(WebGpuHeaders_FOUND AND NOT TARGET WebGpu::headers)
  add_library(WebGpu::headers INTERFACE IMPORTED GLOBAL)  # the tests call the library too
  set_target_properties(WebGpu::headers PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES ${WEBGPU_INCLUDE_DIR})
endif()
