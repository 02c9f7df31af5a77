// A run at a moment, in one file that runtime_py/effine/runtime/checkpoint.py reads and writes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "artifact.h"
#include "json.h"
#include "report.h"
#include "tensors.h"

namespace effine {

// Hyper-parameters, decoded from the JSON form in which a checkpoint keeps them.
struct Settings {
  explicit Settings(const Json& json);

  int64_t epochs, accumulate;
  double piece_rate, head_rate, warmup;
  std::string schedule, cache_precision;
  std::optional<std::string> phase;  // where the run starts, if not in the first
  uint64_t seed;
};

// Settings with what checkpoints leave out, and without.
Json::Object with_implied(Json::Object settings);
Json::Object without_implied(Json::Object settings);

// Where a run stands.
struct Run {
  Json settings;
  std::string fingerprint;  // of the data
  int64_t total = 0, epoch = 0, cursor = 0, update = 0, step = 0;
  std::string phase;
  Json policy = Json::Object();  // what the method's policy remembers
  std::vector<std::string> labels;
  Report report;
};

struct Checkpoint {
  Tensors state;
  Run run;
  std::string manifest_sha256;

  // Reads a checkpoint for an artifact; refuses a damaged one and that of another artifact.
  static Checkpoint load(const std::filesystem::path& path, const Artifact& artifact);
};

// Writes a checkpoint atomically: the same bytes as Python's for the same run.
void save_checkpoint(const std::filesystem::path& path, const Artifact& artifact,
                     const Tensors& state, const Run& run);

}  // namespace effine
