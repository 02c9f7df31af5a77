// A file that is read and written at positions.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace effine {

class File {
 public:
  // Opens a file for reading and writing and makes it when missing.
  explicit File(const std::filesystem::path& path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // What is there, less than `size` bytes if the file ends or the disk fails.
  std::string read(uint64_t position, size_t size) const;
  // Whether all of it was written.
  bool write(uint64_t position, const std::string& content);
  // Lets the system read ahead, where it can.
  void prefetch(uint64_t position, size_t size) const;
  uint64_t size() const;
  void truncate(uint64_t size);

 private:
  int descriptor_;
};

}  // namespace effine
