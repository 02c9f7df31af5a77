// Features of a batch, from the backbone program or the cache.
#pragma once

#include <filesystem>
#include <optional>

#include "dataset.h"
#include "engine.h"
#include "feature_cache.h"

namespace effine {

// Where encoder layers lie below the cut, a sample's features are always computed alone and at
// the smallest shape that fits it, so that a cached and a recomputed run agree bit for bit.
// Otherwise (embedding sums) the whole batch is computed and nothing is cached.
class FeatureSource {
 public:
  // Without a cache file features are computed anew for every batch.
  FeatureSource(const Artifact& artifact, const Dataset& data, Engine& engine,
                const std::optional<std::filesystem::path>& cache);

  // Features and mask of some samples, padded to `batch` rows of `seq` tokens.
  Tensors batch(const Indices& samples, int64_t batch, int64_t seq);

  int64_t uncached() const { return cache_ ? cache_->refused : 0; }

 private:
  Tensors alone(size_t sample);
  Tensors compute(const Tensors& tokens, int64_t batch, int64_t seq);

  const Artifact& artifact_;
  const Dataset& data_;
  Engine& engine_;
  std::optional<FeatureCache> cache_;
};

}  // namespace effine
