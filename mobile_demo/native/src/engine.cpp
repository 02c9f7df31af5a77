#include "engine.h"

#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/backend/options.h>
#include <executorch/runtime/platform/platform.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "json.h"
#include "memory.h"

// The wheel ships the thread pool's library without this header.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace effine {
namespace {

namespace et = executorch::extension;
namespace etr = executorch::runtime;
using executorch::aten::ScalarType;

std::mutex log_mutex;
// Of the current call: the cause of a failure comes first. Leaked, as back ends may log at exit.
std::string& first_log = *new std::string;

// ExecuTorch logs several lines for each failure; its first error ends up in ours.
void keep_log(et_timestamp_t, et_pal_log_level_t level, const char*, const char*, size_t,
              const char* message, size_t length) {
  const std::lock_guard lock(log_mutex);
  if (level == kFatal) std::fprintf(stderr, "ExecuTorch: %.*s\n", int(length), message);
  if (level == kError && first_log.empty()) first_log.assign(message, length);
}

void clear_log() {
  const std::lock_guard lock(log_mutex);
  first_log.clear();
}

void check(etr::Error error, const std::string& what) {
  if (error == etr::Error::Ok) return;
  const std::lock_guard lock(log_mutex);
  throw Error(what + " failed in ExecuTorch with code " + std::to_string(int(error)) +
              (first_log.empty() ? "" : " (" + first_log + ")") +
              "; was it exported for another ExecuTorch version?");
}

ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::f32: return ScalarType::Float;
    case DType::f64: return ScalarType::Double;
    case DType::i64: return ScalarType::Long;
    case DType::i32: return ScalarType::Int;
    case DType::u8: return ScalarType::Byte;
  }
  throw Error("unknown dtype");
}

template <typename Sizes>
bool matches(const Value& value, ScalarType type, const Sizes& sizes) {
  return type == scalar_type(value.dtype) &&
         std::equal(sizes.begin(), sizes.end(), value.shape.begin(), value.shape.end());
}

[[noreturn]] void mismatch(const Method& method, const Value& value, const std::string& found) {
  throw Error(method.program.string() + ": " + method.name + ": " + value.name + " is " + found +
              ", the manifest says " + describe(value.dtype, value.shape) + "; export again");
}

void check_signature(const Method& method, const etr::MethodMeta& meta) {
  if (meta.num_inputs() != method.inputs.size() || meta.num_outputs() != method.outputs.size()) {
    throw Error(method.program.string() + ": " + method.name +
                " has other inputs or outputs than the manifest says; export again");
  }
  for (size_t i = 0; i < method.inputs.size(); ++i) {
    const auto info = meta.input_tensor_meta(i);
    check(info.error(), method.name);
    if (!matches(method.inputs[i], info->scalar_type(), info->sizes())) {
      mismatch(method, method.inputs[i], "another tensor in the program");
    }
  }
}

// XNNPACK's weight cache tells only its log that it has lost count of who uses what.
void give_back(et::Module& module, const Method& method) {
  clear_log();
  module.unload_method(method.name);
  const std::lock_guard lock(log_mutex);
  if (!first_log.empty()) {
    throw Error(method.program.string() + ": unloading " + method.name + ": " + first_log);
  }
}

View view_of(const Method& method, const Value& value, const etr::EValue& result) {
  if (!result.isTensor()) mismatch(method, value, "not a tensor");
  const auto& tensor = result.toTensor();
  if (!matches(value, tensor.scalar_type(), tensor.sizes())) {
    mismatch(method, value, "another tensor in the program");
  }
  const auto* data = static_cast<const std::byte*>(tensor.const_data_ptr());
  return {value.dtype, &value.shape, data, tensor.nbytes()};
}

}  // namespace

Engine::Engine(const Artifact& artifact, std::optional<uint32_t> threads) : artifact_(artifact) {
  etr::register_pal(etr::PalImpl::create(keep_log, __FILE__));
  if (threads && !et::threadpool::get_threadpool()->_unsafe_reset_threadpool(*threads)) {
    throw Error("--threads " + std::to_string(*threads) + ": too many for this machine");
  }
  // XNNPACK packs weights once for all methods instead of once for each.
  etr::BackendOptions<1> options;
  check(options.set_option("weight_cache_enabled", true), "XNNPACK's weight cache");
  check(etr::set_option("XnnpackBackend", options.view()), "XNNPACK's weight cache");
}

et::Module& Engine::load(const Method& method) {
  const std::string file = method.program.string(), what = file + ": loading " + method.name;
  auto& module = modules_[file];
  if (!module) {
    // All methods of a program share one arena: outputs are copied before the next call.
    std::vector<std::string> weights;
    // Without a backbone nothing is frozen, and a file without weights is refused.
    if (artifact_.has("backbone")) {
      weights.assign(artifact_.weights.begin(), artifact_.weights.end());
    }
    module = std::make_unique<et::Module>(file, std::move(weights), et::Module::LoadMode::Mmap,
                                          nullptr, nullptr, nullptr, true);
    check(module->load(etr::Program::Verification::InternalConsistency), what);
  }
  if (!module->is_method_loaded(method.name)) {
    const auto meta = module->method_meta(method.name);
    check(meta.error(), what);
    check_signature(method, *meta);
    check(module->load_method(method.name), what);
    // Loaded methods take memory; the backbone's stay, as samples need them in turns. The others
    // go only now, so that the new one finds the weights that they have packed.
    auto& loaded = loaded_[method.kind];
    if (method.kind != "backbone" || (!loaded.empty() && loaded[0]->prefix != method.prefix)) {
      for (const Method* other : loaded) give_back(*module, *other);
      loaded.clear();
    }
    // XNNPACK has packed copies of its own now.
    for (const auto& weights : artifact_.weights) release_mapped(weights);
    loaded.push_back(&method);
  }
  return *module;
}

void Engine::warm_up(const Method& method) {
  Tensors zeros;
  for (const Value& value : method.inputs) {
    zeros.emplace(value.name, Tensor(value.dtype, value.shape));
  }
  run(method, [&](const Value& value) -> const Tensor& { return zeros.at(value.name); });
}

void Engine::unload() {
  modules_.clear();
  loaded_.clear();
}

Views Engine::run(const Method& method, const Source& source) {
  clear_log();
  et::Module& module = load(method);
  std::vector<et::TensorPtr> owners;
  std::vector<etr::EValue> inputs;
  for (const Value& value : method.inputs) {
    const Tensor& tensor = source(value);
    if (tensor.dtype != value.dtype || tensor.shape != value.shape) {
      mismatch(method, value, describe(tensor.dtype, tensor.shape));
    }
    std::vector<executorch::aten::SizesType> sizes(value.shape.begin(), value.shape.end());
    // Programs plan no memory for inputs and never write to them.
    void* data = const_cast<std::byte*>(tensor.data.data());
    owners.push_back(et::make_tensor_ptr(std::move(sizes), data, scalar_type(value.dtype)));
    inputs.emplace_back(*owners.back());
  }
  const auto results = module.execute(method.name, inputs);
  check(results.error(), method.program.string() + ": running " + method.name);
  Views outputs;
  for (size_t i = 0; i < method.outputs.size(); ++i) {
    const Value& value = method.outputs[i];
    outputs.emplace(value.name, view_of(method, value, results->at(i)));
  }
  return outputs;
}

void Engine::run(const Method& method, const Source& source, Tensors& outputs) {
  for (const auto& [name, view] : run(method, source)) copy(view, outputs[name]);
}

}  // namespace effine
