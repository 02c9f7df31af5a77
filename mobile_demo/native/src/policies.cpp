#include "policies.h"

#include "autofreeze.h"
#include "far.h"
#include "gates.h"

namespace effine {

std::unique_ptr<Policy> policy_for(const Artifact& artifact, int64_t updates) {
  const std::string& method = artifact.manifest.at("method").at("name").string();
  if (method == "autofreeze") return std::make_unique<AutoFreeze>(artifact, updates);
  if (method == "far") return std::make_unique<Far>(artifact, updates);
  if (method == "gates") return std::make_unique<Gates>(artifact, updates);
  if (!artifact.phased) return nullptr;
  throw Error("method " + method + " can be replayed here but not trained yet; "
              "train it with effine.runtime.Trainer");
}

}  // namespace effine
