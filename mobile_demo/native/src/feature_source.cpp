#include "feature_source.h"

#include <algorithm>

namespace effine {
namespace {

constexpr const char* kMask = "attention_mask";

// Copies a block of the given shape into the corner of another with at least its sizes.
void copy_corner(const std::byte* from, const Shape& small, std::byte* to, const Shape& large,
                 size_t item, size_t axis) {
  if (axis == small.size()) {
    std::copy_n(from, item, to);
    return;
  }
  size_t from_step = item, to_step = item;
  for (size_t i = axis + 1; i < small.size(); ++i) {
    from_step *= size_t(small[i]);
    to_step *= size_t(large[i]);
  }
  for (int64_t i = 0; i < small[axis]; ++i, from += from_step, to += to_step) {
    copy_corner(from, small, to, large, item, axis + 1);
  }
}

}  // namespace

FeatureSource::FeatureSource(const Artifact& artifact, const Dataset& data, Engine& engine,
                             const std::optional<std::filesystem::path>& cache)
    : artifact_(artifact), data_(data), engine_(engine) {
  if (cache && artifact.layers_below > 0) cache_.emplace(*cache, artifact);
}

Tensors FeatureSource::batch(const Indices& samples, int64_t batch, int64_t seq) {
  Tensors tokens = data_.padded(samples, batch, seq, artifact_);
  Tensors features;
  if (artifact_.layers_below == 0) {
    features = compute(tokens, batch, seq);
  } else {
    const auto& outputs = artifact_.method("backbone", batch, seq).outputs;
    for (const Value& value : outputs) features[value.name] = Tensor(value.dtype, value.shape);
    for (size_t row = 0; row < samples.size(); ++row) {
      const Tensors single = alone(samples[row]);
      for (const Value& value : outputs) {
        const Tensor& from = single.at(value.name);
        Tensor& to = features[value.name];
        std::byte* place = to.data.data() + row * (to.data.size() / size_t(batch));
        copy_corner(from.data.data(), from.shape, place, to.shape, size_of(to.dtype), 1);
      }
    }
  }
  features[kMask] = std::move(tokens.at(kMask));
  return features;
}

Tensors FeatureSource::alone(size_t sample) {
  const int64_t seq = data_.seqs[sample];
  const Tensors tokens = data_.padded({sample}, 1, seq, artifact_);
  if (!cache_) return compute(tokens, 1, seq);
  const std::string key = FeatureCache::key(tokens);
  if (auto stored = cache_->get(key)) return std::move(*stored);
  Tensors features = compute(tokens, 1, seq);
  cache_->put(key, seq, features);
  return features;
}

Tensors FeatureSource::compute(const Tensors& tokens, int64_t batch, int64_t seq) {
  Tensors features;
  const auto source = [&](const Value& value) -> const Tensor& { return tokens.at(value.name); };
  engine_.run(artifact_.method("backbone", batch, seq), source, features);
  return features;
}

}  // namespace effine
