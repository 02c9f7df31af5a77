// The memory this process has used.
#pragma once

#include <cstdint>
#include <optional>

namespace effine {

// The largest resident size so far in bytes, where the system tells it (Linux, Android).
std::optional<int64_t> peak_memory();

}  // namespace effine
