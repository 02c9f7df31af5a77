// Replays an artifact's golden run.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "artifact.h"
#include "tensors.h"

namespace effine {

struct Replay {
  std::vector<float> losses;
  // features., logits, loss, gradient., end., statistic., decay. and at.{phase}. as `effine
  // parity` compares them.
  NamedTensors result;
};

// `accumulated` takes each step as two, with the gradients of every other row, and applies
// their sums.
Replay replay(const Artifact& artifact, std::optional<uint32_t> threads, bool accumulated);

}  // namespace effine
