// An artifact's manifest: its programs, their methods, its phases and the state they update.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "json.h"
#include "phases.h"
#include "tensors.h"

namespace effine {

// A named input, output or state tensor with its role.
struct Value {
  std::string name, role;
  DType dtype;
  Shape shape;
};

// Whether an input or output is part of the state.
bool is_state(const Value& value);

// A program method {prefix}_b{batch}_s{seq}; `kind` is train, backbone, predict, accumulate or
// apply.
struct Method {
  std::string name, prefix, kind;
  int64_t batch, seq;
  std::filesystem::path program;
  std::vector<Value> inputs, outputs;
};

struct Artifact {
  std::filesystem::path folder;
  Json manifest;
  std::vector<Method> methods;
  std::vector<Value> state;  // of all phases, in file order; role parameter, moment or statistic
  std::vector<Phase> phases;  // in order; `train` alone for a method without any
  bool phased;                // whether the method has phases of its own
  std::vector<Transition> transitions;
  std::vector<std::filesystem::path> weights;
  std::string first_moment;
  float first_gradient_factor;
  int64_t batch;
  std::vector<int64_t> seqs;  // ascending
  std::vector<std::string> token_inputs;
  int64_t pad_id;

  // Reads the manifest and checks name, size and sha256 of every file beside it.
  static Artifact load(const std::filesystem::path& folder);

  const std::string& first_phase() const { return phases.front().name; }
  // A phase by its name; refuses an unknown one.
  const Phase& phase(const std::string& name) const;
  // Whether there are methods of a kind; without a backbone the token inputs are the features.
  bool has(const std::string& kind) const;
  // The method of a kind in a phase, its own or that of the first phase, with the smallest
  // sequence length that fits.
  const Method& method(const std::string& kind, const std::string& phase, int64_t batch,
                       int64_t seq) const;
  // The tensors of the state in a phase, in order.
  std::vector<Value> layout(const std::string& phase) const;
  // How the state of one phase becomes that of another; refused where there is no way.
  const Transition& transition(const std::string& source, const std::string& target) const;
  // The gradient sums of a phase, for an artifact that accumulates gradients.
  std::vector<Value> gradients(const std::string& phase) const;
  // The smallest exported sequence length that fits.
  int64_t seq_for(int64_t length) const;
  // What the manifest says of a file, in hexadecimal digits.
  const std::string& sha256_of(const std::string& file) const;
  // The exported parameters as the first phase has them, and all else zero.
  Tensors initial_state() const;
  // What a checkpoint must share with the artifact that loads it.
  Json identity() const;

 private:
  // What the names of a kind's methods start with in a phase.
  std::string prefix(const std::string& kind, const std::string& phase) const;
};

}  // namespace effine
