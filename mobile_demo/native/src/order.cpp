#include "order.h"

#include <algorithm>
#include <iterator>
#include <numeric>

namespace effine {
namespace {

constexpr size_t kWindow = 16;

}  // namespace

uint64_t SplitMix64::next() {
  state_ += 0x9E3779B97F4A7C15;
  uint64_t z = state_;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
  z = (z ^ z >> 27) * 0x94D049BB133111EB;
  return z ^ z >> 31;
}

uint64_t SplitMix64::uniform(uint64_t bound) {
  const uint64_t excess = (UINT64_MAX % bound + 1) % bound;  // 2^64 modulo bound
  uint64_t number = next();
  while (number > UINT64_MAX - excess) number = next();
  return number % bound;
}

uint64_t mix(uint64_t number) { return SplitMix64(number).next(); }

SplitMix64 epoch_generator(uint64_t seed, uint64_t epoch) {
  return SplitMix64(mix(seed ^ mix(epoch)));
}

std::vector<Indices> batches(const std::vector<int64_t>& seqs, size_t batch, uint64_t seed,
                             uint64_t epoch) {
  SplitMix64 generator = epoch_generator(seed, epoch);
  Indices order(seqs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  generator.shuffle(order);
  std::vector<Indices> result;
  for (size_t start = 0; start < order.size(); start += kWindow * batch) {
    const auto first = order.begin() + static_cast<std::ptrdiff_t>(start);
    const size_t size = std::min(kWindow * batch, order.size() - start);
    const auto last = first + static_cast<std::ptrdiff_t>(size);
    std::stable_sort(first, last, [&](size_t a, size_t b) { return seqs[a] < seqs[b]; });
    std::vector<Indices> grouped;
    for (auto from = first; from != last;) {
      const auto to = from + std::min<std::ptrdiff_t>(std::ptrdiff_t(batch), last - from);
      grouped.emplace_back(from, to);
      from = to;
    }
    generator.shuffle(grouped);
    std::move(grouped.begin(), grouped.end(), std::back_inserter(result));
  }
  return result;
}

}  // namespace effine
