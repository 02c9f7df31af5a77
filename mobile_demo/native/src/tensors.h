// Named tensors and the safetensors files that hold them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "json.h"

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

  template <typename T>
  static Tensor of(Shape shape, const std::vector<T>& values) {
    Tensor tensor(dtype_for<T>(), std::move(shape));
    if (tensor.data.size() != values.size() * sizeof(T)) throw Error("wrong count of values");
    std::memcpy(tensor.data.data(), values.data(), tensor.data.size());
    return tensor;
  }
  static Tensor scalar(float value) { return of<float>({1}, {value}); }

  // The elements; refuses a tensor of another dtype.
  template <typename T>
  std::vector<T> values() const {
    expect(dtype_for<T>());
    std::vector<T> values(data.size() / sizeof(T));
    std::memcpy(values.data(), data.data(), data.size());
    return values;
  }

 private:
  template <typename T>
  static constexpr DType dtype_for() {
    if constexpr (std::is_same_v<T, float>) return DType::f32;
    else if constexpr (std::is_same_v<T, double>) return DType::f64;
    else if constexpr (std::is_same_v<T, int64_t>) return DType::i64;
    else if constexpr (std::is_same_v<T, int32_t>) return DType::i32;
    else return DType::u8;
  }
  void expect(DType wanted) const;
};

// A tensor that something else holds.
struct View {
  DType dtype;
  const Shape* shape;
  const std::byte* data;
  size_t size;  // in bytes

  // The first element; refuses another dtype than float32.
  float first() const;
};

using Tensors = std::map<std::string, Tensor>;
using Views = std::map<std::string, View>;
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
using TensorList = std::vector<std::pair<std::string, const Tensor*>>;
using Metadata = std::map<std::string, std::string>;

TensorList list_of(const NamedTensors& tensors);

struct TensorFile {
  NamedTensors tensors;  // in file order
  Metadata metadata;
};

// Reads a file and refuses overlap, holes, unknown dtypes, wrong counts, NaN and Inf.
TensorFile read_tensor_file(const std::filesystem::path& path);
Tensors read_tensors(const std::filesystem::path& path);

View view_of(const Tensor& tensor);
bool is_finite(const View& view);
void copy(const View& view, Tensor& tensor);

// Writes tensors in the given order: sorted header keys, data aligned to 64 bytes,
// atomically. The same tensors are the same bytes in every language.
void write_tensors(const std::filesystem::path& path, const TensorList& tensors,
                   const Metadata& metadata);

// Whole file as text; refuses files above `limit` bytes.
std::string read_text(const std::filesystem::path& path, uint64_t limit);

}  // namespace effine
