// The kernel tables a test runs on: all that this CPU has.
#ifndef TURBOQUANT_TESTS_KERNELS_KERNEL_TABLES_H_
#define TURBOQUANT_TESTS_KERNELS_KERNEL_TABLES_H_

#include <cstddef>
#include <string>
#include <vector>

#include "src/kernels/kernels.h"
#include "turboquant/backend.h"

namespace turboquant::kernels {

// Around every vector width in use, and the dims of real models.
inline const std::vector<size_t> kDims = {2,   3,   4,    5,    7,    8,    9,    15,  16,  17,
                                          31,  32,  33,   47,   48,   63,   64,   65,  80,  96,
                                          97,  112, 127,  128,  129,  160,  192,  255, 256, 257,
                                          384, 576, 1023, 1024, 1536, 2048, 2049, 4100};

// AVX-512 kernels on an emulation of its instructions, or null where they were not built; set by
// emulated_avx512.cc.
const KernelTable* EmulatedAvx512Kernels();

inline std::vector<const KernelTable*> TestedTables() {
  std::vector<const KernelTable*> tables;
  for (const Backend backend :
       {Backend::kScalar, Backend::kAvx2, Backend::kNeon, Backend::kAvx512, Backend::kAmx}) {
    if (const KernelTable* table = FindKernels(backend)) tables.push_back(table);
  }
  if (const KernelTable* table = EmulatedAvx512Kernels()) tables.push_back(table);
  return tables;
}

inline std::string TableName(const KernelTable& table) {
  return (&table == EmulatedAvx512Kernels() ? "emulated_" : "") +
         std::string(BackendName(table.backend));
}

}  // namespace turboquant::kernels

#endif  // TURBOQUANT_TESTS_KERNELS_KERNEL_TABLES_H_
