#include "json.h"

#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <system_error>

namespace effine {

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
      case '{': object(depth, json); break;
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
    const char* const first = text_.data() + start;
    const char* const last = text_.data() + at_;
    const auto read = [&](auto whole) {
      const bool fits = std::from_chars(first, last, whole).ec == std::errc();
      if (fits) json.value_ = whole;
      return fits;
    };
    if (at_ == whole_end) {
      if (!read(int64_t{}) && !read(uint64_t{})) fail("number out of range");
      return;
    }
    const double value = std::strtod(std::string(first, last).c_str(), nullptr);
    if (!std::isfinite(value)) fail("number out of range");
    json.value_ = value;
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

  void object(int depth, Json& json) {
    Json::Object items;
    expect('{');
    skip_spaces();
    if (!take('}')) {
      do {
        skip_spaces();
        const std::string& key = json.keys_.emplace_back(string());
        skip_spaces();
        expect(':');
        if (!items.emplace(key, value(depth + 1)).second) fail("duplicate name \"" + key + "\"");
        skip_spaces();
      } while (take(','));
      expect('}');
    }
    json.value_ = std::move(items);
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

namespace {

std::string quoted(const std::string& text) {
  static constexpr std::string_view kSpecial = "\"\\\b\f\n\r\t", kLetters = "\"\\bfnrt";
  std::string result = "\"";
  for (const char c : text) {
    const size_t special = kSpecial.find(c);
    if (special != std::string_view::npos) {
      result += {'\\', kLetters[special]};
    } else if (static_cast<unsigned char>(c) < 0x20) {
      constexpr char kHex[] = "0123456789abcdef";
      result += {'\\', 'u', '0', '0', kHex[c >> 4], kHex[c & 15]};
    } else {
      result += c;
    }
  }
  return result + "\"";
}

// As Python writes a float: the shortest digits, an exponent below 1e-4 and from 1e16 on.
std::string shortest(double value) {
  if (!std::isfinite(value)) throw Error("a number is NaN or Inf");
  const double size = std::fabs(value);
  const bool plain = size == 0 || (size >= 1e-4 && size < 1e16);
  std::string text(32, '\0');
  const auto format = plain ? std::chars_format::fixed : std::chars_format::scientific;
  const auto written = std::to_chars(text.data(), text.data() + text.size(), value, format);
  text.resize(static_cast<size_t>(written.ptr - text.data()));
  return plain && text.find('.') == std::string::npos ? text + ".0" : text;
}

struct Writer {
  std::string operator()(std::nullptr_t) const { return "null"; }
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(int64_t value) const { return std::to_string(value); }
  std::string operator()(uint64_t value) const { return std::to_string(value); }
  std::string operator()(double value) const { return shortest(value); }
  std::string operator()(const std::string& value) const { return quoted(value); }
  std::string operator()(const Json::Array& items) const {
    std::string text;
    for (const Json& item : items) text += (text.empty() ? "" : ",") + item.canonical();
    return "[" + text + "]";
  }
  std::string operator()(const Json::Object& items) const {
    std::string text;
    for (const auto& [name, item] : items) {
      text += (text.empty() ? "" : ",") + quoted(name) + ":" + item.canonical();
    }
    return "{" + text + "}";
  }
};

}  // namespace

Json Json::parse(std::string_view text) { return JsonParser(text).document(); }

std::string Json::canonical() const { return std::visit(Writer(), value_); }

uint64_t Json::natural() const {
  if (const auto* large = std::get_if<uint64_t>(&value_)) return *large;
  if (integer() < 0) throw Error("a value is negative");
  return static_cast<uint64_t>(integer());
}

double Json::number() const {
  if (const auto* whole = std::get_if<int64_t>(&value_)) return static_cast<double>(*whole);
  if (const auto* large = std::get_if<uint64_t>(&value_)) return static_cast<double>(*large);
  return get<double>("a number");
}

const Json* Json::find(const std::string& key) const {
  const auto found = object().find(key);
  return found == object().end() ? nullptr : &found->second;
}

const Json& Json::at(const std::string& key) const {
  if (const Json* value = find(key)) return *value;
  throw Error("\"" + key + "\" is missing");
}

std::vector<std::string> strings(const Json& array) {
  std::vector<std::string> texts;
  for (const Json& item : array.array()) texts.push_back(item.string());
  return texts;
}

Json to_json(const std::vector<std::string>& texts) {
  return Json::Array(texts.begin(), texts.end());
}

}  // namespace effine
