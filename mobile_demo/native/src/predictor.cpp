#include "predictor.h"

#include <utility>
#include <vector>

namespace effine {

namespace fs = std::filesystem;

Predictor::Predictor(Artifact artifact, const fs::path& checkpoint, const fs::path& tokens,
                     std::optional<uint32_t> threads)
    : artifact_(std::move(artifact)),
      learned_(Checkpoint::load(checkpoint, artifact_)),
      data_(Dataset::load(tokens, artifact_)),
      engine_(artifact_, threads),
      features_(artifact_, data_, engine_, {}, learned_.state) {
  for (const Value& value : artifact_.layout(learned_.run.phase)) {
    if (value.role == "moment") learned_.state.erase(value.name);
  }
  features_.enter(learned_.run.phase);
}

Tensor Predictor::logits() {
  std::vector<float> rows;
  int64_t width = 0;
  for (size_t sample = 0; sample < data_.size(); ++sample) {
    const int64_t seq = data_.seqs[sample];
    const Tensors features = features_.batch({sample}, 1, seq);
    const auto source = [&](const Value& value) -> const Tensor& {
      const auto found = features.find(value.name);
      return found != features.end() ? found->second : learned_.state.at(value.name);
    };
    const Method& method = artifact_.method("predict", learned_.run.phase, 1, seq);
    Tensors outputs;
    engine_.run(method, source, outputs);
    const std::vector<float> row = outputs.at("logits").values<float>();
    rows.insert(rows.end(), row.begin(), row.end());
    width = int64_t(row.size());
  }
  return Tensor::of({int64_t(data_.size()), width}, rows);
}

}  // namespace effine
