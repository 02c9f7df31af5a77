#include "dataset.h"

#include <algorithm>
#include <cstring>
#include <functional>

namespace effine {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRemedy = "; write it again with effine.runtime.tokens";

class Reader {
 public:
  Reader(const fs::path& path, const Artifact& artifact) : artifact_(artifact) {
    TensorFile file = read_tensor_file(path);
    metadata_ = std::move(file.metadata);
    for (auto& [name, tensor] : file.tensors) tensors_.emplace(name, std::move(tensor));
  }

  Dataset read() {
    if (text("format") != "effine tokens" || text("schema") != "1") {
      throw Error("not a tokens file of schema 1");
    }
    check_origin();
    Dataset data;
    data.offsets = tensor("offsets").values<int64_t>();
    data.ids = tensor("ids").values<int32_t>();
    data.type_ids = tensor("type_ids").values<uint8_t>();
    data.weights = tensor("weights").values<float>();
    data.targets = tensor("labels", target_shape().size() + 1);
    data.labels = strings(json("labels"));
    data.class_weights = json("class_weights");
    data.truncated = json("truncated").integer();
    data.fingerprint = text("fingerprint");
    check(data);
    for (size_t i = 0; i + 1 < data.offsets.size(); ++i) {
      data.seqs.push_back(artifact_.seq_for(data.offsets[i + 1] - data.offsets[i]));
    }
    return data;
  }

 private:
  const std::string& text(const std::string& name) const {
    const auto found = metadata_.find(name);
    if (found == metadata_.end()) throw Error("metadata \"" + name + "\" is missing");
    return found->second;
  }
  Json json(const std::string& name) const { return Json::parse(text(name)); }
  const Tensor& tensor(const std::string& name, size_t rank = 1) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end() || found->second.shape.size() != rank) {
      throw Error("there is no list " + name);
    }
    return found->second;
  }
  const std::string& task() const { return artifact_.manifest.at("task").at("name").string(); }
  size_t head_rows() const {
    const Json& task = artifact_.manifest.at("task");
    return task.at("labels").array().size() + task.at("spare_labels").natural();
  }
  // The shape of one sample's target.
  Shape target_shape() const {
    return task() == "multilabel" ? Shape{int64_t(head_rows())} : Shape{};
  }

  void check_origin() const {
    const Json& longest = artifact_.manifest.at("tokens").at("max_length");
    if (text("tokenizer") != artifact_.sha256_of("tokenizer.json") ||
        json("max_length") != longest) {
      throw Error("was made for an artifact with another tokenizer or length");
    }
  }

  void check(const Dataset& data) const {
    const auto& offsets = data.offsets;
    const bool ascending =
        offsets.front() == 0 &&
        std::adjacent_find(offsets.begin(), offsets.end(), std::greater_equal<>()) == offsets.end();
    const bool full = ascending && size_t(offsets.back()) == data.ids.size() &&
                      data.type_ids.size() == data.ids.size();
    const size_t samples = offsets.size() - 1;
    Shape targets = target_shape();
    targets.insert(targets.begin(), int64_t(samples));
    if (!full || samples == 0 || data.weights.size() != samples ||
        data.targets.shape != targets) {
      throw Error("its lists don't belong together");
    }
    check_targets(data);
  }

  void check_targets(const Dataset& data) const {
    const std::vector<std::string> known =
        strings(artifact_.manifest.at("task").at("labels"));
    if (data.labels.size() < known.size() || data.labels.size() > head_rows() ||
        !std::equal(known.begin(), known.end(), data.labels.begin())) {
      throw Error("its labels don't continue the artifact's");
    }
    if (task() != "classification") {
      data.targets.values<float>();
      return;
    }
    for (const int64_t target : data.targets.values<int64_t>()) {
      if (target < 0 || size_t(target) >= data.labels.size()) throw Error("a label is unknown");
    }
  }

  const Artifact& artifact_;
  Metadata metadata_;
  Tensors tensors_;
};

}  // namespace

Dataset Dataset::load(const fs::path& path, const Artifact& artifact) try {
  return Reader(path, artifact).read();
} catch (const std::exception& error) {
  const std::string message = error.what(), name = path.string() + ": ";
  throw Error((message.rfind(name, 0) == 0 ? message : name + message) + kRemedy);
}

Tensors Dataset::padded(const Indices& samples, int64_t batch, int64_t seq,
                        const Artifact& artifact) const {
  const size_t rows = size_t(batch), columns = size_t(seq);
  std::vector<int64_t> tokens(rows * columns, artifact.pad_id);
  std::vector<int64_t> types(rows * columns), mask(rows * columns);
  for (size_t row = 0; row < rows; ++row) {
    const size_t start = row * columns;
    if (row >= samples.size()) {
      mask[start] = 1;
      continue;
    }
    const auto begin = offsets[samples[row]], end = offsets[samples[row] + 1];
    std::copy(ids.begin() + begin, ids.begin() + end, tokens.begin() + int64_t(start));
    std::copy(type_ids.begin() + begin, type_ids.begin() + end, types.begin() + int64_t(start));
    std::fill_n(mask.begin() + int64_t(start), end - begin, 1);
  }
  Tensors inputs;
  for (const std::string& name : artifact.token_inputs) {
    const auto& values = name == "input_ids" ? tokens : name == "token_type_ids" ? types : mask;
    inputs[name] = Tensor::of({batch, seq}, values);
  }
  return inputs;
}

Tensor Dataset::batch_targets(const Indices& samples, int64_t batch) const {
  Shape shape = targets.shape;
  const size_t size = targets.data.size() / size_t(shape.at(0));
  shape[0] = batch;
  Tensor result(targets.dtype, shape);
  for (size_t row = 0; row < samples.size(); ++row) {
    std::memcpy(&result.data[row * size], &targets.data[samples[row] * size], size);
  }
  return result;
}

}  // namespace effine
