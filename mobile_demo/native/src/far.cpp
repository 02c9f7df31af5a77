#include "far.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "order.h"
#include "sums.h"

namespace effine {
namespace {

const std::string kPrime = "prime", kFar = "far", kLearners = ".learners", kOthers = ".others";

// The name under which the state adds up how far a parameter has moved.
std::string statistic_name(const std::string& parameter) { return parameter + ".drift"; }

std::vector<int64_t> sorted(std::vector<int64_t> rows) {
  std::sort(rows.begin(), rows.end());
  return rows;
}

RowSets rows_of(const Json& memory) {
  RowSets rows;
  for (const auto& [name, indices] : memory.at("rows").object()) {
    for (const Json& index : indices.array()) rows[name].push_back(index.integer());
  }
  return rows;
}

Json to_json(const RowSets& rows) {
  Json::Object json;
  for (const auto& [name, indices] : rows) json[name] = Json::Array(indices.begin(), indices.end());
  return Json::Object{{"rows", std::move(json)}};
}

}  // namespace

Far::Far(const Artifact& artifact, int64_t updates) : updates_(updates) {
  const Json& options = artifact.manifest.at("method").at("options");
  const double share = options.at("priming").number() / 100.0;
  priming_ = std::max(options.at("least_updates").integer(),
                      int64_t(std::ceil(share * double(updates))));
  random_ = options.at("selection").string() == "random";
  const std::vector<Value> layout = artifact.layout(kFar);
  for (const Rows& rows : artifact.transition(kPrime, kFar).gather) {
    const size_t dot = rows.indices.rfind('.');
    Layer& layer = this->layer(rows.indices.substr(0, dot));
    if (rows.indices.substr(dot) == kOthers) {
      layer.tensors.push_back(rows);
      continue;
    }
    const auto found = std::find_if(layout.begin(), layout.end(),
                                    [&](const Value& value) { return value.name == rows.target; });
    if (found != layout.end()) layer.learners = size_t(found->shape.at(rows.axis));
  }
}

Far::Layer& Far::layer(const std::string& name) {
  for (Layer& layer : layers_) {
    if (layer.name == name) return layer;
  }
  return layers_.emplace_back(Layer{name, 0, {}});
}

std::optional<Decision> Far::decide(const Json&, int64_t update, const std::string& phase,
                                    const Tensors& state) const {
  if (phase != kPrime || update != priming_ || update >= updates_) return std::nullopt;
  Decision decision{kFar, {}, "", {}, {}};
  Json::Object shares;
  size_t learners = 0;
  for (size_t number = 0; number < layers_.size(); ++number) {
    const Layer& layer = layers_[number];
    const std::vector<double> scores = this->scores(layer, state);
    std::vector<int64_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return scores[size_t(a)] > scores[size_t(b)];
    });
    if (random_) SplitMix64(number).shuffle(order);
    const auto middle = order.begin() + int64_t(std::min(layer.learners, order.size()));
    std::vector<double> chosen;
    for (auto node = order.begin(); node != middle; ++node) chosen.push_back(scores[size_t(*node)]);
    shares[layer.name] = pairwise_sum(chosen) / std::max(pairwise_sum(scores), 1e-300);
    decision.rows[layer.name + kLearners] = sorted({order.begin(), middle});
    decision.rows[layer.name + kOthers] = sorted({middle, order.end()});
    learners += layer.learners;
  }
  decision.memory = to_json(decision.rows);
  decision.reason = "primed: " + std::to_string(learners) + " nodes of " +
                    std::to_string(layers_.size()) + " layers go on learning";
  decision.found["share_of_movement"] = std::move(shares);
  return decision;
}

std::optional<RowSets> Far::way_back(const Json& memory) const {
  if (memory.object().empty()) return std::nullopt;
  return rows_of(memory);
}

// Sums in binary64, a tensor's entries in index order and tensor after tensor.
std::vector<double> Far::scores(const Layer& layer, const Tensors& state) const {
  std::vector<double> total;
  for (const Rows& rows : layer.tensors) {
    const Tensor& tensor = state.at(statistic_name(rows.source));
    const std::vector<float> values = tensor.values<float>();
    const size_t nodes = size_t(tensor.shape.at(rows.axis));
    size_t inner = 1;
    for (size_t i = rows.axis + 1; i < tensor.shape.size(); ++i) inner *= size_t(tensor.shape[i]);
    std::vector<double> sums(nodes);
    for (size_t i = 0; i < values.size(); ++i) {
      sums[i / inner % nodes] += double(std::fabs(values[i]));
    }
    total.resize(nodes);
    for (size_t node = 0; node < nodes; ++node) total[node] += sums[node];
  }
  return total;
}

}  // namespace effine
