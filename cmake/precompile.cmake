# What nearly every file includes, parsed once instead of by each of them: half of the time of a test
# file. Projects that embed this one, clang-tidy and the fuzzers' build compile without, so that an
# include that was forgotten is found.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(TURBOQUANT_PRECOMPILE_DEFAULT ${PROJECT_IS_TOP_LEVEL})
else()
  set(TURBOQUANT_PRECOMPILE_DEFAULT OFF)
endif()
option(TURBOQUANT_PRECOMPILE "Precompile the headers that nearly every file includes"
       ${TURBOQUANT_PRECOMPILE_DEFAULT})

# As target_precompile_headers.
function(turboquant_precompile target)
  if(NOT TURBOQUANT_PRECOMPILE)
    return()
  endif()
  target_precompile_headers(${target} ${ARGN})
  # With them, and CCACHE_SLOPPINESS as scripts/test sets it, ccache keeps what was compiled.
  target_compile_options(${target} PRIVATE
    $<IF:$<CXX_COMPILER_ID:GNU>,-fpch-preprocess,SHELL:-Xclang -fno-pch-timestamp>)
endfunction()

# The same headers for all targets with one `kind` of options: precompiled by the first, used by
# those after it.
function(turboquant_precompile_as kind target)
  get_property(first GLOBAL PROPERTY turboquant_headers_${kind})
  if(first)
    turboquant_precompile(${target} REUSE_FROM ${first})
  else()
    set_property(GLOBAL PROPERTY turboquant_headers_${kind} ${target})
    turboquant_precompile(${target} PRIVATE ${ARGN})
  endif()
endfunction()
