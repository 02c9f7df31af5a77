// Policies: what a method decides between updates, over the state alone; the same decisions as
// those of runtime_py/effine/runtime/policies, to the last bit.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "artifact.h"
#include "json.h"
#include "phases.h"
#include "tensors.h"

namespace effine {

// A transition to a phase, which may be the present one.
struct Decision {
  std::string phase;
  Json memory;         // what the policy has to remember
  std::string reason;  // for people, in a line
  Json::Object found;  // the numbers behind it
  RowSets rows;        // that the transition takes
};

class Policy {
 public:
  virtual ~Policy() = default;

  // What follows from the state after so many updates of the run, if anything; `memory` is what
  // the last decision remembered, at first an empty object.
  virtual std::optional<Decision> decide(const Json& memory, int64_t update,
                                         const std::string& phase, const Tensors& state) const = 0;
  // The rows with which the parameters get their original layout back after a run, unless they
  // have kept it.
  virtual std::optional<RowSets> way_back(const Json&) const { return std::nullopt; }
};

// The policy of the artifact's method in a run of so many updates; most have none. Refuses a
// method with phases that none decides on.
std::unique_ptr<Policy> policy_for(const Artifact& artifact, int64_t updates);

}  // namespace effine
