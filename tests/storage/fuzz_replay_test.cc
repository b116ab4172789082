// The fuzz targets without a fuzzer: over their corpora, and over every prefix and every change of
// one byte of small valid files. A target traps when something it requires does not hold.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

// Each target defines the function that libFuzzer calls; here it gets a name of its own.
#define LLVMFuzzerTestOneInput SafetensorsTarget
namespace safetensors_fuzzer {
#include "fuzz/safetensors_fuzzer.cc"
}
#undef LLVMFuzzerTestOneInput
