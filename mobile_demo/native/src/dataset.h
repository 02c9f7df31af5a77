// Tokenized data, as effine.runtime.tokens writes it for hosts that don't tokenize.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "artifact.h"
#include "json.h"
#include "order.h"
#include "tensors.h"

namespace effine {

struct Dataset {
  std::vector<int64_t> offsets;  // sample i has the tokens from offsets[i] to offsets[i + 1]
  std::vector<int32_t> ids;
  std::vector<uint8_t> type_ids;
  std::vector<int64_t> seqs;  // the smallest exported length that fits each sample
  std::vector<float> weights;
  Tensor targets;                   // class positions as int64, scores as float32, or a row of
                                    // 0 and 1 for each sample
  std::vector<std::string> labels;  // in head order
  Json class_weights;               // null or balanced
  int64_t truncated;
  std::string fingerprint;

  // Reads a file and checks that it was made with the artifact's tokenizer and length.
  static Dataset load(const std::filesystem::path& path, const Artifact& artifact);

  size_t size() const { return seqs.size(); }
  // Token inputs [batch, seq] of some samples; rows beyond them have one token of padding
  // unmasked, so that no mean runs over nothing.
  Tensors padded(const Indices& samples, int64_t batch, int64_t seq,
                 const Artifact& artifact) const;
  // The samples' targets [batch] or [batch, rows of the head]; zeros beyond them.
  Tensor batch_targets(const Indices& samples, int64_t batch) const;
};

}  // namespace effine
