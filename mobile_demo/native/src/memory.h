// The memory this process has used.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace effine {

// The largest resident size so far in bytes, where the system tells it (Linux, Android).
std::optional<int64_t> peak_memory();
// The resident size now, likewise.
std::optional<int64_t> resident_memory();

// Gives back the memory of a file that is mapped for reading; what is read again comes from the
// file again. Does nothing where the system doesn't tell what is mapped.
void release_mapped(const std::filesystem::path& file);

}  // namespace effine
