// JSON (RFC 8259): a strict reader, without comments, trailing commas, duplicate keys or NaN,
// and the canonical writer.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace effine {

// Everything that goes wrong; the message is one line and says what to do.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::map<std::string, Json>;

  Json() = default;
  Json(bool value) : value_(value) {}
  Json(double value) : value_(value) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}
  template <typename T, std::enable_if_t<std::is_integral_v<T>, int> = 0>
  Json(T value) : value_(integer_value(value)) {}

  static Json parse(std::string_view text);

  // The one text of a value, as Python's canonical JSON: sorted keys, no spaces, characters
  // unescaped, numbers as short as they read back; refuses NaN and Inf.
  std::string canonical() const;

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value_); }
  bool boolean() const { return get<bool>("true or false"); }
  const std::string& string() const { return get<std::string>("a string"); }
  int64_t integer() const { return get<int64_t>("an integer"); }
  const Array& array() const { return get<Array>("an array"); }
  const Object& object() const { return get<Object>("an object"); }
  uint64_t natural() const;
  double number() const;
  const Json& at(const std::string& key) const;
  // The value of a key that may be left out.
  const Json* find(const std::string& key) const;
  // The keys of an object in the order of the text that it was read from.
  const std::vector<std::string>& keys() const { return keys_; }

  // Numbers are equal by value, whether written with a point or not.
  friend bool operator==(const Json& a, const Json& b) {
    return a.is_number() && b.is_number() ? a.number() == b.number() : a.value_ == b.value_;
  }
  friend bool operator!=(const Json& a, const Json& b) { return !(a == b); }

 private:
  // Unsigned only above the range of int64.
  using Value =
      std::variant<std::nullptr_t, bool, int64_t, uint64_t, double, std::string, Array, Object>;

  template <typename T>
  static Value integer_value(T value) {
    if (std::is_unsigned_v<T> && static_cast<uint64_t>(value) > INT64_MAX) {
      return static_cast<uint64_t>(value);
    }
    return static_cast<int64_t>(value);
  }
  template <typename T>
  const T& get(const char* expected) const {
    if (const T* value = std::get_if<T>(&value_)) return *value;
    throw Error(std::string("a value is not ") + expected);
  }
  bool is_number() const {
    return std::holds_alternative<int64_t>(value_) || std::holds_alternative<uint64_t>(value_) ||
           std::holds_alternative<double>(value_);
  }

  friend class JsonParser;
  Value value_;
  std::vector<std::string> keys_;
};

// A list of strings, both ways.
std::vector<std::string> strings(const Json& array);
Json to_json(const std::vector<std::string>& texts);

}  // namespace effine
