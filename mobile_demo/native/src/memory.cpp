#include "memory.h"

#include <sys/mman.h>

#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

namespace effine {
namespace {

std::optional<int64_t> status(const char* field) {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;) {
    int64_t kibibytes = 0;
    if (word == field && file >> kibibytes) return kibibytes * 1024;
  }
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> peak_memory() { return status("VmHWM:"); }
std::optional<int64_t> resident_memory() { return status("VmRSS:"); }

void release_mapped(const std::filesystem::path& file) {
  std::error_code unknown;
  const std::string path = std::filesystem::canonical(file, unknown).string();
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    uintptr_t start = 0, end = 0;
    char dash = 0;
    std::string access, offset, device, inode, mapped;
    words >> std::hex >> start >> dash >> end >> access >> offset >> device >> inode;
    std::getline(words >> std::ws, mapped);
    if (mapped == path && access == "r--p") {
      madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
    }
  }
}

}  // namespace effine
