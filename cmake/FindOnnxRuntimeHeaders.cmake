# Defines onnxruntime::headers, the C API's headers alone: the library is loaded at run time
# (src/onnx/runtime.cc), so any ONNX Runtime from 1.17 on serves. Looks, in order, at a config
# package, at pkg-config, and for loose files:
#   ONNXRUNTIME_INCLUDE_DIR   folder of onnxruntime_c_api.h
#   ONNXRUNTIME_LIBRARY_DIR   where this build's programs also look for the library; may stay empty
# Both default to what `scripts/setup onnx` puts below build/deps.
set(turboquant_deps ${PROJECT_SOURCE_DIR}/build/deps)
file(GLOB packaged_headers
  ${turboquant_deps}/quark/onnx/operators/custom_ops/include/onnxruntime-*/onnxruntime/core/session)

find_package(onnxruntime CONFIG QUIET)
if(TARGET onnxruntime::onnxruntime)
  get_target_property(config_include onnxruntime::onnxruntime INTERFACE_INCLUDE_DIRECTORIES)
else()
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    pkg_check_modules(ORT_PC QUIET libonnxruntime)
  endif()
endif()
find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_c_api.h
  HINTS ${config_include} ${ORT_PC_INCLUDE_DIRS} ${packaged_headers}
  PATH_SUFFIXES onnxruntime onnxruntime/core/session
  DOC "Folder of onnxruntime_c_api.h")
find_path(ONNXRUNTIME_LIBRARY_DIR
  NAMES libonnxruntime.so libonnxruntime.so.1 libonnxruntime.dylib libonnxruntime_providers_shared.so
  HINTS ${ORT_PC_LIBRARY_DIRS} ${turboquant_deps}/onnxruntime/capi PATH_SUFFIXES lib
  DOC "Folder of ONNX Runtime's shared library, for programs run from the build folder")

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OnnxRuntimeHeaders REQUIRED_VARS ONNXRUNTIME_INCLUDE_DIR)
if(OnnxRuntimeHeaders_FOUND AND NOT TARGET onnxruntime::headers)
  add_library(onnxruntime::headers INTERFACE IMPORTED)
  set_target_properties(onnxruntime::headers PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES ${ONNXRUNTIME_INCLUDE_DIR})
endif()
