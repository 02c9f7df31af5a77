// What a feature cache saves over a run, by speeds measured before it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace effine {

// A sample as the estimate sees it.
struct CacheSample {
  size_t index;
  int64_t padded;  // the sequence length at which its features are computed
  uint64_t size;   // of its record, in bytes
  bool stored;     // before the run
};

// Seconds to compute features, per padded token, and to store and read them, per byte.
struct CacheSpeed {
  double compute, store, read;
};

struct CacheEstimate {
  int64_t samples = 0, fitting = 0;
  uint64_t size = 0;            // of the file in the end, in bytes
  double seconds = 0, saved = 0;  // all backbone passes without a cache, and what it saves

  std::string text() const;
};

// Adds up `epochs` passes in which samples are stored in order until the bound is reached;
// `size` is that of the file before.
CacheEstimate estimate(const std::vector<CacheSample>& samples, int64_t epochs, uint64_t size,
                       uint64_t bound, const CacheSpeed& speed);

// Such as 1,000.
std::string grouped(int64_t number);
// Such as 34 MB.
std::string megabytes(uint64_t size);

}  // namespace effine
