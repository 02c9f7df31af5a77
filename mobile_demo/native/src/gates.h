// Token gates: which rung of the ladder follows on learned gates; see
// runtime_py/effine/runtime/policies/gates.py.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "policies.h"

namespace effine {

class Gates : public Policy {
 public:
  Gates(const Artifact& artifact, int64_t updates);

  std::optional<Decision> decide(const Json& memory, int64_t update, const std::string& phase,
                                 const Tensors& state) const override;

 private:
  // How many tokens each layer with a gate needs, from the lowest on.
  std::vector<int64_t> learned(const Tensors& state) const;

  int64_t updates_, learning_, seq_, fewest_;
  std::map<int64_t, std::string> names_;  // of the gates, by layer
  // How many tokens a rung keeps in all layers together, and its phase; smallest first.
  std::vector<std::pair<int64_t, std::string>> rungs_;
};

// How many tokens a layer's gates, one for each rank, let through.
int64_t needed(const std::vector<float>& gates);

// How many of `seq` tokens a rung, such as 0.5 or 0.9:0.7, keeps in each layer.
std::vector<int64_t> counts(const std::string& rung, size_t layers, int64_t seq);

}  // namespace effine
