# What `cmake --install` copies, and the package that find_package(turboquant) finds.
include(CMakePackageConfigHelpers)

set(turboquant_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/turboquant)

install(TARGETS turboquant EXPORT turboquant-targets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/turboquant
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h"
        PATTERN onnx EXCLUDE    # turboquant_onnx and turboquant_webgpu are not in the package
        PATTERN webgpu EXCLUDE)
install(EXPORT turboquant-targets NAMESPACE turboquant::
        DESTINATION ${turboquant_package_dir})
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
