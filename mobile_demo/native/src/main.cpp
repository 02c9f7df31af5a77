// effine-runner: replays an artifact's golden run without Python.
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "artifact.h"
#include "json.h"
#include "replay.h"
#include "tensors.h"

namespace {

constexpr const char* kUsage =
    "usage: effine-runner replay ARTIFACT RESULT.safetensors [--threads N]\n";

struct UsageError : effine::Error {
  using Error::Error;
};

struct Arguments {
  std::vector<std::string> words;
  std::optional<uint32_t> threads;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word != "--threads") {
      if (word.rfind("--", 0) == 0) throw UsageError(word + ": unknown option; see --help");
      arguments.words.push_back(word);
      continue;
    }
    const std::string value = ++i < argc ? argv[i] : "";
    uint32_t threads = 0;
    const auto parsed = std::from_chars(value.data(), value.data() + value.size(), threads);
    if (parsed.ptr != value.data() + value.size() || threads < 1 || threads > 256) {
      throw UsageError("--threads needs a number from 1 to 256");
    }
    arguments.threads = threads;
  }
  if (arguments.words.size() != 3 || arguments.words[0] != "replay") {
    throw UsageError("expected: replay ARTIFACT RESULT.safetensors; see --help");
  }
  if (!std::filesystem::is_directory(arguments.words[1])) {
    throw UsageError(arguments.words[1] + ": not an artifact folder; give a NAME.effine");
  }
  return arguments;
}

void run(const Arguments& arguments) {
  const auto artifact = effine::Artifact::load(arguments.words[1]);
  const effine::Replay replay = effine::replay(artifact, arguments.threads);
  effine::write_tensors(arguments.words[2], replay.result, {{"format", "effine replay"}});
  std::printf("replayed %zu steps: loss %.6f -> %.6f\n", replay.losses.size(),
              double(replay.losses.front()), double(replay.losses.back()));
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
  if (argc == 2 && std::string(argv[1]) == "--help") {
    std::fputs(kUsage, stdout);
    return 0;
  }
  run(parse(argc, argv));
  return 0;
} catch (const UsageError& error) {
  return report(error.what(), 2);
} catch (const std::exception& error) {
  return report(error.what(), 1);
}
