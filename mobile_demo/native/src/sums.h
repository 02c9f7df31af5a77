// Sums in the order of numpy's pairwise summation, which Python's runtime uses.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace effine {

template <typename T>
T pairwise_sum(const T* values, size_t size) {
  if (size < 8) {
    T total = 0;
    for (size_t i = 0; i < size; ++i) total += values[i];
    return total;
  }
  if (size > 128) {
    const size_t half = size / 2 / 8 * 8;
    return pairwise_sum(values, half) + pairwise_sum(values + half, size - half);
  }
  T part[8];
  std::copy_n(values, 8, part);
  size_t i = 8;
  for (; i + 8 <= size; i += 8) {
    for (size_t k = 0; k < 8; ++k) part[k] += values[i + k];
  }
  T total = ((part[0] + part[1]) + (part[2] + part[3])) +
            ((part[4] + part[5]) + (part[6] + part[7]));
  for (; i < size; ++i) total += values[i];
  return total;
}

template <typename T>
T pairwise_sum(const std::vector<T>& values) {
  return pairwise_sum(values.data(), values.size());
}

}  // namespace effine
