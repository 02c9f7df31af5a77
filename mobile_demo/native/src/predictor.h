// Predicts with what a run has learned, one text at a time as an app does.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "artifact.h"
#include "checkpoint.h"
#include "dataset.h"
#include "engine.h"
#include "feature_source.h"
#include "tensors.h"

namespace effine {

// Its programs stay loaded. Those of several artifacts over one backbone hold its weights once:
// XNNPACK's cache finds them by their content.
class Predictor {
 public:
  // Reads a checkpoint and tokens; refuses those of another artifact.
  Predictor(Artifact artifact, const std::filesystem::path& checkpoint,
            const std::filesystem::path& tokens, std::optional<uint32_t> threads);
  Predictor(const Predictor&) = delete;

  // The logits [N, rows of the head] of all texts, rows for spare labels included.
  Tensor logits();

 private:
  const Artifact artifact_;
  Checkpoint learned_;
  const Dataset data_;
  Engine engine_;
  FeatureSource features_;
};

}  // namespace effine
