#include "gates.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

namespace effine {
namespace {

const std::string kGates = "gates", kPrefix = "encoder.gates.", kSuffix = ".values";
constexpr int64_t kFewest = 2;
constexpr float kOpen = 0.5F, kLow = 0.1F, kHigh = 0.9F;
constexpr double kPolarised = 0.1;

std::vector<std::string> parts(const std::string& text, char separator) {
  std::vector<std::string> found;
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(separator, start), text.size());
    found.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return found;
}

double share_of(const std::string& text) {
  try {
    return std::stod(text);
  } catch (const std::exception&) {
    throw Error("'" + text + "' is no share of tokens; export the artifact again");
  }
}

// The first powers of a factor, each the one before times the factor.
std::vector<double> powers(double factor, size_t count) {
  std::vector<double> found{factor};
  while (found.size() < count) found.push_back(found.back() * factor);
  return found;
}

// Shares with this mean, each the same part of the one before, found by bisection.
std::vector<double> falling(double mean, size_t layers) {
  double low = 0, high = 1;
  for (;;) {
    const double factor = (low + high) / 2;
    if (factor <= low || factor >= high) return powers(high, layers);
    const std::vector<double> shares = powers(factor, layers);
    const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    (sum < mean * double(layers) ? low : high) = factor;
  }
}

std::string four_digits(double value) {
  char text[32];
  return {text, size_t(std::snprintf(text, sizeof text, "%.4g", value))};
}

std::string joined(const std::vector<std::string>& texts, const std::string& between) {
  std::string result;
  for (const std::string& text : texts) result += (result.empty() ? "" : between) + text;
  return result;
}

int64_t sum_of(const std::vector<int64_t>& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), int64_t{0});
}

}  // namespace

int64_t needed(const std::vector<float>& gates) {
  const auto undecided = std::count_if(gates.begin(), gates.end(),
                                       [](float gate) { return gate > kLow && gate < kHigh; });
  if (double(undecided) < kPolarised * double(gates.size())) {
    return std::count_if(gates.begin(), gates.end(), [](float gate) { return gate >= kOpen; });
  }
  return int64_t(std::floor(std::accumulate(gates.begin(), gates.end(), 0.0)));
}

std::vector<int64_t> counts(const std::string& rung, size_t layers, int64_t seq) {
  std::vector<double> shares;
  for (const std::string& part : parts(rung, ':')) shares.push_back(share_of(part));
  if (shares.size() == 1) shares = falling(shares[0], layers);
  std::vector<int64_t> found;
  for (const double share : shares) {
    found.push_back(std::min(seq, std::max(kFewest, int64_t(share * double(seq) + 0.5))));
  }
  return found;
}

Gates::Gates(const Artifact& artifact, int64_t updates)
    : updates_(updates), seq_(artifact.seqs.back()) {
  const Json& options = artifact.manifest.at("method").at("options");
  const double share = options.at("learning").number() / 100.0;
  learning_ = int64_t(std::ceil(share * double(updates)));
  fewest_ = artifact.manifest.at("task").at("pair").boolean() ? 2 : 1;
  for (const Value& value : artifact.layout(artifact.first_phase())) {
    const std::string& name = value.name;
    if (value.role != "parameter" || name.rfind(kPrefix, 0) != 0) continue;
    names_[std::stoll(name.substr(kPrefix.size()))] = name;
  }
  const std::vector<std::string> shares = parts(options.at("keep").string(), ',');
  for (const Phase& phase : artifact.phases) {
    if (names_.empty() || phase.name == kGates || rungs_.size() == shares.size()) continue;
    rungs_.emplace_back(sum_of(counts(shares[rungs_.size()], names_.size(), seq_)), phase.name);
  }
  std::sort(rungs_.begin(), rungs_.end());
}

std::optional<Decision> Gates::decide(const Json&, int64_t update, const std::string& phase,
                                      const Tensors& state) const {
  if (phase != kGates || update != learning_) return std::nullopt;
  const std::vector<int64_t> learned = this->learned(state);
  std::vector<std::string> numbers, shares;
  for (const int64_t count : learned) {
    numbers.push_back(std::to_string(count));
    shares.push_back(four_digits(double(count) / double(seq_)));
  }
  const std::string keep = "keep=" + joined(shares, ":");
  const std::string reason = "of " + std::to_string(seq_) + " tokens the layers need " +
                             joined(numbers, ", ");
  Decision decision{kGates, Json::Object(), reason + "; export them with " + keep, {}, {}};
  decision.found["counts"] = Json::Array(learned.begin(), learned.end());
  decision.found["keep"] = joined(shares, ":");
  if (update == updates_ || rungs_.empty()) return decision;
  const auto rung = std::find_if(rungs_.begin(), rungs_.end(), [&](const auto& candidate) {
    return candidate.first >= sum_of(learned);
  });
  decision.phase = (rung == rungs_.end() ? rungs_.back() : *rung).second;
  decision.reason = reason + " (" + keep + ")";
  return decision;
}

std::vector<int64_t> Gates::learned(const Tensors& state) const {
  std::vector<int64_t> found;
  for (const auto& [layer, name] : names_) {
    std::vector<float> gates = state.at(name).values<float>();
    gates.resize(std::min(gates.size(), size_t(seq_)));
    const int64_t count = std::max(fewest_, needed(gates));
    found.push_back(found.empty() ? count : std::min(count, found.back()));
  }
  return found;
}

}  // namespace effine
