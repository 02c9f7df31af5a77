#include "feature_source.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

namespace effine {
namespace {

constexpr const char* kMask = "attention_mask";
constexpr size_t kProbes = 4;

double seconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

}  // namespace

FeatureSource::FeatureSource(const Artifact& artifact, const Dataset& data, Engine& engine,
                             CacheOptions options, const Tensors& state)
    : artifact_(artifact),
      data_(data),
      engine_(engine),
      options_(std::move(options)),
      state_(state),
      phase_(artifact.first_phase()),
      packing_(artifact, "fp32") {}

void FeatureSource::enter(const std::string& phase) {
  if (phase != phase_) cache_.reset();
  phase_ = phase;
}

std::string FeatureSource::begin(const std::string& precision, int64_t epochs) {
  packing_ = Packing(artifact_, precision);
  if (!options_.path) return "";
  if (!deep()) return "cache: none, no encoder layer lies below the cut";
  cache_.emplace(*options_.path, artifact_, packing_, options_.bound, phase_, held());
  std::vector<CacheSample> samples, missing;
  for (size_t i = 0; i < data_.size(); ++i) {
    const bool stored = !cache_->empty() && cache_->has(FeatureCache::key(alone(i)));
    samples.push_back({i, data_.seqs[i], cache_->record_size(length(i)), stored});
    if (!stored) missing.push_back(samples.back());
  }
  const std::string start = "cache: " + precision + ", ";
  if (missing.empty()) {
    return start + megabytes(cache_->size()) + ", holds all " + grouped(int64_t(samples.size())) +
           " samples";
  }
  const CacheSpeed speed = measure(missing);
  return start + estimate(samples, epochs, cache_->size(), cache_->bound(), speed).text() +
         " over " + std::to_string(epochs) + (epochs == 1 ? " epoch" : " epochs");
}

void FeatureSource::prefetch(const Indices& samples) const {
  if (!cache_) return;
  for (const size_t sample : samples) cache_->prefetch(FeatureCache::key(alone(sample)));
}

Tensors FeatureSource::batch(const Indices& samples, int64_t batch, int64_t seq) {
  Tensors tokens = data_.padded(samples, batch, seq, artifact_);
  if (!artifact_.has("backbone")) return tokens;
  Tensors features;
  if (!deep()) {
    features = compute(tokens, batch, seq);
  } else {
    const auto& outputs = backbone(batch, seq).outputs;
    for (const Value& value : outputs) features[value.name] = Tensor(value.dtype, value.shape);
    for (size_t row = 0; row < samples.size(); ++row) {
      for (const auto& [name, from] : rows(samples[row])) {
        auto& data = features.at(name).data;
        const size_t start = row * (data.size() / size_t(batch));
        std::copy(from.data.begin(), from.data.end(), data.begin() + int64_t(start));
      }
    }
  }
  features[kMask] = std::move(tokens.at(kMask));
  return features;
}

int64_t FeatureSource::length(size_t sample) const {
  return data_.offsets[sample + 1] - data_.offsets[sample];
}

Tensors FeatureSource::alone(size_t sample) const {
  return data_.padded({sample}, 1, data_.seqs[sample], artifact_);
}

// A sample's features as stored: its rows [N, d] each.
Tensors FeatureSource::rows(size_t sample) {
  const Tensors tokens = alone(sample);
  if (!cache_) return packing_.unpack(payload(tokens, sample), length(sample));
  const std::string key = FeatureCache::key(tokens);
  std::optional<std::string> stored = cache_->get(key);
  if (!stored) {
    stored = payload(tokens, sample);
    cache_->put(key, length(sample), *stored);
  }
  return packing_.unpack(*stored, length(sample));
}

std::string FeatureSource::payload(const Tensors& tokens, size_t sample) {
  return packing_.pack(compute(tokens, 1, data_.seqs[sample]), length(sample));
}

Tensors FeatureSource::compute(const Tensors& tokens, int64_t batch, int64_t seq) {
  Tensors features;
  const auto source = [&](const Value& value) -> const Tensor& {
    return (value.role == "read" ? state_ : tokens).at(value.name);
  };
  engine_.run(backbone(batch, seq), source, features);
  return features;
}

const Method& FeatureSource::backbone(int64_t batch, int64_t seq) const {
  return artifact_.method("backbone", phase_, batch, seq);
}

// What the backbone reads of the state.
TensorList FeatureSource::held() const {
  TensorList held;
  for (const Value& value : backbone(1, artifact_.seqs.front()).inputs) {
    if (value.role == "read") held.emplace_back(value.name, &state_.at(value.name));
  }
  return held;
}

// Computes, stores and reads some samples of one length; the first, which loads the program,
// counts only if there is no other.
CacheSpeed FeatureSource::measure(const std::vector<CacheSample>& missing) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  CacheSpeed best{kInfinity, kInfinity, kInfinity};
  size_t probes = 0;
  for (const CacheSample& sample : missing) {
    if (sample.padded != missing[0].padded) continue;
    const Tensors tokens = alone(sample.index);
    const std::string key = FeatureCache::key(tokens);
    const double begin = seconds();
    const std::string content = payload(tokens, sample.index);
    const double computed = seconds();
    cache_->put(key, length(sample.index), content);
    const double stored = seconds();
    cache_->get(key);
    const double read = seconds();
    if (probes == 1) best = {kInfinity, kInfinity, kInfinity};
    best = {std::min(best.compute, (computed - begin) / double(sample.padded)),
            std::min(best.store, (stored - computed) / double(sample.size)),
            std::min(best.read, (read - stored) / double(sample.size))};
    if (++probes == kProbes) break;
  }
  return best;
}

}  // namespace effine
