// One shape for everything the benchmark compares: how rows are kept, whatever the method.
#ifndef TURBOQUANT_SRC_EVAL_METHOD_H_
#define TURBOQUANT_SRC_EVAL_METHOD_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/backend.h"
#include "turboquant/error.h"
#include "turboquant/matrix_view.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/parallel_for.h"
#include "turboquant/prod_quantizer.h"

namespace turboquant::eval {

// Rows kept by one method. Not thread-safe; a failed call leaves what was kept before.
class RowMethod {
 public:
  virtual ~RowMethod() = default;

  // Encodes rows [n × dim] in place of those kept so far.
  [[nodiscard]] virtual Result<void> Encode(MatrixView<const float> rows,
                                            const ParallelFor& parallel_for) = 0;
  // out [n × dim].
  [[nodiscard]] virtual Result<void> Decode(MatrixView<float> out,
                                            const ParallelFor& parallel_for) const = 0;
  // Queries [q × dim] in place of those prepared so far.
  [[nodiscard]] virtual Result<void> Prepare(MatrixView<const float> queries) = 0;
  // scores [q × n]: estimates of <query, row>.
  [[nodiscard]] virtual Result<void> Score(MatrixView<float> scores,
                                           const ParallelFor& parallel_for) const = 0;

  // Everything a file keeps per row (codes, scales, signs, norms), in bits per coordinate.
  virtual double BitsPerCoordinate() const = 0;

  // NMSE of the reconstruction on uniform directions, without scale search; none where there is no
  // formula.
  virtual std::optional<double> TheoryNmse() const = 0;

  // Which kernels ran: a backend's name, "plain" for C++ loops without a SIMD target, or "wgpu".
  virtual std::string_view Target() const = 0;

  // The GPU that ran them, empty on the CPU.
  virtual std::string_view Adapter() const { return {}; }
};

enum class MethodKind {
  kMse,
  kOutlier,  // outlier split, bits 2.5 and 3.5
  kProd,
  kQjl,
  kPolar,
  kInt8,
  kInt8Hadamard,
  kQ80,
  kQ80Hadamard,
  kQ40,
  kQ40Hadamard,
  kFp8,
};

// Which of a method's choices are made.
enum class Policy {
  kDefault,   // the library's: unbiased scale, scale search, Hadamard rotation, orthogonal sketch
  kNoSearch,  // the same without scale search
  kPaper,     // the papers': scale = norm, no search, dense rotation, Gaussian sketch
};

struct MethodSpec {
  MethodKind kind = MethodKind::kMse;
  double bits = 4;  // nominal; BitsPerCoordinate() has the truth
  Policy policy = Policy::kDefault;

  bool operator==(const MethodSpec&) const = default;
};

// Every kind, in the order of the enumeration.
std::vector<MethodKind> AllMethods();

std::string_view MethodName(MethodKind kind);
std::string_view PolicyName(Policy policy);  // "default", "no-search", "paper"

// Errors: kInvalidArgument listing the known names.
[[nodiscard]] Result<MethodKind> ParseMethod(std::string_view name);
[[nodiscard]] Result<Policy> ParsePolicy(std::string_view name);

// Plain formats that others use, not TurboQuant's.
bool IsBaseline(MethodKind kind);

// Of a method that has one rate only; 0 of the others.
double FixedBits(MethodKind kind);

// Estimates inner products only: too noisy to sum as values, which the MSE quantizer keeps instead.
bool IsSketch(MethodKind kind);

// What keeps the values beside keys kept by `keys`: the same method, or MSE at the same width.
MethodSpec ValueMethod(const MethodSpec& keys);

// Every combination to run. Methods of one fixed rate (polar and the baselines) appear once,
// whatever `bits` says; a policy that a method has no choice for counts as its default. kMse with a
// width of 2.5 or 3.5 means kOutlier. Duplicates are dropped. Empty `methods`: all of them.
enum class MissingWidth {
  kError,  // kInvalidArgument naming the method and the width that it has not
  kDrop,   // widths that a method has not do not apply to it
};
// Errors also: kInvalidArgument when nothing is left.
[[nodiscard]] Result<std::vector<MethodSpec>> ExpandMethods(std::span<const MethodKind> methods,
                                                            std::span<const double> bits,
                                                            std::span<const Policy> policies,
                                                            MissingWidth missing);

struct MethodContext;
// Makes methods where MakeRowMethod does not, e.g. on a GPU. Errors: as MakeRowMethod; kUnsupported
// for a method it has not.
using MethodMaker = std::function<Result<std::unique_ptr<RowMethod>>(const MethodSpec& spec,
                                                                     const MethodContext& context)>;

struct MethodContext {
  size_t dim = 0;
  uint64_t seed = 42;
  bool values = false;  // values draw from another random stream than keys
  Backend backend = Backend::kAuto;
  MethodMaker maker = {};  // empty: the CPU's own
};

// The quantizers behind kMse and kProd of whole bits.
MseOptions MseOptionsOf(const MethodSpec& spec, const MethodContext& context);
ProdOptions ProdOptionsOf(const MethodSpec& spec, const MethodContext& context);

// NMSE that they have by theory, as RowMethod::TheoryNmse.
double TheoryNmseOf(const MseQuantizer& quantizer);
double TheoryNmseOf(const ProdQuantizer& quantizer);

// Errors: those of the quantizer's Create; kInvalidArgument for a width the method has not.
[[nodiscard]] Result<std::unique_ptr<RowMethod>> MakeRowMethod(const MethodSpec& spec,
                                                               const MethodContext& context);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_METHOD_H_
