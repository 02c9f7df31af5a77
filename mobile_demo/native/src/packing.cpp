#include "packing.h"

#include <executorch/runtime/core/portable_type/half.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace effine {
namespace {

using executorch::runtime::etensor::Half;

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

template <typename T>
std::vector<T> values_of(const std::string& bytes, size_t start, size_t count) {
  std::vector<T> values(count);
  std::memcpy(static_cast<void*>(values.data()), bytes.data() + start, count * sizeof(T));
  return values;
}

// The largest magnitude / 127; NaN or Inf if a value isn't finite.
float scale_of(const float* row, size_t width) {
  float largest = 0;
  for (size_t i = 0; i < width; ++i) {
    if (!std::isfinite(row[i])) return std::fabs(row[i]);
    largest = std::max(largest, std::fabs(row[i]));
  }
  return largest / 127;
}

std::string encode_int8(const std::vector<float>& rows, size_t count) {
  const size_t width = rows.size() / count;
  std::vector<float> scales(count);
  std::vector<int8_t> values(rows.size());
  for (size_t row = 0; row < count; ++row) {
    const float scale = scales[row] = scale_of(&rows[row * width], width);
    if (!std::isfinite(scale) || scale == 0) continue;
    for (size_t i = row * width; i < (row + 1) * width; ++i) {
      values[i] = int8_t(std::clamp(std::nearbyint(rows[i] / scale), -127.0F, 127.0F));
    }
  }
  return bytes_of(scales) + bytes_of(values);
}

std::vector<float> decode_int8(const std::string& payload, size_t count) {
  const auto scales = values_of<float>(payload, 0, count);
  const size_t start = count * sizeof(float), size = payload.size() - start;
  const auto values = values_of<int8_t>(payload, start, size);
  std::vector<float> rows(size);
  for (size_t i = 0; i < size; ++i) rows[i] = float(values[i]) * scales[i / (size / count)];
  return rows;
}

size_t encoded_size(size_t count, size_t width, const std::string& precision) {
  if (precision == "int8") return count * (sizeof(float) + width);
  return count * width * (precision == "fp16" ? sizeof(Half) : sizeof(float));
}

size_t rows_of(const Value& value, int64_t tokens) {
  return value.shape.size() == 3 ? size_t(tokens) : 1;
}

size_t width_of(const Value& value) { return size_t(value.shape.back()); }

}  // namespace

bool is_cache_precision(const std::string& name) {
  return name == "fp32" || name == "fp16" || name == "int8";
}

std::string encode(const std::vector<float>& rows, size_t count, const std::string& precision) {
  if (precision == "int8") return encode_int8(rows, count);
  if (precision == "fp16") return bytes_of(std::vector<Half>(rows.begin(), rows.end()));
  return bytes_of(rows);
}

std::vector<float> decode(const std::string& payload, size_t count, const std::string& precision) {
  if (precision == "int8") return decode_int8(payload, count);
  if (precision == "fp32") return values_of<float>(payload, 0, payload.size() / sizeof(float));
  const auto halves = values_of<Half>(payload, 0, payload.size() / sizeof(Half));
  return {halves.begin(), halves.end()};
}

Packing::Packing(const Artifact& artifact, std::string precision)
    : artifact_(&artifact), precision_(std::move(precision)) {
  if (is_cache_precision(precision_)) return;
  throw Error("cache precision " + precision_ + " is unknown; use fp32, fp16 or int8");
}

std::string Packing::pack(const Tensors& features, int64_t tokens) const {
  std::string payload;
  for (const Value& value : this->features(tokens)) {
    std::vector<float> values = features.at(value.name).values<float>();
    const size_t rows = rows_of(value, tokens);
    values.resize(rows * width_of(value));
    payload += encode(values, rows, precision_);
  }
  return payload;
}

Tensors Packing::unpack(const std::string& payload, int64_t tokens) const {
  Tensors features;
  size_t start = 0;
  for (const Value& value : this->features(tokens)) {
    const size_t rows = rows_of(value, tokens), width = width_of(value);
    const size_t size = encoded_size(rows, width, precision_);
    features[value.name] = Tensor::of<float>(
        {int64_t(rows), int64_t(width)}, decode(payload.substr(start, size), rows, precision_));
    start += size;
  }
  return features;
}

size_t Packing::size(int64_t tokens) const {
  size_t size = 0;
  for (const Value& value : features(tokens)) {
    size += encoded_size(rows_of(value, tokens), width_of(value), precision_);
  }
  return size;
}

const std::vector<Value>& Packing::features(int64_t tokens) const {
  return artifact_->method("backbone", artifact_->first_phase(), 1,
                            artifact_->seq_for(tokens)).outputs;
}

}  // namespace effine
