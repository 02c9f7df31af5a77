#include "file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace effine {
namespace {

[[noreturn]] void fail() { throw std::system_error(errno, std::generic_category()); }

}  // namespace

File::File(const std::filesystem::path& path)
    : descriptor_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) fail();
}

File::~File() { ::close(descriptor_); }

std::string File::read(uint64_t position, size_t size) const {
  std::string content(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t count =
        ::pread(descriptor_, &content[done], size - done, off_t(position + done));
    if (count <= 0) break;
    done += size_t(count);
  }
  content.resize(done);
  return content;
}

bool File::write(uint64_t position, const std::string& content) {
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t count =
        ::pwrite(descriptor_, &content[done], content.size() - done, off_t(position + done));
    if (count <= 0) return false;
    done += size_t(count);
  }
  return true;
}

void File::prefetch([[maybe_unused]] uint64_t position, [[maybe_unused]] size_t size) const {
#ifdef POSIX_FADV_WILLNEED
  ::posix_fadvise(descriptor_, off_t(position), off_t(size), POSIX_FADV_WILLNEED);
#endif
}

uint64_t File::size() const {
  struct stat status;
  if (::fstat(descriptor_, &status) != 0) fail();
  return uint64_t(status.st_size);
}

void File::truncate(uint64_t size) {
  if (::ftruncate(descriptor_, off_t(size)) != 0) fail();
}

}  // namespace effine
