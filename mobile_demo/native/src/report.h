// The training report: what happened, and whether the model learned. It is part of every
// checkpoint, so it survives a restart.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "json.h"

namespace effine {

struct Report {
  int64_t samples = 0, truncated = 0;
  Json::Array epochs;                // each with epoch, mean loss or null, and metrics
  Json before = Json::Object();      // metrics before training
  Json::Array discarded;             // updates thrown away as not finite, with their samples
  std::vector<std::string> warnings;
  int64_t best_epoch = 0;
  bool cancelled = false;
  double loss_sum = 0, weight_sum = 0;  // of the running epoch so far
  Json::Array decisions;                // what the policy found and decided between updates

  static Report from_json(const Json& json);
  Json to_json() const;

  // Closes the running epoch; returns its mean loss, unless every update was discarded.
  std::optional<double> end_epoch(int64_t epoch);
  // Warns of training that didn't learn, each time with the likely cause.
  // `frozen_head` is the manifest's score for comparison, or null.
  void diagnose(bool changed, const Json& frozen_head);
};

}  // namespace effine
