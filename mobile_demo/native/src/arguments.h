// The command line: what it may say and what it says.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "json.h"

namespace effine {

// The command was used wrongly.
struct UsageError : Error {
  using Error::Error;
};

class Arguments {
 public:
  // Takes a command's words and its `--name value` options; `flags` are options without a value.
  Arguments(int argc, char** argv, const std::set<std::string>& options,
            const std::set<std::string>& flags);

  const std::vector<std::string>& words() const { return words_; }
  bool has(const std::string& option) const { return values_.count(option) > 0; }
  // The value of an option that must be there.
  const std::string& text(const std::string& option) const;
  std::optional<uint64_t> integer(const std::string& option, uint64_t low, uint64_t high) const;
  // A size such as 512MB, in bytes; without a unit it is one.
  std::optional<uint64_t> bytes(const std::string& option) const;
  std::optional<double> number(const std::string& option, double low, double high) const;

 private:
  std::vector<std::string> words_;
  std::map<std::string, std::string> values_;
};

}  // namespace effine
