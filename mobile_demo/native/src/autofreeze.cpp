#include "autofreeze.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace effine {
namespace {

const std::string kCut = "cut";

int64_t cut_of(const std::string& phase) { return std::stoll(phase.substr(kCut.size())); }

// The sum of absolute values, entry after entry in binary64.
double magnitude(const Tensor& tensor) {
  double total = 0;
  for (const float value : tensor.values<float>()) total += double(std::fabs(value));
  return total;
}

// Infinite for a layer that had no gradient before and has one now.
double relative(double before, double after) {
  if (before == after) return 0;
  return before != 0 ? std::fabs(before - after) / before : std::numeric_limits<double>::infinity();
}

Json finite_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(); }

std::string reason(int64_t start, int64_t settled, int64_t cut) {
  if (settled == start) return "the lowest layer that trains still changes most";
  const std::string layers = "layers up to " + std::to_string(settled) + " have settled";
  if (cut != start) return layers + ", those up to " + std::to_string(cut) + " freeze";
  return layers + ", but there is no cut between " + std::to_string(start) + " and " +
         std::to_string(settled);
}

}  // namespace

double percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const double place = double(values.size() - 1) * share / 100.0;
  const size_t low = size_t(std::floor(place)), high = std::min(low + 1, values.size() - 1);
  if (place == double(low) || values[low] == values[high]) return values[low];
  return values[low] + (values[high] - values[low]) * (place - double(low));
}

AutoFreeze::AutoFreeze(const Artifact& artifact, int64_t updates) : updates_(updates) {
  const Json& options = artifact.manifest.at("method").at("options");
  const int64_t intervals = options.at("intervals").integer();
  if (intervals < 1) throw Error("option intervals of autofreeze can't be less than 1");
  interval_ = std::max(options.at("least_updates").integer(), updates / intervals);
  percentile_ = options.at("percentile").number();
  for (const Phase& phase : artifact.phases) cuts_.push_back(cut_of(phase.name));
  for (const Json& entry : artifact.manifest.at("state").array()) {
    if (entry.at("role").string() != "statistic") continue;
    const std::string& group = entry.at("group").string();
    layers_.emplace_back(entry.at("name").string(), std::stoll(group.substr(group.rfind('.') + 1)));
  }
}

std::optional<Decision> AutoFreeze::decide(const Json& memory, int64_t update,
                                           const std::string& phase, const Tensors& state) const {
  if (update % interval_ != 0 || update >= updates_) return std::nullopt;
  const int64_t start = cut_of(phase);
  const std::map<int64_t, double> changes = this->changes(start, state);
  Json::Object remembered;
  Json::Array listed;
  for (const auto& [layer, change] : changes) {
    remembered[std::to_string(layer)] = change;
    listed.push_back(change);
  }
  Decision decision{phase, Json::Object{{"changes", std::move(remembered)}}, "", {}, {}};
  decision.found["changes"] = std::move(listed);
  const Json* before = memory.find("changes");
  if (!before || before->object().empty()) {
    decision.reason = "the first interval, nothing to compare with";
    return decision;
  }
  std::vector<double> etas;
  Json::Array written;
  for (const auto& [layer, change] : changes) {
    etas.push_back(relative(before->at(std::to_string(layer)).number(), change));
    written.push_back(finite_or_null(etas.back()));
  }
  const double limit = percentile(etas, percentile_);
  const auto moving =
      std::find_if(etas.begin(), etas.end(), [&](double eta) { return eta >= limit; });
  const int64_t settled = start + (moving - etas.begin());
  int64_t cut = start;
  for (const int64_t rung : cuts_) cut = rung <= settled ? std::max(cut, rung) : cut;
  decision.phase = kCut + std::to_string(cut);
  decision.reason = reason(start, settled, cut);
  decision.found["eta"] = std::move(written);
  decision.found["limit"] = finite_or_null(limit);
  return decision;
}

std::map<int64_t, double> AutoFreeze::changes(int64_t start, const Tensors& state) const {
  std::map<int64_t, double> sums;
  for (const auto& [name, layer] : layers_) {
    if (layer >= start) sums[layer] += magnitude(state.at(name));
  }
  return sums;
}

}  // namespace effine
