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

// AVX-512 and AMX kernels compiled against an emulation of their instructions, or null where they
// were not built; set by emulated_avx512.cc and emulated_amx.cc.
const KernelTable* EmulatedAvx512Kernels();
const KernelTable* EmulatedAmxKernels();

// The AMX kernels of the library on a CPU that has AVX-512 but no AMX, whose tile instructions a
// signal handler does; null elsewhere. Of trapped_amx.cc.
const KernelTable* TrappedAmxKernels();

// The AMX kernels among TestedTables, each once.
inline std::vector<const KernelTable*> TestedAmxTables() {
  std::vector<const KernelTable*> tables;
  for (const KernelTable* table :
       {FindKernels(Backend::kAmx), TrappedAmxKernels(), EmulatedAmxKernels()}) {
    if (table != nullptr) tables.push_back(table);
  }
  return tables;
}

inline std::vector<const KernelTable*> TestedTables() {
  std::vector<const KernelTable*> tables;
  for (const Backend backend :
       {Backend::kScalar, Backend::kAvx2, Backend::kNeon, Backend::kAvx512}) {
    if (const KernelTable* table = FindKernels(backend)) tables.push_back(table);
  }
  if (const KernelTable* table = EmulatedAvx512Kernels()) tables.push_back(table);
  for (const KernelTable* table : TestedAmxTables()) tables.push_back(table);
  return tables;
}

inline std::string TableName(const KernelTable& table) {
  const bool emulated = &table == EmulatedAvx512Kernels() || &table == EmulatedAmxKernels();
  const bool trapped = &table == TrappedAmxKernels();
  return (emulated  ? "emulated_"
          : trapped ? "trapped_"
                    : "") +
         std::string(BackendName(table.backend));
}

}  // namespace turboquant::kernels

#endif  // TURBOQUANT_TESTS_KERNELS_KERNEL_TABLES_H_
