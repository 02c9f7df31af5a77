// The feature cache: what the backbone returned for a sample, kept in a file of the form that
// runtime_py/effine/runtime/feature_cache.py describes and reads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>

#include "artifact.h"
#include "tensors.h"

namespace effine {

// Bounded in bytes; beyond the bound nothing more is stored.
class FeatureCache {
 public:
  // The file is made if missing; that of another backbone is replaced.
  FeatureCache(const std::filesystem::path& path, const Artifact& artifact);

  // The features at batch 1 of a sample with these token inputs, if they are stored whole.
  std::optional<Tensors> get(const std::string& sample);
  void put(const std::string& sample, int64_t seq, const Tensors& features);

  // Identifies a sample by its token inputs at batch 1.
  static std::string key(const Tensors& tokens);

  int64_t refused = 0;  // samples that were not stored

 private:
  struct Place {
    uint64_t payload;
    int64_t seq;
  };

  void open(const std::filesystem::path& path, const std::string& start);
  void scan(const std::filesystem::path& path);
  const std::vector<Value>& outputs(int64_t seq) const;
  size_t payload_size(int64_t seq) const;

  const Artifact& artifact_;
  std::fstream file_;
  std::map<std::string, Place> places_;
  uint64_t size_ = 0, bound_ = uint64_t{512} << 20;
};

}  // namespace effine
