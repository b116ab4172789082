// The kernel tables a test runs on: all that this CPU has.
#ifndef TURBOQUANT_TESTS_KERNELS_KERNEL_TABLES_H_
#define TURBOQUANT_TESTS_KERNELS_KERNEL_TABLES_H_

#include <string>
#include <vector>

#include "src/kernels/kernels.h"
#include "turboquant/backend.h"

namespace turboquant::kernels {

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
