#include "replay.h"

#include <cmath>

#include "engine.h"

namespace effine {
namespace {

class GoldenRun {
 public:
  GoldenRun(const Artifact& artifact, std::optional<uint32_t> threads, bool accumulated)
      : artifact_(artifact),
        path_(artifact.folder / "golden.safetensors"),
        golden_(read_tensors(path_)),
        engine_(artifact, threads),
        accumulated_(accumulated) {}

  Replay run() {
    Replay replay;
    Tensors state = start(), next;
    const int64_t steps = golden("loss").shape.at(0);
    for (int i = 0; i < steps; ++i) {
      step(i, float(i + 1), {}, state, next);
      replay.losses.push_back(find(next, "loss").values<float>().at(0));
      if (!std::isfinite(replay.losses.back())) {
        throw Error(path_.string() + ": the loss of step " + std::to_string(i) +
                    " isn't finite; compare with --on python");
      }
      if (i == 0) record_first(state, next, replay);
      std::swap(state, next);
    }
    replay.result.emplace_back("loss", Tensor::of<float>({steps}, replay.losses));
    record_parameters("end.", state, replay);
    decay(next);
    record_parameters("decay.", next, replay);
    return replay;
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
  Tensors start() const {
    Tensors state = artifact_.initial_state();
    for (auto& [name, tensor] : state) {
      const auto given = golden_.find("start." + name);
      if (given != golden_.end()) tensor = given->second;
    }
    return state;
  }

  // Runs a phase on golden batch i; tensors in `given` replace those of the batch.
  void run_phase(const std::string& phase, int i, const Tensors& given, const Tensors& state,
                 Tensors& outputs) {
    const std::string batch = "batch." + std::to_string(i) + ".";
    const auto source = [&](const Value& value) -> const Tensor& {
      if (value.role == "update" || value.role == "read") return find(state, value.name);
      if (value.role == "feature") return find(features_, value.name);
      const auto found = given.find(value.name);
      return found != given.end() ? found->second : golden(batch + value.name);
    };
    const int64_t seq = phase == "apply" ? 1 : golden(batch + "input_ids").shape.at(1);
    engine_.run(artifact_.method(phase, artifact_.batch, seq), source, outputs);
  }

  void step(int i, float count, Tensors given, const Tensors& state, Tensors& next) {
    given.emplace("step", Tensor::scalar(count));
    run_phase("backbone", i, given, state, features_);
    if (accumulated_) {
      accumulate(i, given, state, next);
    } else {
      run_phase("train", i, given, state, next);
    }
  }

  void accumulate(int i, Tensors given, const Tensors& state, Tensors& next) {
    for (const Value& value : artifact_.gradients()) {
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
      run_phase("accumulate", i, given, state, sums);
      loss += sums.at("loss").values<float>().at(0);
      for (auto& [name, sum] : sums) given[name] = std::move(sum);
    }
    run_phase("apply", i, given, state, next);
    next["loss"] = Tensor::scalar(loss);
  }

  void record_first(const Tensors& state, const Tensors& next, Replay& replay) {
    for (const auto& [name, tensor] : features_) {
      replay.result.emplace_back("features." + name, tensor);
    }
    Tensors predicted;
    run_phase("predict", 0, {}, state, predicted);
    replay.result.emplace_back("logits", find(predicted, "logits"));
    for (const Value& value : artifact_.state) {
      if (value.role != "parameter") continue;
      const Tensor& first = find(next, value.name + "." + artifact_.first_moment);
      std::vector<float> moment = first.values<float>();
      for (float& x : moment) x *= artifact_.first_gradient_factor;
      replay.result.emplace_back("gradient." + value.name, Tensor::of(value.shape, moment));
    }
  }

  void record_parameters(const std::string& prefix, const Tensors& state, Replay& replay) const {
    for (const Value& value : artifact_.state) {
      if (value.role == "parameter") {
        replay.result.emplace_back(prefix + value.name, find(state, value.name));
      }
    }
  }

  // A step in which no example counts: only decoupled weight decay acts.
  void decay(Tensors& next) {
    const Tensor& rate = golden("decay_rate");
    const Tensor& weights = golden("batch.0.example_weight");
    const Tensors given{{"example_weight", Tensor(weights.dtype, weights.shape)},
                        {"weight_sum", Tensor::scalar(1.0F)},
                        {"learning_rate.pieces", rate},
                        {"learning_rate.head", rate}};
    step(0, 1.0F, given, start(), next);
  }

  const Artifact& artifact_;
  std::filesystem::path path_;
  Tensors golden_;
  Engine engine_;
  bool accumulated_;
  Tensors features_;
};

}  // namespace

Replay replay(const Artifact& artifact, std::optional<uint32_t> threads, bool accumulated) {
  return GoldenRun(artifact, threads, accumulated).run();
}

}  // namespace effine
