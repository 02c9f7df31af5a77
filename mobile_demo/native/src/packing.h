// Features as the cache stores them: valid tokens only, in fp32, fp16 or int8, in the form that
// runtime_py/effine/runtime/packing.py describes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "artifact.h"
#include "tensors.h"

namespace effine {

// Whether a precision is fp32, fp16 or int8.
bool is_cache_precision(const std::string& name);

// Rows of floats and their stored form; `count` is the number of rows.
std::string encode(const std::vector<float>& rows, size_t count, const std::string& precision);
std::vector<float> decode(const std::string& payload, size_t count, const std::string& precision);

class Packing {
 public:
  // Refuses an unknown precision.
  Packing(const Artifact& artifact, std::string precision);

  const std::string& precision() const { return precision_; }
  // The payload for features at batch 1 of a sample with so many tokens.
  std::string pack(const Tensors& features, int64_t tokens) const;
  // The rows [N, d] of each feature, N being `tokens` or 1.
  Tensors unpack(const std::string& payload, int64_t tokens) const;
  // Bytes of the payload of a sample with so many tokens.
  size_t size(int64_t tokens) const;

 private:
  const std::vector<Value>& features(int64_t tokens) const;

  const Artifact* artifact_;
  std::string precision_;
};

}  // namespace effine
