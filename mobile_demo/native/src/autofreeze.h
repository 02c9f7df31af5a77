// AutoFreeze: which layers have settled and freeze; see
// runtime_py/effine/runtime/policies/autofreeze.py.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "policies.h"

namespace effine {

class AutoFreeze : public Policy {
 public:
  AutoFreeze(const Artifact& artifact, int64_t updates);

  std::optional<Decision> decide(const Json& memory, int64_t update, const std::string& phase,
                                 const Tensors& state) const override;

 private:
  // The sum of absolute gradients of each layer from `start` on.
  std::map<int64_t, double> changes(int64_t start, const Tensors& state) const;

  int64_t updates_, interval_;
  double percentile_;
  std::vector<int64_t> cuts_;
  std::vector<std::pair<std::string, int64_t>> layers_;  // of each statistic, in order
};

// The percentile, interpolated linearly between the two nearest of the sorted values.
double percentile(std::vector<double> values, double share);

}  // namespace effine
