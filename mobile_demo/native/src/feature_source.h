// Features of a batch, from the backbone program or the cache.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "break_even.h"
#include "dataset.h"
#include "engine.h"
#include "feature_cache.h"
#include "packing.h"

namespace effine {

struct CacheOptions {
  std::optional<std::filesystem::path> path;  // without a file features are always recomputed
  uint64_t bound = FeatureCache::kDefaultBound;
};

// Where encoder layers lie below the cut, a sample's features are always computed alone, at the
// smallest shape that fits it, and used as the cache would store them, so that a cached and a
// recomputed run agree bit for bit. Otherwise (embedding sums) the whole batch is computed and
// nothing is cached; without a backbone the token inputs are the features.
class FeatureSource {
 public:
  // `state` is what backbones read that have trained layers.
  FeatureSource(const Artifact& artifact, const Dataset& data, Engine& engine,
                CacheOptions options, const Tensors& state);

  // Computes the features of a phase from now on; what was cached of another is closed.
  void enter(const std::string& phase);
  // Opens the cache for a run; returns in a line for people what it will save,
  // nothing without a file.
  std::string begin(const std::string& precision, int64_t epochs);

  // Announces the samples of the next batch.
  void prefetch(const Indices& samples) const;
  // Features and mask of some samples, padded to `batch` rows of `seq` tokens.
  Tensors batch(const Indices& samples, int64_t batch, int64_t seq);

 private:
  int64_t length(size_t sample) const;
  Tensors alone(size_t sample) const;
  Tensors rows(size_t sample);
  std::string payload(const Tensors& tokens, size_t sample);
  Tensors compute(const Tensors& tokens, int64_t batch, int64_t seq);
  CacheSpeed measure(const std::vector<CacheSample>& missing);
  const Method& backbone(int64_t batch, int64_t seq) const;
  bool deep() const { return artifact_.phase(phase_).layers_below > 0; }
  TensorList held() const;

  const Artifact& artifact_;
  const Dataset& data_;
  Engine& engine_;
  CacheOptions options_;
  const Tensors& state_;
  std::string phase_;
  Packing packing_;
  std::optional<FeatureCache> cache_;
};

}  // namespace effine
