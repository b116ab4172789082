// C interface of lib.rs.
#ifndef TURBOQUANT_SRC_ONNX_TOKENIZER_TOKENIZER_C_H_
#define TURBOQUANT_SRC_ONNX_TOKENIZER_TOKENIZER_C_H_

#include <cstddef>
#include <cstdint>

extern "C" {

struct TqTokenizer;

// Null on failure, with at most error_capacity bytes of the reason, whose whole length is
// *error_size. No pointer may be null, whatever the size beside it.
TqTokenizer* tq_tokenizer_load(const uint8_t* json, size_t size, uint8_t* error,
                               size_t error_capacity, size_t* error_size);

// One more than the largest token id, added tokens included.
size_t tq_tokenizer_vocabulary(const TqTokenizer* tokenizer);

// Both write what there is room for and return the whole length: of ids, or of UTF-8 bytes.
// -1: the text is not UTF-8; -2: the tokenizer fails.
ptrdiff_t tq_tokenizer_encode(const TqTokenizer* tokenizer, const uint8_t* text, size_t size,
                              bool special, uint32_t* ids, size_t capacity);
ptrdiff_t tq_tokenizer_decode(const TqTokenizer* tokenizer, const uint32_t* ids, size_t count,
                              bool skip_special, uint8_t* text, size_t capacity);

void tq_tokenizer_free(TqTokenizer* tokenizer);

}  // extern "C"

#endif  // TURBOQUANT_SRC_ONNX_TOKENIZER_TOKENIZER_C_H_
