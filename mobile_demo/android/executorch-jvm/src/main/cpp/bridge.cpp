// The native half of the stand-ins: ExecuTorch's Module from the Python wheel, used as Android's
// TrainingModule uses it.
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/platform/platform.h>
#include <jni.h>

#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

// The wheel ships the thread pool's library without this header.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace {

namespace et = executorch::extension;
namespace etr = executorch::runtime;
using executorch::aten::ScalarType;

std::mutex log_mutex;
// The first error of the current call; leaked, as back ends may log at exit.
std::string& first_log = *new std::string;

void keep_log(et_timestamp_t, et_pal_log_level_t level, const char*, const char*, size_t,
              const char* message, size_t length) {
  const std::lock_guard lock(log_mutex);
  if (level == kError && first_log.empty()) first_log.assign(message, length);
}

template <typename T>
T& checked(etr::Result<T>& result, const std::string& what) {
  if (result.ok()) return result.get();
  const std::lock_guard lock(log_mutex);
  throw std::runtime_error(what + " failed with code " + std::to_string(int(result.error())) +
                           (first_log.empty() ? "" : " (" + first_log + ")"));
}

std::string text(JNIEnv* env, jstring value) {
  const char* characters = env->GetStringUTFChars(value, nullptr);
  std::string result = characters;
  env->ReleaseStringUTFChars(value, characters);
  return result;
}

// Runs C++ code and turns what it throws into the stock runtime's exception.
template <typename Code>
auto guarded(JNIEnv* env, Code code) -> decltype(code()) {
  try {
    return code();
  } catch (const std::exception& error) {
    env->ThrowNew(env->FindClass("org/pytorch/executorch/ExecutorchRuntimeException"),
                  error.what());
    return {};
  }
}

std::vector<et::TensorPtr> inputs(JNIEnv* env, jobjectArray data, jobjectArray shapes,
                                  jintArray codes) {
  std::vector<et::TensorPtr> tensors;
  for (jsize i = 0; i < env->GetArrayLength(data); ++i) {
    const auto shape = static_cast<jlongArray>(env->GetObjectArrayElement(shapes, i));
    std::vector<jlong> sizes(size_t(env->GetArrayLength(shape)));
    env->GetLongArrayRegion(shape, 0, jsize(sizes.size()), sizes.data());
    jint code = 0;
    env->GetIntArrayRegion(codes, i, 1, &code);
    void* const memory = env->GetDirectBufferAddress(env->GetObjectArrayElement(data, i));
    if (memory == nullptr) throw std::runtime_error("an input isn't a direct buffer");
    tensors.push_back(et::make_tensor_ptr(
        std::vector<executorch::aten::SizesType>(sizes.begin(), sizes.end()), memory,
        static_cast<ScalarType>(code)));
  }
  return tensors;
}

jobject output(JNIEnv* env, jclass type, jmethodID over, const etr::EValue& value) {
  const auto& tensor = value.toTensor();
  const std::vector<jlong> sizes(tensor.sizes().begin(), tensor.sizes().end());
  const jlongArray shape = env->NewLongArray(jsize(sizes.size()));
  env->SetLongArrayRegion(shape, 0, jsize(sizes.size()), sizes.data());
  const jobject memory =
      env->NewDirectByteBuffer(tensor.mutable_data_ptr(), jlong(tensor.nbytes()));
  return env->CallStaticObjectMethod(type, over, memory, shape, jint(tensor.scalar_type()));
}

// How many outputs are the user's, by the constant method that Android's TrainingModule asks.
size_t user_outputs(et::Module& module, const std::string& method) {
  for (const char* marker : {"__et_training_parameters_index_", "__et_training_fqn_"}) {
    auto there = module.execute(marker + method);
    checked(there, marker + method);
  }
  auto index = module.execute("__et_training_gradients_index_" + method);
  return size_t(checked(index, "the gradients' index of " + method).at(0).toInt());
}

}  // namespace

extern "C" {

JNIEXPORT void JNICALL Java_org_pytorch_executorch_Bridge_setThreads(JNIEnv*, jobject,
                                                                     jint count) {
  et::threadpool::get_threadpool()->_unsafe_reset_threadpool(uint32_t(count));
}

JNIEXPORT jlong JNICALL Java_org_pytorch_executorch_Bridge_load(JNIEnv* env, jobject,
                                                                jstring program,
                                                                jstring weights) {
  etr::register_pal(etr::PalImpl::create(keep_log, __FILE__));
  std::vector<std::string> files;
  if (weights != nullptr) files.push_back(text(env, weights));
  return reinterpret_cast<jlong>(
      new et::Module(text(env, program), std::move(files), et::Module::LoadMode::File));
}

JNIEXPORT void JNICALL Java_org_pytorch_executorch_Bridge_close(JNIEnv*, jobject, jlong handle) {
  delete reinterpret_cast<et::Module*>(handle);
}

JNIEXPORT jobjectArray JNICALL Java_org_pytorch_executorch_Bridge_execute(
    JNIEnv* env, jobject, jlong handle, jstring name, jobjectArray data, jobjectArray shapes,
    jintArray codes) {
  return guarded(env, [&]() -> jobjectArray {
    {
      const std::lock_guard lock(log_mutex);
      first_log.clear();
    }
    auto& module = *reinterpret_cast<et::Module*>(handle);
    const std::string method = text(env, name);
    const std::vector<et::TensorPtr> tensors = inputs(env, data, shapes, codes);
    const std::vector<etr::EValue> values(tensors.begin(), tensors.end());
    const size_t count = user_outputs(module, method);
    auto results = module.execute(method, values);
    checked(results, method);
    const jclass type = env->FindClass("org/pytorch/executorch/EValue");
    const jmethodID over = env->GetStaticMethodID(
        type, "over", "(Ljava/nio/ByteBuffer;[JI)Lorg/pytorch/executorch/EValue;");
    if (over == nullptr) return nullptr;
    const jobjectArray outputs = env->NewObjectArray(jsize(count), type, nullptr);
    for (size_t i = 0; i < count; ++i) {
      env->SetObjectArrayElement(outputs, jsize(i), output(env, type, over, results->at(i)));
    }
    return outputs;
  });
}

}  // extern "C"
