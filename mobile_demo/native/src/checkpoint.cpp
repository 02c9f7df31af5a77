#include "checkpoint.h"

#include "schedule.h"
#include "sha256.h"

namespace effine {
namespace {

namespace fs = std::filesystem;

// Settings that checkpoints leave out.
const Json::Object kImplied{{"cache_precision", "fp32"}, {"phase", Json()}};
constexpr const char* kFormat = "effine checkpoint";
constexpr const char* kSchema = "1";
constexpr const char* kBest = "best.";

std::string digest(const Metadata& metadata, const TensorList& tensors) {
  const std::string text = Json(Json::Object(metadata.begin(), metadata.end())).canonical();
  Sha256 hash;
  hash.update(text.data(), text.size());
  for (const auto& [name, tensor] : tensors) {
    hash.update(reinterpret_cast<const char*>(tensor->data.data()), tensor->data.size());
  }
  return hash.hex();
}

Metadata describe(const Artifact& artifact, const Run& run) {
  return {{"format", kFormat},
          {"schema", kSchema},
          {"identity", artifact.identity().canonical()},
          {"state_id", artifact.manifest.at("state_id").string()},
          {"manifest_sha256", artifact.manifest.at("sha256").string()},
          {"phase", run.phase},
          {"policy", run.policy.canonical()},
          {"step", std::to_string(run.step)},
          {"update", std::to_string(run.update)},
          {"total_updates", std::to_string(run.total)},
          {"epoch", std::to_string(run.epoch)},
          {"cursor", std::to_string(run.cursor)},
          {"seed", run.settings.at("seed").canonical()},
          {"data_fingerprint", run.fingerprint},
          {"settings", run.settings.canonical()},
          {"best_metric", "null"},
          {"patience_left", run.settings.at("patience").canonical()},
          {"labels", to_json(run.labels).canonical()},
          {"report", run.report.to_json().canonical()}};
}

const std::string& text_of(const Metadata& metadata, const std::string& name) {
  const auto found = metadata.find(name);
  if (found == metadata.end()) throw Error("damaged: " + name + " is missing");
  return found->second;
}

Json json_of(const Metadata& metadata, const std::string& name) {
  return Json::parse(text_of(metadata, name));
}

void check_whole(TensorFile& file) {
  if (file.metadata["format"] != kFormat) throw Error("not an effine checkpoint");
  if (file.metadata["schema"] != kSchema) {
    throw Error("schema " + file.metadata["schema"] + " isn't the one that this runner reads (" +
                kSchema + ")");
  }
  const std::string recorded = file.metadata["sha256"];
  file.metadata.erase("sha256");
  if (recorded != digest(file.metadata, list_of(file.tensors))) {
    throw Error("damaged: its contents don't give its sha256");
  }
}

void check_identity(const Metadata& metadata, const Artifact& artifact) {
  const Json there = json_of(metadata, "identity"), here = artifact.identity();
  std::string differences;
  for (const auto& [name, value] : here.object()) {
    if (there.at(name) != value) differences += (differences.empty() ? "" : ", ") + name;
  }
  if (differences.empty()) return;
  throw Error("belongs to another artifact, with other " + differences + "; nothing was changed");
}

Tensors take_state(TensorFile& file, const Artifact& artifact, const std::string& phase) {
  Tensors state;
  for (auto& [name, tensor] : file.tensors) {
    if (name.rfind(kBest, 0) != 0) state.emplace(name, std::move(tensor));
  }
  for (const Value& value : artifact.layout(phase)) {
    const auto found = state.find(value.name);
    if (found == state.end() || found->second.dtype != value.dtype ||
        found->second.shape != value.shape) {
      throw Error("damaged: " + value.name + " isn't there as the artifact declares it");
    }
  }
  return state;
}

Run read_run(const Metadata& metadata, const Artifact& artifact) {
  Run run;
  run.settings = json_of(metadata, "settings");
  run.fingerprint = text_of(metadata, "data_fingerprint");
  run.total = json_of(metadata, "total_updates").integer();
  run.epoch = json_of(metadata, "epoch").integer();
  run.cursor = json_of(metadata, "cursor").integer();
  run.update = json_of(metadata, "update").integer();
  run.step = json_of(metadata, "step").integer();
  run.phase = artifact.phase(text_of(metadata, "phase")).name;
  run.policy = json_of(metadata, "policy");
  run.labels = strings(json_of(metadata, "labels"));
  run.report = Report::from_json(json_of(metadata, "report"));
  return run;
}

}  // namespace

Json::Object with_implied(Json::Object settings) {
  settings.insert(kImplied.begin(), kImplied.end());
  return settings;
}

Json::Object without_implied(Json::Object settings) {
  for (const auto& [name, value] : kImplied) {
    const auto found = settings.find(name);
    if (found != settings.end() && found->second == value) settings.erase(found);
  }
  return settings;
}

Settings::Settings(const Json& json)
    : epochs(json.at("epochs").integer()),
      accumulate(json.at("accumulate").integer()),
      piece_rate(json.at("piece_rate").number()),
      head_rate(json.at("head_rate").number()),
      warmup(json.at("warmup").number()),
      schedule(json.at("schedule").string()),
      cache_precision(with_implied(json.object()).at("cache_precision").string()),
      seed(json.at("seed").natural()) {
  const Json* chosen = json.find("phase");
  if (chosen && !chosen->is_null()) phase = chosen->string();
  if (!is_schedule(schedule)) throw Error("schedule " + schedule + " is unknown; update effine");
}

Checkpoint Checkpoint::load(const fs::path& path, const Artifact& artifact) {
  TensorFile file = read_tensor_file(path);
  try {
    check_whole(file);
    check_identity(file.metadata, artifact);
    Run run = read_run(file.metadata, artifact);
    return {take_state(file, artifact, run.phase), std::move(run),
            text_of(file.metadata, "manifest_sha256")};
  } catch (const std::exception& error) {
    throw Error(path.string() + ": " + error.what());
  }
}

void save_checkpoint(const fs::path& path, const Artifact& artifact, const Tensors& state,
                     const Run& run) {
  TensorList tensors;
  for (const Value& value : artifact.layout(run.phase)) {
    tensors.emplace_back(value.name, &state.at(value.name));
  }
  Metadata metadata = describe(artifact, run);
  metadata["sha256"] = digest(metadata, tensors);
  write_tensors(path, tensors, metadata);
}

}  // namespace effine
