// Trains an artifact on tokenized data: what runtime_py/effine/runtime/trainer.py does, bit for
// bit.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "artifact.h"
#include "checkpoint.h"
#include "dataset.h"
#include "engine.h"
#include "feature_source.h"
#include "json.h"
#include "policies.h"
#include "tensors.h"

namespace effine {

struct TrainOptions {
  std::filesystem::path data, checkpoint;
  CacheOptions cache;
  Json::Object settings;  // in place of the artifact's recipe
  bool resume = false;    // go on from the checkpoint
  int64_t checkpoint_every = 50;
  std::optional<uint32_t> threads;
  // Asked before every update, with the number of updates since the start or resumption.
  std::function<bool(int64_t updates)> stop;
  std::function<void(int64_t epoch, std::optional<double> loss)> on_epoch;
  // Told before training, in a line, what the cache will save.
  std::function<void(const std::string& line)> on_cache;
};

class Trainer {
 public:
  // Begins a run or takes over an interrupted one; refuses other data or settings for it.
  Trainer(const Artifact& artifact, const TrainOptions& options);

  // Trains to the end or until `stop`; the checkpoint then has everything.
  const Report& train();

 private:
  void start();
  void resume();
  std::vector<Indices> order(int64_t epoch) const;
  void update(const Indices& samples);
  void consult();
  void choose(const std::string& phase);
  void enter(const std::string& phase, const RowSets& rows);
  void begin_features();
  // Whether what a step made of the state is finite.
  bool finite_state(const Views& updated) const;
  // Both run the programs on an update's samples: the loss, and what becomes of the state.
  std::pair<double, Views> step(const Indices& samples);
  std::pair<double, Views> accumulate(const Indices& samples);
  // A batch's exported length; its features, mask, labels and example weights are put into
  // `inputs`.
  int64_t add_batch(const Indices& samples, Tensors& inputs);
  Views run(const char* kind, int64_t seq, const Tensors& inputs);
  Tensors scalars(const Indices& samples) const;
  void end_epoch();
  void finish();
  void save() const;

  const Artifact& artifact_;
  const TrainOptions& options_;
  Dataset data_;
  Engine engine_;
  FeatureSource features_;
  Run run_;
  std::unique_ptr<Policy> policy_;
  Tensors state_;
};

}  // namespace effine
