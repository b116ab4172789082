# Evaluation and the command line: static libraries, so that tests call what the program runs.
add_library(turboquant_eval STATIC
  eval/attention_errors.cc eval/attention_workload.cc eval/baseline_method.cc eval/baselines.cc
  eval/cache_measure.cc eval/cache_spec.cc eval/decoded_attention.cc eval/head_cache.cc eval/logit_errors.cc
  eval/machine.cc eval/measure.cc eval/method.cc eval/method_names.cc eval/metrics.cc
  eval/position_row.cc eval/report.cc eval/report_attention.cc eval/report_caches.cc
  eval/report_methods.cc eval/report_real_models.cc eval/result_csv.cc eval/result_groups.cc eval/result_json.cc
  eval/real_model_table.cc eval/result_table.cc eval/svg_axis.cc eval/svg_captions.cc eval/svg_chart.cc
  eval/sweep.cc eval/sweep_table.cc eval/synthetic_workload.cc
  eval/theory.cc eval/trace_workload.cc eval/workload_methods.cc)
target_include_directories(turboquant_eval PUBLIC ${PROJECT_SOURCE_DIR})
# g++ 12 takes a moved-out std::expected for uninitialized.
target_compile_options(turboquant_eval PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
target_compile_definitions(turboquant_eval PRIVATE TURBOQUANT_VERSION="${PROJECT_VERSION}")
target_link_libraries(turboquant_eval PUBLIC turboquant
                      PRIVATE turboquant_flags fmt::fmt nlohmann_json::nlohmann_json)
turboquant_reuse_headers(turboquant_eval)

if(TARGET turboquant_onnx)
  add_library(turboquant_real_model STATIC
    onnx/layer_damage.cc onnx/model_measure.cc onnx/model_row.cc onnx/real_model_workload.cc)
  # As above.
  target_compile_options(turboquant_real_model PRIVATE
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_link_libraries(turboquant_real_model PUBLIC turboquant_onnx turboquant_eval
                        PRIVATE turboquant_flags)
  turboquant_reuse_headers(turboquant_real_model)
endif()

add_library(turboquant_cli_lib STATIC
  cli/backend_flag.cc cli/benchmark_choices.cc cli/benchmark_command.cc cli/builtin_prompts.cc
  cli/command_line.cc cli/decode_command.cc cli/supported_models.cc cli/sweep_files.cc
  cli/encode_command.cc cli/info_command.cc cli/inspect_command.cc cli/print_format.cc
  cli/tbb_parallel_for.cc cli/tensor_rows.cc cli/text_file.cc)
target_link_libraries(turboquant_cli_lib PUBLIC turboquant_eval
                      PRIVATE turboquant_flags CLI11::CLI11 fmt::fmt nlohmann_json::nlohmann_json
                              TBB::tbb)
turboquant_reuse_headers(turboquant_cli_lib)

if(TARGET turboquant_onnx)
  target_sources(turboquant_cli_lib PRIVATE cli/real_model_command.cc cli/real_model_files.cc)
  target_link_libraries(turboquant_cli_lib PRIVATE turboquant_real_model)
else()
  target_sources(turboquant_cli_lib PRIVATE cli/real_model_absent.cc)
endif()

if(TARGET turboquant_webgpu)
  target_sources(turboquant_cli_lib PRIVATE cli/webgpu_command.cc)
  # As above.
  set_source_files_properties(cli/webgpu_command.cc PROPERTIES
    COMPILE_OPTIONS "$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>")
  target_link_libraries(turboquant_cli_lib PRIVATE turboquant_webgpu)
else()
  target_sources(turboquant_cli_lib PRIVATE cli/webgpu_absent.cc)
endif()

if(TURBOQUANT_BUILD_CLI)
  add_executable(turboquant_cli cli/main.cc)
  target_link_libraries(turboquant_cli PRIVATE turboquant_cli_lib turboquant_flags)
  set_target_properties(turboquant_cli PROPERTIES
    OUTPUT_NAME turboquant RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
endif()
