#include "artifact.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <set>

#include "json.h"
#include "sha256.h"

namespace effine {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSchema = 2;
constexpr uint64_t kMaxManifest = 64 << 20;
constexpr const char* kTrain = "train";
const std::set<std::string> kParts{"backbone", "predict", "accumulate", "apply"};
constexpr const char* kRemedy = "; export or copy the artifact again";

std::string hash_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(path.filename().string() + " can't be opened");
  Sha256 hash;
  std::vector<char> buffer(1 << 20);
  while (file.read(buffer.data(), std::streamsize(buffer.size())), file.gcount() > 0) {
    hash.update(buffer.data(), static_cast<size_t>(file.gcount()));
  }
  return hash.hex();
}

// The manifest's own hash counts its 64 digits as zeros.
void check_manifest(std::string text, const std::string& digits) {
  const size_t at = text.rfind(digits);
  if (digits.size() == 64 && at != std::string::npos) {
    text.replace(at, 64, 64, '0');
    if (sha256_hex(text) == digits) return;
  }
  throw Error("manifest.json differs from its sha256");
}

// Where a file is: in the artifact, or, weights of a bundle, beside it under their hash.
fs::path place_of(const fs::path& folder, const std::string& name, const Json& entry) {
  const fs::path own = folder / name;
  if (own.extension() != ".ptd" || fs::exists(own)) return own;
  const fs::path shared = fs::canonical(folder).parent_path() / "backbones" /
                          (entry.at("sha256").string() + ".ptd");
  return fs::exists(shared) ? shared : own;
}

void check_files(const fs::path& folder, const Json::Object& files) {
  for (const auto& [name, json] : files) {
    const fs::path path = place_of(folder, name, json);
    if (fs::path(name).filename() != name || !fs::is_regular_file(path)) {
      throw Error(name + " is missing or isn't a plain file name");
    }
    if (fs::file_size(path) != static_cast<uint64_t>(json.at("size").integer()) ||
        hash_of(path) != json.at("sha256").string()) {
      throw Error(name + " differs from its size or sha256 in manifest.json");
    }
  }
  const std::set<std::string> unlisted{"manifest.json", "manifest.sig", "reports"};
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!files.count(name) && !unlisted.count(name)) {
      throw Error(name + " isn't listed in manifest.json");
    }
  }
}

std::vector<Value> parse_values(const Json& json) {
  std::vector<Value> values;
  for (const Json& item : json.array()) {
    Value value{item.at("name").string(), item.at("role").string(),
                dtype_of(item.at("dtype").string()), {}};
    for (const Json& size : item.at("shape").array()) value.shape.push_back(size.integer());
    count(value.shape);
    values.push_back(std::move(value));
  }
  return values;
}

int64_t number_after(const std::string& name, const std::string& mark) {
  const size_t at = name.rfind(mark);
  int64_t number = 0;
  if (at != std::string::npos) {
    std::from_chars(name.data() + at + mark.size(), name.data() + name.size(), number);
  }
  if (number <= 0) throw Error("method " + name + " isn't named {phase}_b{batch}_s{seq}");
  return number;
}

Method parse_method(const fs::path& program, const std::string& name, const Json& json) {
  const int64_t batch = number_after(name, "_b"), seq = number_after(name, "_s");
  const std::string prefix = name.substr(0, name.rfind("_b"));
  const std::string part = prefix.substr(prefix.rfind('.') + 1);
  const std::string kind = kParts.count(part) ? part : kTrain;
  return {name,    prefix, kind, batch, seq, program, parse_values(json.at("inputs")),
          parse_values(json.at("outputs"))};
}

void parse_phases(const Json& manifest, Artifact& artifact) {
  const Json* phases = manifest.find("phases");
  artifact.phased = phases && !phases->object().empty();
  if (!artifact.phased) {
    artifact.phases.push_back({kTrain, manifest.at("method").at("layers_below").integer()});
    return;
  }
  for (const std::string& name : phases->keys()) {
    artifact.phases.push_back({name, phases->at(name).at("layers_below").integer()});
  }
  artifact.transitions = parse_transitions(manifest.at("transitions"));
  for (const Transition& transition : artifact.transitions) {
    const std::vector<Value> after = artifact.layout(artifact.phase(transition.target).name);
    for (const std::string& source : transition.sources) {
      check_makeable(transition, artifact.layout(artifact.phase(source).name), after);
    }
  }
}

Artifact parse(const fs::path& folder) {
  const std::string text = read_text(folder / "manifest.json", kMaxManifest);
  Artifact artifact;
  artifact.manifest = Json::parse(text);
  const Json& manifest = artifact.manifest;
  const int64_t schema = manifest.at("schema").integer();
  if (schema < 1 || schema > kSchema) {
    throw Error("manifest.json has schema " + std::to_string(schema) + ", this runner reads 1 to " +
                std::to_string(kSchema));
  }
  check_manifest(text, manifest.at("sha256").string());
  const std::string& target = manifest.at("target").at("name").string();
  if (target != "xnnpack") {
    throw Error("its programs are for " + target + ", this runner's for xnnpack; export it again");
  }
  const auto& files = manifest.at("files").object();
  check_files(folder, files);

  artifact.folder = folder;
  for (const auto& [kind, program] : manifest.at("programs").object()) {
    const std::string& file = program.at("file").string();
    if (!files.count(file)) throw Error("program " + file + " isn't among the files");
    for (const auto& [name, method] : program.at("methods").object()) {
      artifact.methods.push_back(parse_method(folder / file, name, method));
    }
  }
  for (const auto& [name, json] : files) {
    if (fs::path(name).extension() == ".ptd") {
      artifact.weights.push_back(place_of(folder, name, json));
    }
  }
  artifact.state = parse_values(manifest.at("state"));
  const Json& optimizer = manifest.at("optimizer");
  if (optimizer.at("moments").array().empty()) throw Error("the optimizer has no moment");
  artifact.first_moment = optimizer.at("moments").array().front().string();
  artifact.first_gradient_factor =
      static_cast<float>(optimizer.at("first_gradient_factor").number());
  artifact.batch = manifest.at("shapes").at("batch").integer();
  for (const Json& seq : manifest.at("shapes").at("seqs").array()) {
    artifact.seqs.push_back(seq.integer());
  }
  artifact.token_inputs = strings(manifest.at("tokens").at("inputs"));
  artifact.pad_id = manifest.at("tokens").at("pad_id").integer();
  parse_phases(manifest, artifact);
  if (sha256_hex(artifact.identity().canonical()) != manifest.at("state_id").string()) {
    throw Error("state_id doesn't follow from method, backbone, labels and state");
  }
  return artifact;
}

}  // namespace

bool is_state(const Value& value) {
  return value.role == "read" || value.role == "update" || value.role == "statistic";
}

Artifact Artifact::load(const fs::path& folder) try {
  return parse(folder);
} catch (const std::exception& error) {
  throw Error(folder.string() + ": " + error.what() + kRemedy);
}

const Phase& Artifact::phase(const std::string& name) const {
  for (const Phase& known : phases) {
    if (known.name == name) return known;
  }
  throw Error("phase " + name + " is unknown to the artifact");
}

bool Artifact::has(const std::string& kind) const {
  return std::any_of(methods.begin(), methods.end(),
                     [&](const Method& method) { return method.kind == kind; });
}

std::string Artifact::prefix(const std::string& kind, const std::string& phase) const {
  if (kind == kTrain) return phase;
  const std::string own = phase + "." + kind;
  return std::any_of(methods.begin(), methods.end(),
                     [&](const Method& method) { return method.prefix == own; })
             ? own
             : kind;
}

const Method& Artifact::method(const std::string& kind, const std::string& phase, int64_t b,
                               int64_t seq) const {
  const std::string start = prefix(kind, phase);
  const Method* best = nullptr;
  for (const Method& method : methods) {
    const bool fits = method.prefix == start && method.batch == b && method.seq >= seq;
    if (fits && (!best || method.seq < best->seq)) best = &method;
  }
  if (best) return *best;
  throw Error(folder.string() + ": no " + start + " method for batch " + std::to_string(b) +
              " and length " + std::to_string(seq) + kRemedy);
}

std::vector<Value> Artifact::layout(const std::string& phase) const {
  if (!phased) return state;
  std::set<std::string> prefixes{phase}, used;
  for (const std::string& kind : kParts) prefixes.insert(prefix(kind, phase));
  for (const Method& method : methods) {
    if (!prefixes.count(method.prefix)) continue;
    for (const Value& value : method.inputs) {
      if (is_state(value)) used.insert(value.name);
    }
  }
  std::vector<Value> result;
  for (const Value& value : state) {
    if (used.count(value.name)) result.push_back(value);
  }
  return result;
}

const Transition& Artifact::transition(const std::string& source, const std::string& target) const {
  for (const Transition& way : transitions) {
    const auto& from = way.sources;
    if (way.target == target && std::find(from.begin(), from.end(), source) != from.end()) {
      return way;
    }
  }
  throw Error(folder.string() + ": no way leads from phase " + source + " to " + target + kRemedy);
}

std::vector<Value> Artifact::gradients(const std::string& phase) const {
  std::vector<Value> result;
  for (const Value& value : method("apply", phase, batch, 1).inputs) {
    if (value.role == "gradient") result.push_back(value);
  }
  return result;
}

int64_t Artifact::seq_for(int64_t length) const {
  for (const int64_t seq : seqs) {
    if (seq >= length) return seq;
  }
  throw Error(std::to_string(length) + " tokens exceed the longest exported sequence");
}

const std::string& Artifact::sha256_of(const std::string& file) const {
  return manifest.at("files").at(file).at("sha256").string();
}

Tensors Artifact::initial_state() const {
  const fs::path path = folder / "state.safetensors";
  const Tensors parameters = read_tensors(path);
  Tensors result;
  for (const Value& value : layout(first_phase())) {
    Tensor& tensor = result[value.name] = Tensor(value.dtype, value.shape);
    if (value.role != "parameter") continue;
    const auto found = parameters.find(value.name);
    if (found == parameters.end() || found->second.dtype != value.dtype ||
        found->second.shape != value.shape) {
      throw Error(path.string() + ": " + value.name + " isn't there as declared" + kRemedy);
    }
    tensor = found->second;
  }
  return result;
}

Json Artifact::identity() const {
  const Json &method = manifest.at("method"), &task = manifest.at("task");
  return Json::Object{{"method", method.at("name")},
                      {"options", method.at("options")},
                      {"first_layer", method.at("first_layer")},
                      {"backbone", manifest.at("backbone").at("sha256")},
                      {"labels", task.at("labels")},
                      {"spare_labels", task.at("spare_labels")},
                      {"state", sha256_hex(manifest.at("state").canonical())}};
}

}  // namespace effine
