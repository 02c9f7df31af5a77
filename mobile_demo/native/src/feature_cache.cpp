#include "feature_cache.h"

#include <array>
#include <cstring>
#include <system_error>

#include "sha256.h"

namespace effine {
namespace {

namespace fs = std::filesystem;

const std::string kMagic = "EFFCACH2";
constexpr size_t kKeySize = 32, kHeaderSize = kKeySize + 8;

std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table;
  for (uint32_t i = 0; i < table.size(); ++i) {
    table[i] = i;
    for (int bit = 0; bit < 8; ++bit) {
      table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320 : 0);
    }
  }
  return table;
}

// Of two parts of a record, one after the other.
uint32_t crc32(const std::string& first, const std::string& second) {
  static const std::array<uint32_t, 256> kTable = crc_table();
  uint32_t crc = UINT32_MAX;
  for (const std::string* part : {&first, &second}) {
    for (const char byte : *part) crc = crc >> 8 ^ kTable[(crc ^ uint8_t(byte)) & 0xFF];
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

// Identifies the backbone program with all values it reads, and the precision.
std::string cache_key(const Artifact& artifact, const std::string& precision,
                      const std::string& phase, const TensorList& held) {
  const std::string content = bytes_of(artifact.sha256_of("backbone.pte")) +
                              bytes_of(artifact.sha256_of("backbone.ptd")) + precision +
                              (artifact.phased ? phase : "");
  Sha256 hash;
  hash.update(content.data(), content.size());
  for (const auto& [name, tensor] : held) {
    hash.update(reinterpret_cast<const char*>(tensor->data.data()), tensor->data.size());
  }
  return hash.digest();
}

std::string packed(uint32_t number) {
  return {reinterpret_cast<const char*>(&number), sizeof number};
}

std::string record_of(const std::string& sample, int64_t tokens, const std::string& payload) {
  const std::string start = sample + packed(uint32_t(tokens));
  return start + packed(crc32(start, payload)) + payload;
}

fs::path with_folder(const fs::path& path) {
  if (path.has_parent_path()) fs::create_directories(path.parent_path());
  return path;
}

}  // namespace

FeatureCache::FeatureCache(const fs::path& path, const Artifact& artifact, const Packing& packing,
                           uint64_t bound, const std::string& phase,
                           const TensorList& held) try
    : packing_(packing), file_(with_folder(path)), bound_(bound) {
  const std::string start = kMagic + cache_key(artifact, packing.precision(), phase, held);
  size_ = start.size();
  if (file_.read(0, start.size()) != start) {
    file_.truncate(0);
    if (!file_.write(0, start)) bound_ = 0;
  }
  scan(artifact.seqs.back());
} catch (const std::system_error& error) {
  throw Error(path.string() + ": can't be a feature cache: " + error.code().message() +
              "; choose another --cache");
}

std::optional<std::string> FeatureCache::get(const std::string& sample) {
  const auto found = places_.find(sample);
  if (found == places_.end()) return std::nullopt;
  const auto [position, tokens] = found->second;
  const std::string record = file_.read(position, record_size(tokens));
  std::string payload = record.size() < kHeaderSize ? "" : record.substr(kHeaderSize);
  if (record == record_of(sample, tokens, payload)) return payload;
  places_.erase(found);
  return std::nullopt;
}

void FeatureCache::put(const std::string& sample, int64_t tokens, const std::string& payload) {
  const std::string record = record_of(sample, tokens, payload);
  if (size_ + record.size() > bound_) return;
  if (!file_.write(size_, record)) {
    bound_ = size_;
    return;
  }
  places_[sample] = {size_, tokens};
  size_ += record.size();
}

void FeatureCache::prefetch(const std::string& sample) const {
  const auto found = places_.find(sample);
  if (found == places_.end()) return;
  file_.prefetch(found->second.position, record_size(found->second.tokens));
}

size_t FeatureCache::record_size(int64_t tokens) const {
  return kHeaderSize + packing_.size(tokens);
}

std::string FeatureCache::key(const Tensors& tokens) {
  Sha256 hash;
  for (const auto& [name, tensor] : tokens) {
    hash.update(name.data(), name.size());
    hash.update(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  }
  return hash.digest();
}

// Indexes the whole records and cuts off a broken tail.
void FeatureCache::scan(int64_t longest) {
  const uint64_t end = file_.size();
  std::string header;
  while ((header = file_.read(size_, kHeaderSize)).size() == kHeaderSize) {
    uint32_t tokens;
    std::memcpy(&tokens, &header[kKeySize], sizeof tokens);
    if (tokens < 1 || tokens > longest || size_ + record_size(tokens) > end) break;
    places_[header.substr(0, kKeySize)] = {size_, tokens};
    size_ += record_size(tokens);
  }
  if (size_ < end) file_.truncate(size_);
}

}  // namespace effine
