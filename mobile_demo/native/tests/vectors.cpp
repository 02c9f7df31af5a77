// Checks the order of samples, the schedules, the rounding of features and the counts of tokens
// against the vectors that all languages share.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "gates.h"
#include "json.h"
#include "order.h"
#include "packing.h"
#include "schedule.h"
#include "tensors.h"

namespace {

using effine::Json;

int failures = 0;

void expect(bool holds, const std::string& what, const Json& vector) {
  if (holds) return;
  ++failures;
  std::printf("%s differs: %.200s\n", what.c_str(), vector.canonical().c_str());
}

// The files hold numbers as texts where JSON readers might round them.
uint64_t natural(const Json& text) { return std::stoull(text.string()); }
double real(const Json& text) { return std::strtod(text.string().c_str(), nullptr); }

bool gives(effine::SplitMix64 generator, const Json& outputs) {
  bool same = true;
  for (const Json& output : outputs.array()) same &= generator.next() == natural(output);
  return same;
}

void check_order(const Json& file) {
  for (const Json& v : file.at("splitmix64").array()) {
    expect(gives(effine::SplitMix64(natural(v.at("state"))), v.at("outputs")), "splitmix64", v);
  }
  for (const Json& v : file.at("mix").array()) {
    expect(effine::mix(natural(v.at("number"))) == natural(v.at("result")), "mix", v);
  }
  for (const Json& v : file.at("epoch_generator").array()) {
    const auto generator =
        effine::epoch_generator(natural(v.at("seed")), v.at("epoch").natural());
    expect(gives(generator, v.at("outputs")), "epoch_generator", v);
  }
  for (const Json& v : file.at("batches").array()) {
    std::vector<int64_t> lengths;
    for (const Json& length : v.at("lengths").array()) lengths.push_back(length.integer());
    Json::Array batches;
    for (const auto& batch : effine::batches(lengths, v.at("batch").natural(),
                                             natural(v.at("seed")), v.at("epoch").natural())) {
      batches.push_back(Json::Array(batch.begin(), batch.end()));
    }
    expect(Json(batches) == v.at("batches"), "batches", v);
  }
}

void check_schedule(const Json& file) {
  for (const Json& v : file.at("cos_pi").array()) {
    expect(effine::cos_pi(real(v.at("p"))) == real(v.at("result")), "cos_pi", v);
  }
  for (const Json& v : file.at("rates").array()) {
    bool same = true;
    int64_t update = 0;
    for (const Json& wanted : v.at("rates").array()) {
      same &= effine::rate(v.at("schedule").string(), real(v.at("peak")), update++,
                           v.at("total").integer(), real(v.at("warmup"))) == real(wanted);
    }
    expect(same && update == v.at("total").integer(), "rates", v);
  }
}

std::string bytes_of(const std::string& digits) {
  std::string bytes;
  for (size_t i = 0; i < digits.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

void check_packing(const Json& file) {
  for (const Json& v : file.array()) {
    const std::vector<float> rows = effine::decode(bytes_of(v.at("rows").string()), 1, "fp32");
    const size_t count = rows.size() / v.at("width").natural();
    for (const std::string precision : {"fp16", "int8"}) {
      const std::string payload = effine::encode(rows, count, precision);
      expect(payload == bytes_of(v.at(precision).string()), precision, v);
      const std::vector<float> read = effine::decode(payload, count, precision);
      const Json& wanted = v.at(precision + "_read");
      if (wanted.is_null()) {
        for (const float value : read) expect(std::isnan(value), precision + " read", v);
      } else {
        expect(effine::encode(read, count, "fp32") == bytes_of(wanted.string()),
               precision + " read", v);
      }
    }
  }
}

void check_gates(const Json& file) {
  for (const Json& v : file.at("counts").array()) {
    const std::vector<int64_t> found = effine::counts(
        v.at("rung").string(), size_t(v.at("layers").natural()), v.at("seq").integer());
    expect(Json(Json::Array(found.begin(), found.end())) == v.at("counts"), "counts", v);
  }
  for (const Json& v : file.at("needed").array()) {
    std::vector<float> gates;
    for (const Json& gate : v.at("gates").array()) gates.push_back(float(gate.number()));
    expect(effine::needed(gates) == v.at("count").integer(), "needed", v);
  }
}

Json read(const std::string& path) { return Json::parse(effine::read_text(path, 1 << 24)); }

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) throw effine::Error("usage: effine-vectors FOLDER");
  const std::string folder = argv[1];
  check_order(read(folder + "/order.json"));
  check_schedule(read(folder + "/schedule.json"));
  check_packing(read(folder + "/packing.json"));
  check_gates(read(folder + "/gates.json"));
  return failures == 0 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "effine-vectors: %s\n", error.what());
  return 2;
}
