# Tests that are not GoogleTest programs: the rules of the house, and the installed package.

if(Python3_Interpreter_FOUND)
  add_test(NAME layers
           COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/scripts/check_layers.py)
  file(GLOB check_tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/check/*_test.py)
  foreach(check_test ${check_tests})
    get_filename_component(name ${check_test} NAME_WE)
    add_test(NAME check.${name} COMMAND ${Python3_EXECUTABLE} -B ${check_test})
    set_tests_properties(check.${name} PROPERTIES LABELS check)
  endforeach()
  set_tests_properties(layers PROPERTIES LABELS check)

  # Runs behind all GoogleTest programs and reads what they report: a skip that
  # tests/allowed_skips.txt does not name fails.
  get_property(gtest_tests GLOBAL PROPERTY turboquant_gtest_tests)
  add_test(NAME allowed_skips
           COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/scripts/check_skips.py
                   --allowed ${CMAKE_CURRENT_SOURCE_DIR}/allowed_skips.txt ${turboquant_test_results})
  set_tests_properties(allowed_skips PROPERTIES DEPENDS "${gtest_tests}")
  # It belongs to every label, so that no choice of tests leaves it out.
  file(GLOB labels RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/*)
  list(FILTER labels EXCLUDE REGEX "\\.")
  set_tests_properties(allowed_skips PROPERTIES LABELS "${labels}")
else()
  message(WARNING "python3 not found, so the layer and skip checks are left out (scripts/setup test)")
endif()

# A consumer of the installed package links neither sanitizers nor coverage, and is not run under an
# emulator.
if(TURBOQUANT_SANITIZE OR CMAKE_CROSSCOMPILING OR CMAKE_CXX_FLAGS MATCHES "--coverage")
  message(STATUS "The install test is left out of instrumented and cross builds")
else()
  set(decoder_source)
  if(TARGET turboquant_onnx AND TURBOQUANT_BUILD_EXAMPLES)  # which make the decoder's folder
    set(decoder_source ${PROJECT_SOURCE_DIR}/examples/decoder.cc)
  endif()
  add_test(NAME install
           COMMAND ${CMAKE_COMMAND}
                   -D BUILD_DIR=${PROJECT_BINARY_DIR}
                   -D WORK_DIR=${PROJECT_BINARY_DIR}/install-test
                   -D COMPILER=${CMAKE_CXX_COMPILER}
                   -D GENERATOR=${CMAKE_GENERATOR}
                   -D DECODER_SOURCE=${decoder_source}
                   -D BUNDLE=${PROJECT_BINARY_DIR}/examples/tiny
                   -P ${CMAKE_CURRENT_SOURCE_DIR}/install/run.cmake)
  set_tests_properties(install PROPERTIES LABELS install TIMEOUT 600)
endif()
