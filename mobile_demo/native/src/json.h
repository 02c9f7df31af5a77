// A strict JSON reader (RFC 8259): no comments, trailing commas, duplicate keys or NaN.
#pragma once

#include <cctype>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
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

  static Json parse(std::string_view text);

  const std::string& string() const { return get<std::string>("a string"); }
  int64_t integer() const { return get<int64_t>("an integer"); }
  const Array& array() const { return get<Array>("an array"); }
  const Object& object() const { return get<Object>("an object"); }
  double number() const {
    const auto* whole = std::get_if<int64_t>(&value_);
    return whole ? static_cast<double>(*whole) : get<double>("a number");
  }
  const Json& at(const std::string& key) const {
    const auto found = object().find(key);
    if (found == object().end()) throw Error("\"" + key + "\" is missing");
    return found->second;
  }

 private:
  template <typename T>
  const T& get(const char* expected) const {
    if (const T* value = std::get_if<T>(&value_)) return *value;
    throw Error(std::string("a value is not ") + expected);
  }

  friend class JsonParser;
  std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object> value_;
};

class JsonParser {
 public:
  explicit JsonParser(std::string_view text) : text_(text) {}

  Json document() {
    Json json = value(0);
    skip_spaces();
    if (at_ != text_.size()) fail("text after the end");
    return json;
  }

 private:
  static constexpr int kMaxDepth = 64;

  [[noreturn]] void fail(const std::string& what) const {
    throw Error("not valid JSON at byte " + std::to_string(at_) + ": " + what);
  }
  unsigned char byte() {
    if (at_ == text_.size()) fail("unfinished string");
    return static_cast<unsigned char>(text_[at_++]);
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(char wanted) {
    if (peek() != wanted || at_ == text_.size()) return false;
    ++at_;
    return true;
  }
  void expect(char wanted) {
    if (!take(wanted)) fail(std::string("expected ") + wanted);
  }
  void skip_spaces() {
    while (take(' ') || take('\n') || take('\r') || take('\t')) {
    }
  }

  Json value(int depth) {
    if (depth > kMaxDepth) fail("nested too deeply");
    skip_spaces();
    Json json;
    switch (peek()) {
      case '{': json.value_ = object(depth); break;
      case '[': json.value_ = array(depth); break;
      case '"': json.value_ = string(); break;
      case 't': word("true"), json.value_ = true; break;
      case 'f': word("false"), json.value_ = false; break;
      case 'n': word("null"), json.value_ = nullptr; break;
      default: number(json);
    }
    return json;
  }

  void word(std::string_view wanted) {
    if (text_.substr(at_, wanted.size()) != wanted) fail("unknown word");
    at_ += wanted.size();
  }

  void number(Json& json) {
    const size_t start = at_;
    take('-');
    if (!take('0')) digits();
    const size_t whole_end = at_;
    if (take('.')) digits();
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      digits();
    }
    const std::string token(text_.substr(start, at_ - start));
    errno = 0;
    if (at_ == whole_end) {
      json.value_ = static_cast<int64_t>(std::strtoll(token.c_str(), nullptr, 10));
    } else {
      json.value_ = std::strtod(token.c_str(), nullptr);
    }
    if (errno == ERANGE) fail("number out of range");
  }

  void digits() {
    const size_t start = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    if (at_ == start) fail("expected a value");
  }

  Json::Array array(int depth) {
    Json::Array items;
    expect('[');
    skip_spaces();
    if (take(']')) return items;
    do {
      items.push_back(value(depth + 1));
      skip_spaces();
    } while (take(','));
    expect(']');
    return items;
  }

  Json::Object object(int depth) {
    Json::Object items;
    expect('{');
    skip_spaces();
    if (take('}')) return items;
    do {
      skip_spaces();
      std::string key = string();
      skip_spaces();
      expect(':');
      const auto [place, added] = items.emplace(std::move(key), value(depth + 1));
      if (!added) fail("duplicate name \"" + place->first + "\"");
      skip_spaces();
    } while (take(','));
    expect('}');
    return items;
  }

  std::string string() {
    std::string result;
    expect('"');
    while (!take('"')) {
      const unsigned char c = byte();
      if (c < 0x20) fail("control character in a string");
      if (c == '\\') {
        escape(result);
      } else {
        result += static_cast<char>(c);
      }
    }
    return result;
  }

  void escape(std::string& result) {
    static constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const size_t letter = kLetters.find(static_cast<char>(byte()));
    if (letter != std::string_view::npos) {
      result += kMeanings[letter];
      return;
    }
    --at_;
    uint32_t code = unit();
    if (code >= 0xDC00 && code < 0xE000) fail("lone surrogate");
    if (code >= 0xD800 && code < 0xDC00) {
      expect('\\');
      const uint32_t low = unit();
      if (low < 0xDC00 || low >= 0xE000) fail("lone surrogate");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    append_utf8(result, code);
  }

  uint32_t unit() {
    expect('u');
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      if (!std::isxdigit(static_cast<unsigned char>(peek()))) fail("bad \\u escape");
      const char c = peek();
      code = code * 16 + static_cast<uint32_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return code;
  }

  static void append_utf8(std::string& result, uint32_t code) {
    if (code < 0x80) {
      result += static_cast<char>(code);
      return;
    }
    const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    result += static_cast<char>((0xFF00 >> (more + 1) & 0xFF) | code >> (6 * more));
    for (int i = more - 1; i >= 0; --i) {
      result += static_cast<char>(0x80 | (code >> (6 * i) & 0x3F));
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

inline Json Json::parse(std::string_view text) { return JsonParser(text).document(); }

}  // namespace effine
