#include "tensors.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <system_error>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor files are little-endian");

namespace effine {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr size_t kAlignment = 64;
constexpr size_t kMaxRank = 8;
constexpr int64_t kMaxElements = 1'000'000'000;
constexpr const char* kMetadata = "__metadata__";

struct DTypeNames {
  const char* safetensors;
  const char* numpy;
  size_t size;
};
constexpr std::array<DTypeNames, 5> kDTypes{{{"F32", "float32", 4},
                                             {"F64", "float64", 8},
                                             {"I64", "int64", 8},
                                             {"I32", "int32", 4},
                                             {"U8", "uint8", 1}}};

const DTypeNames& names_of(DType dtype) { return kDTypes[static_cast<size_t>(dtype)]; }

DType find_dtype(const std::string& name, const char* DTypeNames::*spelling) {
  for (size_t i = 0; i < kDTypes.size(); ++i) {
    if (name == kDTypes[i].*spelling) return static_cast<DType>(i);
  }
  throw Error("unknown dtype " + name);
}

template <typename T>
bool all_finite(const View& view) {
  for (size_t i = 0; i < view.size; i += sizeof(T)) {
    T value;
    std::memcpy(&value, view.data + i, sizeof(T));
    if (!std::isfinite(value)) return false;
  }
  return true;
}

void check_finite(const std::string& name, const Tensor& tensor) {
  if (!is_finite(view_of(tensor))) throw Error("tensor " + name + " holds NaN or Inf");
}

struct Entry {
  uint64_t begin, end;
  std::string name;
  Tensor tensor;
};

Entry parse_entry(const std::string& name, const Json& json) {
  const auto& offsets = json.at("data_offsets").array();
  if (name.empty() || offsets.size() != 2 || json.object().size() != 3) {
    throw Error("tensor " + name + " is not described by dtype, shape and two offsets");
  }
  const int64_t begin = offsets[0].integer(), end = offsets[1].integer();
  Shape shape;
  for (const Json& size : json.at("shape").array()) shape.push_back(size.integer());
  const DType dtype = find_dtype(json.at("dtype").string(), &DTypeNames::safetensors);
  if (begin < 0 || end < begin || uint64_t(end - begin) != count(shape) * size_of(dtype)) {
    throw Error("tensor " + name + " has a size other than its shape");
  }
  Entry entry{uint64_t(begin), uint64_t(end), name, {}};
  entry.tensor.dtype = dtype;
  entry.tensor.shape = std::move(shape);
  return entry;
}

Metadata parse_metadata(const Json& header) {
  Metadata metadata;
  const auto found = header.object().find(kMetadata);
  if (found == header.object().end()) return metadata;
  for (const auto& [key, value] : found->second.object()) metadata[key] = value.string();
  return metadata;
}

// The entries in file order, proven to cover the data section exactly.
std::vector<Entry> parse_header(const Json& header, uint64_t data_size) {
  std::vector<Entry> entries;
  for (const auto& [name, json] : header.object()) {
    if (name != kMetadata) entries.push_back(parse_entry(name, json));
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t end = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != end) throw Error("a hole or overlap before tensor " + entry.name);
    end = entry.end;
  }
  if (end != data_size) throw Error("the data section has another size than its tensors");
  return entries;
}

TensorFile read(std::ifstream& file, uint64_t file_size) {
  uint64_t header_size = 0;
  file.read(reinterpret_cast<char*>(&header_size), sizeof header_size);
  if (!file || header_size > std::min(kMaxHeader, file_size - sizeof header_size)) {
    throw Error("the header has an impossible length");
  }
  std::string header(header_size, '\0');
  file.read(header.data(), static_cast<std::streamsize>(header_size));
  if (header.empty() || header.front() != '{') throw Error("the header isn't a JSON object");
  const Json table = Json::parse(header);
  TensorFile result;
  result.metadata = parse_metadata(table);
  for (Entry& entry : parse_header(table, file_size - 8 - header_size)) {
    entry.tensor.data.resize(entry.end - entry.begin);
    file.read(reinterpret_cast<char*>(entry.tensor.data.data()),
              static_cast<std::streamsize>(entry.tensor.data.size()));
    if (!file) throw Error("reading stopped early");
    check_finite(entry.name, entry.tensor);
    result.tensors.emplace_back(std::move(entry.name), std::move(entry.tensor));
  }
  return result;
}

std::string joined(const Shape& shape) {
  std::string result;
  for (const int64_t size : shape) result += (result.empty() ? "" : ",") + std::to_string(size);
  return "[" + result + "]";
}

std::string make_header(const TensorList& tensors, const Metadata& metadata) {
  Json::Object table;
  if (!metadata.empty()) {
    table[kMetadata] = Json::Object(metadata.begin(), metadata.end());
  }
  size_t end = 0;
  for (const auto& [name, tensor] : tensors) {
    check_finite(name, *tensor);
    const size_t begin = std::exchange(end, end + tensor->data.size());
    table[name] = Json::Object{
        {"data_offsets", Json::Array{begin, end}},
        {"dtype", names_of(tensor->dtype).safetensors},
        {"shape", Json::Array(tensor->shape.begin(), tensor->shape.end())}};
  }
  std::string header = Json(table).canonical();
  const size_t used = (sizeof(uint64_t) + header.size()) % kAlignment;
  header.append((kAlignment - used) % kAlignment, ' ');
  return header;
}

// Makes what was written so far durable, or says why it can't be.
void sync(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY);
  const bool synced = descriptor >= 0 && ::fsync(descriptor) == 0;
  const int problem = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (!synced) throw std::system_error(problem, std::generic_category(), path.string());
}

void write_all(const fs::path& path, const std::string& header,
               const TensorList& tensors) {
  const uint64_t header_size = header.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&header_size), sizeof header_size);
  file.write(header.data(), static_cast<std::streamsize>(header.size()));
  for (const auto& [name, tensor] : tensors) {
    file.write(reinterpret_cast<const char*>(tensor->data.data()),
               static_cast<std::streamsize>(tensor->data.size()));
  }
  file.close();
  if (!file) throw std::system_error(errno, std::generic_category());
  sync(path);
}

}  // namespace

size_t size_of(DType dtype) { return names_of(dtype).size; }

DType dtype_of(const std::string& name) { return find_dtype(name, &DTypeNames::numpy); }

size_t count(const Shape& shape) {
  bool sane = shape.size() <= kMaxRank;
  int64_t product = 1;
  for (const int64_t size : shape) {
    sane = sane && size > 0 && size <= kMaxElements && (product *= size) <= kMaxElements;
  }
  if (!sane) throw Error("absurd shape " + joined(shape));
  return static_cast<size_t>(product);
}

std::string describe(DType dtype, const Shape& shape) {
  return names_of(dtype).numpy + joined(shape);
}

void Tensor::expect(DType wanted) const {
  if (dtype == wanted) return;
  throw Error(std::string("expected ") + names_of(wanted).numpy + ", found " +
              describe(dtype, shape));
}

float View::first() const {
  if (dtype != DType::f32 || size < sizeof(float)) {
    throw Error("expected a float32, found " + describe(dtype, *shape));
  }
  float value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

View view_of(const Tensor& tensor) {
  return {tensor.dtype, &tensor.shape, tensor.data.data(), tensor.data.size()};
}

bool is_finite(const View& view) {
  return view.dtype == DType::f32   ? all_finite<float>(view)
         : view.dtype == DType::f64 ? all_finite<double>(view)
                                    : true;
}

void copy(const View& view, Tensor& tensor) {
  tensor.dtype = view.dtype;
  tensor.shape = *view.shape;
  tensor.data.assign(view.data, view.data + view.size);
}

TensorList list_of(const NamedTensors& tensors) {
  TensorList list;
  for (const auto& [name, tensor] : tensors) list.emplace_back(name, &tensor);
  return list;
}

TensorFile read_tensor_file(const fs::path& path) try {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error("can't be opened");
  return read(file, fs::file_size(path));
} catch (const std::exception& error) {
  throw Error(path.string() + ": not a usable tensor file: " + error.what());
}

Tensors read_tensors(const fs::path& path) {
  NamedTensors named = read_tensor_file(path).tensors;
  return {std::make_move_iterator(named.begin()), std::make_move_iterator(named.end())};
}

void write_tensors(const fs::path& path, const TensorList& tensors, const Metadata& metadata) {
  // Python's writer removes what a killed process left under such a name.
  fs::path temporary = path;
  temporary.replace_filename("." + path.filename().string() + "." +
                             std::to_string(::getpid()) + ".tmp");
  if (fs::exists(path) && !fs::is_regular_file(path)) {
    throw Error(path.string() + ": exists and isn't a file; choose another name");
  }
  try {
    write_all(temporary, make_header(tensors, metadata), tensors);
    fs::rename(temporary, path);
    sync(path.has_parent_path() ? path.parent_path() : ".");
  } catch (const std::exception& error) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw Error(path.string() + ": can't be written: " + error.what());
  }
}

std::string read_text(const fs::path& path, uint64_t limit) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(path.string() + ": can't be opened");
  if (fs::file_size(path) > limit) throw Error(path.string() + ": absurdly large");
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace effine
