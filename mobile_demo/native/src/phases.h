// Phases of training and the way from one to another, as the data that
// runtime_py/effine/runtime/phases.py describes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "json.h"
#include "tensors.h"

namespace effine {

struct Value;

struct Phase {
  std::string name;
  int64_t layers_below;  // how many encoder layers its backbone runs
};

// Rows along an axis: taken from `source`, or put into `target`; `indices` names which.
struct Rows {
  std::string source, target, indices;
  size_t axis;
};

// The rows that a transition takes, by name.
using RowSets = std::map<std::string, std::vector<int64_t>>;

// How the state of any of some phases becomes that of another. Each tensor is zero if its role
// is in `zero`, made of rows if it is a target of them, and otherwise a copy.
struct Transition {
  std::vector<std::string> sources;
  std::string target;
  std::vector<std::string> zero;
  std::vector<Rows> gather, scatter;

  bool zeroes(const std::string& role) const;
  // Whether the optimizer starts afresh.
  bool restarts() const { return zeroes("moment"); }
};

std::vector<Transition> parse_transitions(const Json& json);

// Refuses a transition that asks for what the layout before it doesn't have.
void check_makeable(const Transition& transition, const std::vector<Value>& before,
                    const std::vector<Value>& after);

// The state of the target phase, whose layout is given.
Tensors moved(const Transition& transition, const std::vector<Value>& layout, Tensors state,
              const RowSets& rows);

}  // namespace effine
