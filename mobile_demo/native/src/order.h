// The order of samples: SplitMix64, Fisher-Yates and windows of similar length, specified bit
// by bit in runtime_py/effine/runtime/order.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace effine {

class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t state) : state_(state) {}

  uint64_t next();
  // From 0 to bound - 1, all equally likely.
  uint64_t uniform(uint64_t bound);

  template <typename T>
  void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i-- > 1;) std::swap(items[i], items[uniform(i + 1)]);
  }

 private:
  uint64_t state_;
};

// The first number of a generator that starts at `number`.
uint64_t mix(uint64_t number);

SplitMix64 epoch_generator(uint64_t seed, uint64_t epoch);

using Indices = std::vector<size_t>;

// Indices of the samples of an epoch, batch by batch; `seqs` are their exported lengths.
std::vector<Indices> batches(const std::vector<int64_t>& seqs, size_t batch, uint64_t seed,
                             uint64_t epoch);

}  // namespace effine
