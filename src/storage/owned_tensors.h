// Tensors that are made for a file, with their bytes.
#ifndef TURBOQUANT_SRC_STORAGE_OWNED_TENSORS_H_
#define TURBOQUANT_SRC_STORAGE_OWNED_TENSORS_H_

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "turboquant/safetensors.h"

namespace turboquant {

class OwnedTensors {
 public:
  // Zeroes to be filled in; they stay where they are.
  std::span<std::byte> Add(std::string name, TensorType type, std::vector<size_t> shape) {
    size_t size = TensorTypeBytes(type);
    for (const size_t axis : shape) size *= axis;
    std::vector<std::byte>& bytes = owned_->emplace_back(size);
    tensors_.push_back({std::move(name), type, std::move(shape), bytes});
    return bytes;
  }

  // A copy of elements of the type.
  template <class T>
  void AddElements(std::string name, TensorType type, std::vector<size_t> shape,
                   std::span<const T> elements) {
    std::ranges::copy(std::as_bytes(elements),
                      Add(std::move(name), type, std::move(shape)).begin());
  }

  const std::vector<TensorView>& views() const { return tensors_; }
  // Keeps the bytes alive.
  std::shared_ptr<const void> owner() const { return owned_; }

 private:
  std::vector<TensorView> tensors_;
  // Growing moves the inner vectors and leaves their bytes in place.
  std::shared_ptr<std::vector<std::vector<std::byte>>> owned_ =
      std::make_shared<std::vector<std::vector<std::byte>>>();
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_STORAGE_OWNED_TENSORS_H_
