#include "break_even.h"

#include <cmath>
#include <cstdio>

namespace effine {
namespace {

// Two digits behind the point below ten, none above.
std::string rounded(double value) {
  if (value >= 10) return grouped(std::llrint(value));
  char text[16];
  return {text, static_cast<size_t>(std::snprintf(text, sizeof text, "%.2f", value))};
}

}  // namespace

std::string CacheEstimate::text() const {
  const std::string part = fitting == samples ? "" : grouped(fitting) + " of ";
  return megabytes(size) + " for " + part + grouped(samples) + " samples, saves " +
         (saved > 0 ? "about " + rounded(saved) + " s" : "nothing") + " of " + rounded(seconds) +
         " s";
}

CacheEstimate estimate(const std::vector<CacheSample>& samples, int64_t epochs, uint64_t size,
                       uint64_t bound, const CacheSpeed& speed) {
  CacheEstimate result;
  result.size = size;
  for (const CacheSample& sample : samples) {
    ++result.samples;
    const double compute = speed.compute * double(sample.padded);
    result.seconds += compute * double(epochs);
    if (!sample.stored && result.size + sample.size > bound) continue;
    ++result.fitting;
    int64_t reads = epochs;
    if (!sample.stored) {
      result.size += sample.size;
      --reads;
      result.saved -= speed.store * double(sample.size);
    }
    result.saved += double(reads) * (compute - speed.read * double(sample.size));
  }
  return result;
}

std::string grouped(int64_t number) {
  std::string digits = std::to_string(number);
  for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

std::string megabytes(uint64_t size) { return rounded(double(size) / 1e6) + " MB"; }

}  // namespace effine
