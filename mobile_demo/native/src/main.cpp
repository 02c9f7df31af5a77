// effine-runner: trains an artifact, or replays its golden run, without Python.
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "arguments.h"
#include "artifact.h"
#include "memory.h"
#include "predictor.h"
#include "replay.h"
#include "schedule.h"
#include "trainer.h"

namespace {

using effine::Arguments;
using effine::UsageError;

constexpr const char* kUsage =
    "usage: effine-runner train ARTIFACT --data TOKENS.safetensors --out RUN.ckpt\n"
    "           [--epochs N] [--piece-rate X] [--head-rate X] [--warmup SHARE] [--seed N]\n"
    "           [--schedule constant|linear|cosine] [--accumulate BATCHES] [--cache FILE]\n"
    "           [--cache-size SIZE] [--cache-precision fp32|fp16|int8] [--phase NAME]\n"
    "           [--checkpoint-every N] [--stop-after UPDATES] [--resume] [--threads N]\n"
    "       effine-runner predict ARTIFACT RUN.ckpt TOKENS.safetensors LOGITS.safetensors ...\n"
    "           [--threads N]\n"
    "       effine-runner replay ARTIFACT RESULT.safetensors [--accumulated] [--threads N]\n"
    "\n"
    "train   train on token ids that effine.runtime.tokens wrote; an interrupt ends the run\n"
    "        with a checkpoint, and --resume goes on from it\n"
    "predict write the logits of each text; further artifacts, each with its three files, stay\n"
    "        loaded beside the first, and those over one backbone hold it once\n"
    "replay  run the golden run and write what `effine parity` compares, with --accumulated by\n"
    "        way of gradient sums\n"
    "\n"
    "example: effine-runner train intents.effine --data train.safetensors --out intents.ckpt\n";

volatile std::sig_atomic_t interrupted = 0;
void interrupt(int) { interrupted = 1; }

effine::Artifact load(const std::string& folder) {
  if (std::filesystem::is_directory(folder)) return effine::Artifact::load(folder);
  throw UsageError(folder + ": not an artifact folder; give a NAME.effine");
}

// Targets of single tokens don't fit into the files of tokens that the runner trains on.
void check_task(const effine::Artifact& artifact) {
  const std::string& task = artifact.manifest.at("task").at("name").string();
  if (task != "classification" && task != "multilabel" && task != "regression") {
    throw effine::Error("task " + task + " can be replayed here, but neither trained nor "
                        "predicted with; use effine.runtime.Trainer");
  }
}

std::optional<uint32_t> threads(const Arguments& arguments) {
  return arguments.integer("--threads", 1, 256);
}

void print_bytes(const char* what, const std::optional<int64_t>& bytes) {
  if (bytes) std::printf("%s: %lld bytes\n", what, static_cast<long long>(*bytes));
}

void replay(int argc, char** argv) {
  const Arguments arguments(argc, argv, {"--threads"}, {"--accumulated"});
  if (arguments.words().size() != 3) {
    throw UsageError("expected: replay ARTIFACT RESULT.safetensors; see --help");
  }
  const effine::Replay replay =
      effine::replay(load(arguments.words()[1]), threads(arguments), arguments.has("--accumulated"));
  effine::write_tensors(arguments.words()[2], effine::list_of(replay.result),
                        {{"format", "effine replay"}});
  std::printf("replayed %zu steps: loss %.6f -> %.6f\n", replay.losses.size(),
              double(replay.losses.front()), double(replay.losses.back()));
}

effine::Json::Object settings(const Arguments& arguments) {
  constexpr double kAny = 1e308;
  effine::Json::Object settings;
  const auto add = [&](const char* name, const auto& value) {
    if (value) settings[name] = *value;
  };
  add("epochs", arguments.integer("--epochs", 1, 1'000'000'000));
  add("accumulate", arguments.integer("--accumulate", 1, 1'000'000));
  add("seed", arguments.integer("--seed", 0, UINT64_MAX));
  add("piece_rate", arguments.number("--piece-rate", 0, kAny));
  add("head_rate", arguments.number("--head-rate", 0, kAny));
  add("warmup", arguments.number("--warmup", 0, 1));
  if (arguments.has("--schedule")) {
    const std::string& schedule = arguments.text("--schedule");
    if (!effine::is_schedule(schedule)) {
      throw UsageError("--schedule " + schedule + ": use constant, linear or cosine");
    }
    settings["schedule"] = schedule;
  }
  if (arguments.has("--cache-precision")) {
    const std::string& precision = arguments.text("--cache-precision");
    if (!effine::is_cache_precision(precision)) {
      throw UsageError("--cache-precision " + precision + ": use fp32, fp16 or int8");
    }
    settings["cache_precision"] = precision;
  }
  if (arguments.has("--phase")) settings["phase"] = arguments.text("--phase");
  return settings;
}

void train(int argc, char** argv) {
  const Arguments arguments(argc, argv,
                            {"--data", "--out", "--epochs", "--piece-rate", "--head-rate",
                             "--warmup", "--seed", "--schedule", "--accumulate", "--cache",
                             "--cache-size", "--cache-precision", "--phase", "--checkpoint-every",
                             "--stop-after", "--threads"},
                            {"--resume"});
  if (arguments.words().size() != 2) {
    throw UsageError("expected: train ARTIFACT --data FILE --out FILE; see --help");
  }
  effine::TrainOptions options;
  options.data = arguments.text("--data");
  options.checkpoint = arguments.text("--out");
  if (arguments.has("--cache")) options.cache.path = arguments.text("--cache");
  options.cache.bound = arguments.bytes("--cache-size").value_or(options.cache.bound);
  options.settings = settings(arguments);
  options.resume = arguments.has("--resume");
  options.threads = threads(arguments);
  options.checkpoint_every = int64_t(arguments.integer("--checkpoint-every", 1, INT64_MAX)
                                         .value_or(uint64_t(options.checkpoint_every)));
  const auto limit = int64_t(arguments.integer("--stop-after", 1, INT64_MAX).value_or(INT64_MAX));
  options.stop = [=](int64_t updates) { return interrupted || updates >= limit; };
  options.on_epoch = [](int64_t epoch, std::optional<double> loss) {
    std::printf("epoch %lld: %s\n", static_cast<long long>(epoch),
                loss ? ("loss " + std::to_string(*loss)).c_str() : "every update was discarded");
    std::fflush(stdout);
  };
  options.on_cache = [](const std::string& line) {
    if (!line.empty()) std::printf("%s\n", line.c_str());
  };
  const effine::Artifact artifact = load(arguments.words()[1]);
  check_task(artifact);
  std::signal(SIGINT, interrupt);
  std::signal(SIGTERM, interrupt);
  const effine::Report report = effine::Trainer(artifact, options).train();
  for (const std::string& warning : report.warnings) std::printf("warning: %s\n", warning.c_str());
  std::printf("%s: %s\n", options.checkpoint.c_str(),
              report.cancelled ? "interrupted; --resume goes on" : "trained");
  print_bytes("peak memory", effine::peak_memory());
}

void predict(int argc, char** argv) {
  const Arguments arguments(argc, argv, {"--threads"}, {});
  const std::vector<std::string>& words = arguments.words();
  if (words.size() < 5 || words.size() % 4 != 1) {
    throw UsageError("expected: predict ARTIFACT RUN.ckpt TOKENS LOGITS ...; see --help");
  }
  std::vector<std::unique_ptr<effine::Predictor>> loaded;
  for (size_t i = 1; i < words.size(); i += 4) {
    effine::Artifact artifact = load(words[i]);
    check_task(artifact);
    loaded.push_back(std::make_unique<effine::Predictor>(std::move(artifact), words[i + 1],
                                                         words[i + 2], threads(arguments)));
    const effine::Tensor logits = loaded.back()->logits();
    effine::write_tensors(words[i + 3], {{"logits", &logits}}, {{"format", "effine logits"}});
    std::printf("%s: %lld texts\n", words[i + 3].c_str(),
                static_cast<long long>(logits.shape.at(0)));
    print_bytes("resident memory", effine::resident_memory());
    print_bytes("peak memory", effine::peak_memory());
  }
}

int report(std::string message, int code) {
  for (char& c : message) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  std::fprintf(stderr, "effine-runner: %s\n", message.c_str());
  return code;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "train") {
    train(argc, argv);
  } else if (command == "predict") {
    predict(argc, argv);
  } else if (command == "replay") {
    replay(argc, argv);
  } else if (command == "--help") {
    std::fputs(kUsage, stdout);
  } else {
    throw UsageError("expected train, predict or replay; see --help");
  }
  return 0;
} catch (const UsageError& error) {
  return report(error.what(), 2);
} catch (const std::exception& error) {
  return report(error.what(), 1);
}
