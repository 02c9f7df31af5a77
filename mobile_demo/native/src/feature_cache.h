// The feature cache: what the backbone returned for a sample, kept in a file of the form that
// runtime_py/effine/runtime/feature_cache.py describes and reads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "artifact.h"
#include "file.h"
#include "packing.h"
#include "tensors.h"

namespace effine {

// Bounded in bytes; beyond the bound nothing more is stored.
class FeatureCache {
 public:
  static constexpr uint64_t kDefaultBound = 512'000'000;

  // The file is made if missing; that of another backbone or precision is replaced. `phase` is
  // the one whose features these are, `held` what its backbone reads of the state.
  FeatureCache(const std::filesystem::path& path, const Artifact& artifact,
               const Packing& packing, uint64_t bound, const std::string& phase,
               const TensorList& held);

  // The payload of a sample, if it is stored whole.
  std::optional<std::string> get(const std::string& sample);
  // Stores the payload of a sample with so many tokens unless the bound is reached.
  void put(const std::string& sample, int64_t tokens, const std::string& payload);
  bool has(const std::string& sample) const { return places_.count(sample) > 0; }
  // Lets the system read a sample's record ahead.
  void prefetch(const std::string& sample) const;

  bool empty() const { return places_.empty(); }
  uint64_t size() const { return size_; }
  uint64_t bound() const { return bound_; }
  // Bytes of the record of a sample with so many tokens.
  size_t record_size(int64_t tokens) const;

  // Identifies a sample by its token inputs at batch 1.
  static std::string key(const Tensors& tokens);

 private:
  struct Place {
    uint64_t position;
    int64_t tokens;
  };

  void scan(int64_t longest);

  const Packing& packing_;
  File file_;
  std::map<std::string, Place> places_;
  uint64_t size_, bound_;
};

}  // namespace effine
