#include "arguments.h"

#include <charconv>
#include <cstdlib>
#include <system_error>
#include <utility>

namespace effine {

Arguments::Arguments(int argc, char** argv, const std::set<std::string>& options,
                     const std::set<std::string>& flags) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.rfind("--", 0) != 0) {
      words_.push_back(word);
    } else if (flags.count(word)) {
      values_[word] = "";
    } else if (!options.count(word)) {
      throw UsageError(word + ": unknown option; see --help");
    } else if (++i == argc) {
      throw UsageError(word + " needs a value; see --help");
    } else {
      values_[word] = argv[i];
    }
  }
}

const std::string& Arguments::text(const std::string& option) const {
  const auto found = values_.find(option);
  if (found == values_.end()) throw UsageError(option + " is missing; see --help");
  return found->second;
}

std::optional<uint64_t> Arguments::integer(const std::string& option, uint64_t low,
                                           uint64_t high) const {
  if (!has(option)) return std::nullopt;
  const std::string& value = text(option);
  uint64_t number = 0;
  const auto parsed = std::from_chars(value.data(), value.data() + value.size(), number);
  if (parsed.ec == std::errc() && parsed.ptr == value.data() + value.size() && number >= low &&
      number <= high) {
    return number;
  }
  throw UsageError(option + " needs a whole number from " + std::to_string(low) + " to " +
                   std::to_string(high));
}

std::optional<uint64_t> Arguments::bytes(const std::string& option) const {
  if (!has(option)) return std::nullopt;
  const std::string& value = text(option);
  uint64_t count = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), count);
  const std::string unit(end, value.data() + value.size());
  for (const auto& [name, factor] : {std::pair<const char*, uint64_t>{"", 1},
                                     {"kB", 1'000},
                                     {"MB", 1'000'000},
                                     {"GB", 1'000'000'000}}) {
    if (error == std::errc() && unit == name && count <= INT64_MAX / factor) return count * factor;
  }
  throw UsageError(option + " needs a size such as 512MB");
}

std::optional<double> Arguments::number(const std::string& option, double low,
                                        double high) const {
  if (!has(option)) return std::nullopt;
  const std::string& value = text(option);
  char* end = nullptr;
  const double number = std::strtod(value.c_str(), &end);
  if (!value.empty() && *end == '\0' && number >= low && number <= high) return number;
  throw UsageError(option + " needs a number from " + Json(low).canonical() + " to " +
                   Json(high).canonical());
}

}  // namespace effine
