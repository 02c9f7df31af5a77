// An artifact's manifest: its programs, their methods and the state they update.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "json.h"
#include "tensors.h"

namespace effine {

// A named input, output or state tensor with its role.
struct Value {
  std::string name, role;
  DType dtype;
  Shape shape;
};

struct Method {
  std::string name, phase;
  int64_t batch, seq;
  std::filesystem::path program;
  std::vector<Value> inputs, outputs;
};

struct Artifact {
  std::filesystem::path folder;
  Json manifest;
  std::vector<Method> methods;
  std::vector<Value> state;  // in file order; role parameter or moment
  std::vector<std::filesystem::path> weights;
  std::string first_moment;
  float first_gradient_factor;
  int64_t batch;
  std::vector<int64_t> seqs;  // ascending
  std::vector<std::string> token_inputs;
  int64_t pad_id, layers_below;

  // Reads the manifest and checks name, size and sha256 of every file beside it.
  static Artifact load(const std::filesystem::path& folder);

  // The method of a phase with the smallest sequence length that fits.
  const Method& method(const std::string& phase, int64_t batch, int64_t seq) const;
  // The gradient sums, for an artifact that accumulates gradients.
  std::vector<Value> gradients() const;
  // The smallest exported sequence length that fits.
  int64_t seq_for(int64_t length) const;
  // What the manifest says of a file, in hexadecimal digits.
  const std::string& sha256_of(const std::string& file) const;
  // The exported parameters with zero moments.
  Tensors initial_state() const;
  // What a checkpoint must share with the artifact that loads it.
  Json identity() const;
};

}  // namespace effine
