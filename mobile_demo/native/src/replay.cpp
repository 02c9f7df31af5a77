#include "replay.h"

#include <cmath>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "engine.h"

namespace effine {
namespace {

constexpr const char* kMask = "attention_mask";

// Where a replay stands; `count` has the updates since the moments were zero.
struct Moment {
  std::string phase;
  Tensors state;
  int count;
};

class GoldenRun {
 public:
  GoldenRun(const Artifact& artifact, std::optional<uint32_t> threads, bool accumulated)
      : artifact_(artifact),
        path_(artifact.folder / "golden.safetensors"),
        engine_(artifact, threads),
        accumulated_(accumulated) {
    TensorFile file = read_tensor_file(path_);
    for (auto& [name, tensor] : file.tensors) golden_.emplace(name, std::move(tensor));
    const auto phases = file.metadata.find("phases");
    if (phases == file.metadata.end()) return;
    const Json turns = Json::parse(phases->second);
    for (const auto& [step, phase] : turns.object()) {
      turns_[std::stoi(step)] = phase.string();
    }
  }

  Replay run() {
    Moment at = start();
    Tensors next;
    std::set<std::string> seen;
    const int64_t steps = golden("loss").shape.at(0);
    for (int i = 0; i < steps; ++i) {
      const auto turn = turns_.find(i);
      if (turn != turns_.end()) enter(turn->second, i, at);
      const bool first = seen.insert(at.phase).second;
      step(i, {}, at, next);
      replay_.losses.push_back(find(next, "loss").values<float>().at(0));
      if (!std::isfinite(replay_.losses.back())) {
        throw Error(path_.string() + ": the loss of step " + std::to_string(i) +
                    " isn't finite; compare with --on python");
      }
      if (first) record_first(i, at, next);
      update(at, next);
    }
    record("loss", Tensor::of<float>({steps}, replay_.losses));
    record_state("end.", "parameter", at);
    record_state("statistic.", "statistic", at);
    decay();
    return std::move(replay_);
  }

 private:
  const Tensor& find(const Tensors& tensors, const std::string& name) const {
    const auto found = tensors.find(name);
    if (found != tensors.end()) return found->second;
    throw Error(path_.string() + ": the run needs " + name +
                ", which is neither recorded nor computed; export the artifact again");
  }
  const Tensor& golden(const std::string& name) const { return find(golden_, name); }

  // The parameters that the run starts with; those that it doesn't give are the initial ones.
  Moment start() const {
    Moment at{artifact_.first_phase(), artifact_.initial_state(), 0};
    for (auto& [name, tensor] : at.state) {
      const auto given = golden_.find("start." + name);
      if (given != golden_.end()) tensor = given->second;
    }
    return at;
  }

  void enter(const std::string& phase, int i, Moment& at) const {
    const std::string prefix = "indices." + std::to_string(i) + ".";
    RowSets rows;
    for (auto found = golden_.lower_bound(prefix);
         found != golden_.end() && found->first.rfind(prefix, 0) == 0; ++found) {
      rows[found->first.substr(prefix.size())] = found->second.values<int64_t>();
    }
    const Transition& transition = artifact_.transition(at.phase, phase);
    at.state = moved(transition, artifact_.layout(phase), std::move(at.state), rows);
    if (transition.restarts()) at.count = 0;
    at.phase = phase;
  }

  // Runs a method of a kind on golden batch i; tensors in `given` replace those of the batch.
  void run_kind(const std::string& kind, int i, const Tensors& given, const Moment& at,
                Tensors& outputs) {
    const std::string batch = "batch." + std::to_string(i) + ".";
    const auto source = [&](const Value& value) -> const Tensor& {
      if (is_state(value)) return find(at.state, value.name);
      if (value.role == "feature") return find(features_, value.name);
      const auto found = given.find(value.name);
      return found != given.end() ? found->second : golden(batch + value.name);
    };
    const int64_t seq = kind == "apply" ? 1 : golden(batch + "input_ids").shape.at(1);
    engine_.run(artifact_.method(kind, at.phase, artifact_.batch, seq), source, outputs);
  }

  void step(int i, Tensors given, const Moment& at, Tensors& next) {
    given.emplace("step", Tensor::scalar(float(at.count + 1)));
    if (artifact_.has("backbone")) run_kind("backbone", i, given, at, features_);
    if (accumulated_) {
      accumulate(i, given, at, next);
    } else {
      run_kind("train", i, given, at, next);
    }
  }

  void accumulate(int i, Tensors given, const Moment& at, Tensors& next) {
    for (const Value& value : artifact_.gradients(at.phase)) {
      given[value.name] = Tensor(value.dtype, value.shape);
    }
    const auto weight = given.find("example_weight");
    const Tensor weights = weight != given.end()
                               ? weight->second
                               : golden("batch." + std::to_string(i) + ".example_weight");
    float loss = 0;
    for (size_t row = 0; row < 2; ++row) {
      std::vector<float> half = weights.values<float>();
      for (size_t other = 1 - row; other < half.size(); other += 2) half[other] = 0;
      given["example_weight"] = Tensor::of(weights.shape, half);
      Tensors sums;
      run_kind("accumulate", i, given, at, sums);
      loss += sums.at("loss").values<float>().at(0);
      for (auto& [name, sum] : sums) given[name] = std::move(sum);
    }
    run_kind("apply", i, given, at, next);
    next["loss"] = Tensor::scalar(loss);
  }

  // Takes over what a step updated; the rest of the state stays.
  static void update(Moment& at, Tensors& next) {
    for (auto& [name, tensor] : at.state) {
      const auto found = next.find(name);
      if (found != next.end()) std::swap(tensor, found->second);
    }
    next.clear();
    ++at.count;
  }

  void record(const std::string& name, Tensor tensor) {
    replay_.result.emplace_back(name, std::move(tensor));
  }

  // What the first step in a phase shows, `next` being its outputs.
  void record_first(int i, const Moment& at, const Tensors& next) {
    const std::string prefix = at.phase == artifact_.first_phase() ? "" : "at." + at.phase + ".";
    for (const auto& [name, tensor] : features_) record(prefix + "features." + name, tensor);
    if (!artifact_.has("backbone")) {
      for (const std::string& name : artifact_.token_inputs) {
        if (name == kMask) continue;
        record(prefix + "features." + name, golden("batch." + std::to_string(i) + "." + name));
      }
    }
    Tensors predicted;
    run_kind("predict", i, {}, at, predicted);
    record(prefix + "logits", find(predicted, "logits"));
    for (const Value& value : artifact_.state) {
      const auto moment = next.find(value.name + "." + artifact_.first_moment);
      if (moment == next.end()) continue;
      std::vector<float> gradient = moment->second.values<float>();
      for (float& x : gradient) x *= artifact_.first_gradient_factor;
      record(prefix + "gradient." + value.name, Tensor::of(value.shape, gradient));
    }
  }

  void record_state(const std::string& prefix, const char* role, const Moment& at) {
    for (const Value& value : artifact_.layout(at.phase)) {
      if (value.role == role) record(prefix + value.name, find(at.state, value.name));
    }
  }

  // A step in which no example counts: only decoupled weight decay acts.
  void decay() {
    const Tensor& rate = golden("decay_rate");
    const Tensor& weights = golden("batch.0.example_weight");
    const Tensors given{{"example_weight", Tensor(weights.dtype, weights.shape)},
                        {"weight_sum", Tensor::scalar(1.0F)},
                        {"learning_rate.pieces", rate},
                        {"learning_rate.head", rate}};
    Moment at = start();
    Tensors next;
    step(0, given, at, next);
    update(at, next);
    record_state("decay.", "parameter", at);
  }

  const Artifact& artifact_;
  std::filesystem::path path_;
  Tensors golden_;
  std::map<int, std::string> turns_;  // the phases that the run goes to, before a step
  Engine engine_;
  bool accumulated_;
  Tensors features_;
  Replay replay_;
};

}  // namespace

Replay replay(const Artifact& artifact, std::optional<uint32_t> threads, bool accumulated) {
  return GoldenRun(artifact, threads, accumulated).run();
}

}  // namespace effine
