// FAR: which nodes of the feed-forward layers go on learning; see
// runtime_py/effine/runtime/policies/far.py.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "policies.h"

namespace effine {

class Far : public Policy {
 public:
  Far(const Artifact& artifact, int64_t updates);

  std::optional<Decision> decide(const Json& memory, int64_t update, const std::string& phase,
                                 const Tensors& state) const override;
  std::optional<RowSets> way_back(const Json& memory) const override;

 private:
  struct Layer {
    std::string name;
    size_t learners = 0;
    std::vector<Rows> tensors;  // of all nodes, in order
  };

  Layer& layer(const std::string& name);
  // How far each node of a layer has moved.
  std::vector<double> scores(const Layer& layer, const Tensors& state) const;

  int64_t updates_, priming_;
  bool random_;
  std::vector<Layer> layers_;
};

}  // namespace effine
