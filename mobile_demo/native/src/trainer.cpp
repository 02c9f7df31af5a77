#include "trainer.h"

#include <algorithm>
#include <cmath>

#include "schedule.h"
#include "sha256.h"
#include "sums.h"

namespace effine {
namespace {

Json settings_for(const Artifact& artifact, const Dataset& data, const Json::Object& given) {
  Json::Object settings = given;
  settings.insert({{"seed", 0}, {"patience", 0}, {"keep_best", true}});
  settings["class_weights"] = data.class_weights;
  for (const auto& [name, value] : artifact.manifest.at("recipe").object()) {
    settings.emplace(name, value);
  }
  return without_implied(settings);
}

// What differs between an interrupted run and the one that is to go on from it.
std::string differences(const Checkpoint& saved, const Json& settings, const Run& run,
                        const Artifact& artifact) {
  std::string result;
  const auto add = [&](const std::string& text) { result += (result.empty() ? "" : "; ") + text; };
  const Json before = with_implied(saved.run.settings.object());
  for (const auto& [name, value] : settings.object()) {
    const Json& there = before.at(name);
    if (there == value) continue;
    add("setting " + name + " (" + there.canonical() + " there, " + value.canonical() + " here)");
  }
  if (saved.run.fingerprint != run.fingerprint || saved.run.labels != run.labels) {
    add("the data are not those of the interrupted run");
  }
  if (saved.manifest_sha256 != artifact.manifest.at("sha256").string()) {
    add("the artifact has been exported again since");
  }
  return result;
}

}  // namespace

Trainer::Trainer(const Artifact& artifact, const TrainOptions& options)
    : artifact_(artifact),
      options_(options),
      data_(Dataset::load(options.data, artifact)),
      engine_(artifact, options.threads),
      features_(artifact, data_, engine_, options.cache, state_) {
  run_.fingerprint = sha256_hex(data_.fingerprint);
  run_.labels = data_.labels;
  options.resume ? resume() : start();
  const Settings settings(run_.settings);
  if (settings.accumulate > 1 && !artifact.has("accumulate")) {
    throw Error("--accumulate " + std::to_string(settings.accumulate) +
                ": the artifact has no program for it; export with --accumulate");
  }
  policy_ = policy_for(artifact, run_.total);
  const char* kind = settings.accumulate > 1 ? "accumulate" : "train";
  const int64_t longest = *std::max_element(data_.seqs.begin(), data_.seqs.end());
  engine_.warm_up(artifact.method(kind, run_.phase, artifact.batch, longest));
  begin_features();
}

void Trainer::start() {
  run_.phase = artifact_.first_phase();
  run_.settings = settings_for(artifact_, data_, options_.settings);
  run_.total = Settings(run_.settings).epochs * int64_t(order(0).size());
  run_.report.samples = int64_t(data_.size());
  run_.report.truncated = data_.truncated;
  state_ = artifact_.initial_state();
  const size_t known = artifact_.manifest.at("task").at("labels").array().size();
  if (data_.labels.size() != known) {
    Tensor& tensor = state_.at("head.bias");
    std::vector<float> bias = tensor.values<float>();
    std::fill(bias.begin() + int64_t(known), bias.begin() + int64_t(data_.labels.size()), 0.0F);
    tensor = Tensor::of(tensor.shape, bias);
  }
  if (const auto phase = Settings(run_.settings).phase) choose(*phase);
}

// Goes to a phase by hand, where a way leads there that takes no decisions.
void Trainer::choose(const std::string& phase) {
  std::string known;
  bool there = false;
  for (const Phase& one : artifact_.phases) {
    known += (known.empty() ? "the phases " : ", ") + one.name;
    there |= artifact_.phased && one.name == phase;
  }
  if (!there) {
    throw Error("--phase " + phase + ": the artifact has " +
                (artifact_.phased ? known : "no phases"));
  }
  if (phase == run_.phase) return;
  const Transition& way = artifact_.transition(run_.phase, phase);
  if (!way.gather.empty() || !way.scatter.empty()) {
    throw Error("--phase " + phase + ": training alone finds out what it takes");
  }
  enter(phase, {});
}

void Trainer::resume() {
  Checkpoint saved = Checkpoint::load(options_.checkpoint, artifact_);
  Json::Object settings = with_implied(saved.run.settings.object());
  for (const auto& [name, value] : options_.settings) settings[name] = value;
  settings["class_weights"] = data_.class_weights;
  const std::string problems = differences(saved, settings, run_, artifact_);
  if (!problems.empty()) {
    throw Error(options_.checkpoint.string() + ": can't resume: " + problems +
                "; use the same, and Python for a run with evaluation data");
  }
  run_ = std::move(saved.run);
  run_.report.cancelled = false;
  state_ = std::move(saved.state);
}

const Report& Trainer::train() {
  const int64_t epochs = Settings(run_.settings).epochs, first = run_.update;
  while (run_.epoch < epochs) {
    const std::vector<Indices> batches = order(run_.epoch);
    const int64_t last = int64_t(batches.size());
    while (run_.cursor < last && !options_.stop(run_.update - first)) {
      if (run_.cursor + 1 < last) features_.prefetch(batches[size_t(run_.cursor) + 1]);
      update(batches[size_t(run_.cursor++)]);
      if (policy_) consult();
      if (run_.update % options_.checkpoint_every == 0) save();
    }
    if (run_.cursor < last) {
      run_.report.cancelled = true;
      break;
    }
    end_epoch();
    save();
  }
  if (!run_.report.cancelled) finish();
  save();
  return run_.report;
}

std::vector<Indices> Trainer::order(int64_t epoch) const {
  const Settings settings(run_.settings);
  return batches(data_.seqs, size_t(artifact_.batch * settings.accumulate), settings.seed,
                 uint64_t(epoch));
}

void Trainer::update(const Indices& samples) {
  const bool one = Settings(run_.settings).accumulate == 1;
  const auto [loss, updated] = one ? step(samples) : accumulate(samples);
  ++run_.update;
  if (!std::isfinite(loss) || !finite_state(updated)) {
    run_.report.discarded.push_back(Json::Object{
        {"update", run_.update}, {"samples", Json::Array(samples.begin(), samples.end())}});
    return;
  }
  for (auto& [name, tensor] : state_) {
    const auto found = updated.find(name);
    if (found != updated.end()) copy(found->second, tensor);
  }
  ++run_.step;
  std::vector<float> weights;
  for (const size_t sample : samples) weights.push_back(data_.weights[sample]);
  const double weight = double(pairwise_sum(weights));
  run_.report.loss_sum += loss * weight;
  run_.report.weight_sum += weight;
}

bool Trainer::finite_state(const Views& updated) const {
  return std::all_of(updated.begin(), updated.end(), [&](const auto& named) {
    return !state_.count(named.first) || is_finite(named.second);
  });
}

std::pair<double, Views> Trainer::step(const Indices& samples) {
  Tensors inputs = scalars(samples);
  const int64_t seq = add_batch(samples, inputs);
  Views updated = run("train", seq, inputs);
  return {double(updated.at("loss").first()), std::move(updated)};
}

std::pair<double, Views> Trainer::accumulate(const Indices& samples) {
  Tensors inputs = scalars(samples);
  for (const Value& value : artifact_.gradients(run_.phase)) {
    inputs[value.name] = Tensor(value.dtype, value.shape);
  }
  double loss = 0;
  const size_t batch = size_t(artifact_.batch);
  for (size_t first = 0; first < samples.size(); first += batch) {
    const auto begin = samples.begin() + int64_t(first);
    const auto end = samples.begin() + int64_t(std::min(first + batch, samples.size()));
    const int64_t seq = add_batch(Indices(begin, end), inputs);
    const Views sums = run("accumulate", seq, inputs);
    loss += double(sums.at("loss").first());
    for (const auto& [name, sum] : sums) copy(sum, inputs[name]);
  }
  return {loss, run("apply", 1, inputs)};
}

int64_t Trainer::add_batch(const Indices& samples, Tensors& inputs) {
  int64_t seq = 0;
  for (const size_t sample : samples) seq = std::max(seq, data_.seqs[sample]);
  std::vector<float> weights(size_t(artifact_.batch));
  for (size_t row = 0; row < samples.size(); ++row) weights[row] = data_.weights[samples[row]];
  for (auto& [name, tensor] : features_.batch(samples, artifact_.batch, seq)) {
    inputs[name] = std::move(tensor);
  }
  inputs["labels"] = data_.batch_targets(samples, artifact_.batch);
  inputs["example_weight"] = Tensor::of({artifact_.batch}, weights);
  return seq;
}

Views Trainer::run(const char* kind, int64_t seq, const Tensors& inputs) {
  const auto source = [&](const Value& value) -> const Tensor& {
    const auto found = inputs.find(value.name);
    return found != inputs.end() ? found->second : state_.at(value.name);
  };
  return engine_.run(artifact_.method(kind, run_.phase, artifact_.batch, seq), source);
}

// What all batches of an update share.
Tensors Trainer::scalars(const Indices& samples) const {
  const Settings settings(run_.settings);
  const auto rate_from = [&](double peak) {
    return Tensor::scalar(
        rate(settings.schedule, peak, run_.update, run_.total, settings.warmup));
  };
  std::vector<float> weights(size_t(artifact_.batch * settings.accumulate));
  for (size_t row = 0; row < samples.size(); ++row) weights[row] = data_.weights[samples[row]];
  return {{"weight_sum", Tensor::scalar(pairwise_sum(weights))},
          {"step", Tensor::scalar(float(run_.step + 1))},
          {"learning_rate.pieces", rate_from(settings.piece_rate)},
          {"learning_rate.head", rate_from(settings.head_rate)}};
}

// Follows the policy's decision, and logs it; a new phase may cache features anew.
void Trainer::consult() {
  const auto decision = policy_->decide(run_.policy, run_.update, run_.phase, state_);
  if (!decision) return;
  const bool other = decision->phase != run_.phase;
  enter(decision->phase, decision->rows);
  run_.policy = decision->memory;
  Json::Object log = decision->found;
  const int64_t epochs = Settings(run_.settings).epochs;
  log.insert({{"update", run_.update},
              {"epoch", double(run_.update * epochs) / double(run_.total)},
              {"phase", decision->phase},
              {"reason", decision->reason}});
  run_.report.decisions.push_back(std::move(log));
  if (other) begin_features();
}

void Trainer::enter(const std::string& phase, const RowSets& rows) {
  const Transition& transition = artifact_.transition(run_.phase, phase);
  state_ = moved(transition, artifact_.layout(phase), std::move(state_), rows);
  run_.phase = phase;
  if (transition.restarts()) run_.step = 0;
}

void Trainer::begin_features() {
  const Settings settings(run_.settings);
  features_.enter(run_.phase);
  options_.on_cache(features_.begin(settings.cache_precision, settings.epochs - run_.epoch));
}

void Trainer::end_epoch() {
  run_.cursor = 0;
  ++run_.epoch;
  options_.on_epoch(run_.epoch, run_.report.end_epoch(run_.epoch));
}

void Trainer::finish() {
  engine_.unload();
  const auto rows = policy_ ? policy_->way_back(run_.policy) : std::nullopt;
  if (rows && run_.phase != artifact_.first_phase()) enter(artifact_.first_phase(), *rows);
  const Tensors initial = artifact_.initial_state();
  bool changed = false;
  for (const Value& value : artifact_.layout(run_.phase)) {
    changed |= value.role == "parameter" && initial.at(value.name).values<float>() !=
                                                state_.at(value.name).values<float>();
  }
  run_.report.diagnose(changed, artifact_.manifest.at("frozen_head"));
}

void Trainer::save() const { save_checkpoint(options_.checkpoint, artifact_, state_, run_); }

}  // namespace effine
