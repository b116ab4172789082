# What nearly every file includes, parsed once by g++ instead of by each of them: half of the time
# of a test file. clang, whose builds are checked as well, and projects that embed this one compile
# without, so that an include that was forgotten is found.
# As target_precompile_headers.
function(turboquant_precompile target)
  if(NOT PROJECT_IS_TOP_LEVEL OR NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    return()
  endif()
  target_precompile_headers(${target} ${ARGN})
  # With it, and CCACHE_SLOPPINESS as scripts/test sets it, ccache keeps what was compiled.
  target_compile_options(${target} PRIVATE -fpch-preprocess)
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
