// Named tensors and the safetensors files that hold them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace effine {

enum class DType { f32, f64, i64, i32, u8 };

size_t size_of(DType dtype);
// The dtype of a name as manifests write it, such as float32.
DType dtype_of(const std::string& numpy_name);

using Shape = std::vector<int64_t>;

// Number of elements; refuses sizes below 1, more than 8 of them and more than 1e9 elements.
size_t count(const Shape& shape);
// Such as float32[8,16].
std::string describe(DType dtype, const Shape& shape);

struct Tensor {
  DType dtype = DType::f32;
  Shape shape;
  std::vector<std::byte> data;

  Tensor() = default;
  Tensor(DType type, Shape sizes)
      : dtype(type), shape(std::move(sizes)), data(count(shape) * size_of(dtype)) {}

  static Tensor floats(Shape shape, const std::vector<float>& values);
  // The elements of a float32 tensor; refuses another dtype.
  std::vector<float> floats() const;
};

using Tensors = std::map<std::string, Tensor>;

// Reads a file and refuses overlap, holes, unknown dtypes, wrong counts, NaN and Inf.
Tensors read_tensors(const std::filesystem::path& path);

// Writes tensors in the given order: sorted header keys, data aligned to 64 bytes,
// atomically. The same tensors are the same bytes in every language.
void write_tensors(const std::filesystem::path& path,
                   const std::vector<std::pair<std::string, Tensor>>& tensors,
                   const std::map<std::string, std::string>& metadata);

// Whole file as text; refuses files above `limit` bytes.
std::string read_text(const std::filesystem::path& path, uint64_t limit);

}  // namespace effine
