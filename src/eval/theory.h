// What the mathematics predicts for rows that a random rotation has made uniform on the sphere
// (docs/algorithm.md), to stand beside what was measured.
#ifndef TURBOQUANT_SRC_EVAL_THEORY_H_
#define TURBOQUANT_SRC_EVAL_THEORY_H_

#include <cstddef>

#include "turboquant/codebook.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/qjl.h"

namespace turboquant::eval {

// No code of `bits` bits per coordinate has a smaller NMSE (Shannon): 4^-bits.
double ShannonNmse(double bits);

// The paper's upper bound for TurboQuant-MSE: sqrt(3) pi / 2 · 4^-bits.
double PaperBoundNmse(double bits);

// Expected squared error of the codebook on the sphere of its own dim, whatever density it was made
// for. Equals Codebook::Distortion() where that is the sphere; for the Gaussian codebooks (64 dims
// and more) it is what a measurement at that dim converges to, one or two percent lower.
double SphereDistortion(const Codebook& codebook);

// Expected squared sine of the angle between a direction and its centroid vector: what is left when
// each row may rescale its centroids. Below SphereDistortion() by a few parts in dim, and exact up
// to the next order in 1/dim.
double SphereAngularDistortion(const Codebook& codebook);

// NMSE of rows under each stored scale and without scale search (which lies below).
double ScaledNmse(const Codebook& codebook, Scale scale);

// NMSE of |r|-scaled sign sketches as reconstructions: pi/2 - 1 at sketch_rows = dim for large dim
// and orthogonal rows. Exact for kGaussian, and for kOrthogonal when dim divides sketch_rows.
double SketchNmse(size_t dim, size_t sketch_rows, SketchKind kind);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_THEORY_H_
