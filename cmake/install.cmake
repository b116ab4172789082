# What `cmake --install` copies, and the package that find_package(turboquant) finds.
include(CMakePackageConfigHelpers)

set(turboquant_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/turboquant)

install(TARGETS turboquant EXPORT turboquant-targets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/turboquant
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h"
        PATTERN onnx EXCLUDE     # a component of its own, below
        PATTERN webgpu EXCLUDE)  # turboquant_webgpu is not in the package
install(EXPORT turboquant-targets NAMESPACE turboquant::
        DESTINATION ${turboquant_package_dir})
# The component `onnx`, where it was built: find_package(turboquant COMPONENTS onnx).
if(TARGET turboquant_onnx)
  install(TARGETS turboquant_onnx EXPORT turboquant-onnx-targets
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  get_target_property(turboquant_tokenizer_library turboquant_onnx TOKENIZER_LIBRARY)
  if(turboquant_tokenizer_library)
    install(FILES ${turboquant_tokenizer_library} DESTINATION ${CMAKE_INSTALL_LIBDIR})
  endif()
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/turboquant/onnx
          DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/turboquant FILES_MATCHING PATTERN "*.h")
  install(EXPORT turboquant-onnx-targets NAMESPACE turboquant::
          DESTINATION ${turboquant_package_dir})
endif()
if(TURBOQUANT_BUILD_CLI)
  install(TARGETS turboquant_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

# A static library leaves its private dependencies to whoever links it; a shared one holds them.
get_target_property(turboquant_library_type turboquant TYPE)
configure_package_config_file(
  ${PROJECT_SOURCE_DIR}/cmake/turboquant-config.cmake.in
  ${PROJECT_BINARY_DIR}/cmake/turboquant-config.cmake
  INSTALL_DESTINATION ${turboquant_package_dir})
write_basic_package_version_file(
  ${PROJECT_BINARY_DIR}/cmake/turboquant-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/cmake/turboquant-config.cmake
  ${PROJECT_BINARY_DIR}/cmake/turboquant-config-version.cmake
  DESTINATION ${turboquant_package_dir})
