#include "feature_cache.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "sha256.h"

namespace effine {
namespace {

namespace fs = std::filesystem;

const std::string kMagic = "EFFCACH1";
constexpr size_t kKeySize = 32, kRecordSize = kKeySize + 8;

uint32_t crc32(const std::string& bytes) {
  uint32_t crc = UINT32_MAX;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
  }
  return ~crc;
}

std::string bytes_of(const std::string& digits) {
  std::string bytes;
  for (size_t i = 0; i < digits.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

// Identifies the backbone program with all values it reads.
std::string program_key(const Artifact& artifact) {
  const std::string files = bytes_of(artifact.sha256_of("backbone.pte")) +
                            bytes_of(artifact.sha256_of("backbone.ptd"));
  Sha256 hash;
  hash.update(files.data(), files.size());
  return hash.digest();
}

std::string packed(uint32_t number) {
  return {reinterpret_cast<const char*>(&number), sizeof number};
}

uint32_t unpacked(const std::string& bytes, size_t at) {
  uint32_t number;
  std::memcpy(&number, &bytes.at(at), sizeof number);
  return number;
}

std::string read_at(std::fstream& file, uint64_t position, size_t size) {
  std::string bytes(size, '\0');
  file.clear();
  file.seekg(static_cast<std::streamoff>(position));
  file.read(bytes.data(), static_cast<std::streamsize>(size));
  return file ? bytes : "";
}

}  // namespace

FeatureCache::FeatureCache(const fs::path& path, const Artifact& artifact) try
    : artifact_(artifact) {
  open(path, kMagic + program_key(artifact));
  scan(path);
} catch (const fs::filesystem_error& error) {
  throw Error(path.string() + ": can't be a feature cache: " + error.code().message());
}

std::optional<Tensors> FeatureCache::get(const std::string& sample) {
  const auto found = places_.find(sample);
  if (found == places_.end()) return std::nullopt;
  const auto [position, seq] = found->second;
  const std::string record = read_at(file_, position - kRecordSize, kRecordSize + payload_size(seq));
  const std::string payload = record.empty() ? "" : record.substr(kRecordSize);
  if (payload.empty() || unpacked(record, kKeySize + 4) != crc32(payload)) {
    places_.erase(found);
    return std::nullopt;
  }
  Tensors features;
  size_t begin = 0;
  for (const Value& value : outputs(seq)) {
    Tensor& tensor = features[value.name] = Tensor(value.dtype, value.shape);
    std::memcpy(tensor.data.data(), &payload[begin], tensor.data.size());
    begin += tensor.data.size();
  }
  return features;
}

void FeatureCache::put(const std::string& sample, int64_t seq, const Tensors& features) {
  std::string payload;
  for (const Value& value : outputs(seq)) {
    const auto& data = features.at(value.name).data;
    payload.append(reinterpret_cast<const char*>(data.data()), data.size());
  }
  const std::string record = sample + packed(uint32_t(seq)) + packed(crc32(payload)) + payload;
  if (size_ + record.size() > bound_) {
    ++refused;
    return;
  }
  file_.clear();
  file_.seekp(static_cast<std::streamoff>(size_));
  file_.write(record.data(), static_cast<std::streamsize>(record.size()));
  if (!file_.flush()) {
    bound_ = size_;
    ++refused;
    return;
  }
  places_[sample] = {size_ + kRecordSize, seq};
  size_ += record.size();
}

std::string FeatureCache::key(const Tensors& tokens) {
  Sha256 hash;
  for (const auto& [name, tensor] : tokens) {
    hash.update(name.data(), name.size());
    hash.update(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  }
  return hash.digest();
}

void FeatureCache::open(const fs::path& path, const std::string& start) {
  if (path.has_parent_path()) fs::create_directories(path.parent_path());
  constexpr auto kMode = std::ios::binary | std::ios::in | std::ios::out;
  file_.open(path, kMode);
  if (!file_ || read_at(file_, 0, start.size()) != start) {
    file_.close();
    file_.clear();
    file_.open(path, kMode | std::ios::trunc);
    file_ << start << std::flush;
  }
  if (!file_) throw Error(path.string() + ": can't be written; choose another --cache");
  size_ = start.size();
}

// Indexes the whole records and cuts off a broken tail.
void FeatureCache::scan(const fs::path& path) {
  const uint64_t end = fs::file_size(path);
  while (size_ + kRecordSize <= end) {
    const std::string record = read_at(file_, size_, kRecordSize);
    const int64_t seq = record.empty() ? 0 : unpacked(record, kKeySize);
    const bool known =
        std::find(artifact_.seqs.begin(), artifact_.seqs.end(), seq) != artifact_.seqs.end();
    if (!known || size_ + kRecordSize + payload_size(seq) > end) break;
    places_[record.substr(0, kKeySize)] = {size_ + kRecordSize, seq};
    size_ += kRecordSize + payload_size(seq);
  }
  fs::resize_file(path, size_);
}

const std::vector<Value>& FeatureCache::outputs(int64_t seq) const {
  return artifact_.method("backbone", 1, seq).outputs;
}

size_t FeatureCache::payload_size(int64_t seq) const {
  size_t size = 0;
  for (const Value& value : outputs(seq)) size += size_of(value.dtype) * count(value.shape);
  return size;
}

}  // namespace effine
