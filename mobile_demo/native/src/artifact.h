// An artifact's manifest: its programs, their methods and the state they update.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

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
  std::vector<Method> methods;
  std::vector<Value> state;  // in file order; role parameter or moment
  std::vector<std::filesystem::path> weights;
  std::string first_moment;
  float first_gradient_factor;
  int64_t batch;

  // Reads the manifest and checks name, size and sha256 of every file beside it.
  static Artifact load(const std::filesystem::path& folder);

  // The method of a phase with the smallest sequence length that fits.
  const Method& method(const std::string& phase, int64_t batch, int64_t seq) const;
};

}  // namespace effine
