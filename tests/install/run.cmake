# Installs the build into an empty prefix, then configures, builds and runs a project that knows
# nothing but that prefix.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  # 77: the example's word for a machine without ONNX Runtime's library.
  if(NOT status EQUAL 0 AND NOT status EQUAL 77)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}\nfailed (${status}):\n${output}")
  endif()
  message(STATUS "${output}")
endfunction()

file(REMOVE_RECURSE ${WORK_DIR})
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR}/prefix)
run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${WORK_DIR}/build -G ${GENERATOR}
    -D CMAKE_CXX_COMPILER=${COMPILER} -D CMAKE_BUILD_TYPE=Release
    -D CMAKE_PREFIX_PATH=${WORK_DIR}/prefix -D CMAKE_FIND_USE_PACKAGE_REGISTRY=OFF
    -D DECODER_SOURCE=${DECODER_SOURCE})
run(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
run(${WORK_DIR}/build/consumer)
if(DECODER_SOURCE)
  run(${WORK_DIR}/build/decoder ${BUNDLE} "The cache keeps keys")
endif()
