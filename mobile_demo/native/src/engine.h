// Executes an artifact's methods with ExecuTorch.
#pragma once

#include <executorch/extension/module/module.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "artifact.h"
#include "tensors.h"

namespace effine {

class Engine {
 public:
  // `threads` is the size of ExecuTorch's process-wide thread pool, by default its own choice.
  Engine(const Artifact& artifact, std::optional<uint32_t> threads);

  // Supplies the tensor for a declared input; it must outlive the call.
  using Source = std::function<const Tensor&(const Value&)>;

  // Runs a method; its outputs by name hold until the next call. The method is loaded when it is
  // first needed; of train and predict methods only the last one is kept, of backbone methods
  // those of one phase. Inputs of another shape or dtype are refused: they could abort inside the
  // runtime.
  Views run(const Method& method, const Source& source);
  // The same, copied into `outputs`.
  void run(const Method& method, const Source& source, Tensors& outputs);

  // Runs a method on zeros. XNNPACK has the old workspace beside the new one while it grows, so
  // that takes least where other programs aren't loaded yet.
  void warm_up(const Method& method);

  // Gives back what programs take; they are loaded again when they are needed.
  void unload();

 private:
  executorch::extension::Module& load(const Method& method);

  const Artifact& artifact_;
  std::map<std::string, std::unique_ptr<executorch::extension::Module>> modules_;
  std::map<std::string, std::vector<const Method*>> loaded_;  // by kind
};

}  // namespace effine
