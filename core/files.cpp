// SPDX-License-Identifier: Apache-2.0
#include "core/files.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/profile.hpp"
#include "core/secret.hpp"

namespace ephfs::core {
namespace {

// Repeats a system call that a signal interrupted.
template <class Call>
auto retry(Call call) {
  for (;;) {
    const auto result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

bool in_file_range(std::uint64_t offset, std::size_t size) {
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  return offset <= kMax && size <= kMax - offset;
}

std::filesystem::path directory_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

Result<> fill_replacement(const FileDescriptor& file, ByteView content, unsigned mode) {
  // Permissions first: content meant for few is never readable by more.
  if (::fchmod(file.get(), static_cast<mode_t>(mode)) != 0) return fail_errno("set mode of a new file");
  EPHFS_TRY_VOID(write_all(file, 0, content));
  if (retry([&] { return ::fsync(file.get()); }) != 0) return fail_errno("sync a new file");
  return {};
}

// A file system that has no disk to wait for, and does not know that it could say so.
bool is_in_memory(const FileDescriptor& file) {
  struct statfs status {};
  return ::fstatfs(file.get(), &status) == 0 && status.f_type == TMPFS_MAGIC;
}

}  // namespace

void FileDescriptor::close() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

Result<> fill_standard_streams() {
  for (;;) {
    const int fd = retry([] { return ::open("/dev/null", O_RDWR); });
    if (fd < 0) return fail_errno("open /dev/null");
    if (fd > STDERR_FILENO) {
      ::close(fd);
      return {};
    }
  }
}

Result<FileDescriptor> open_file(const std::filesystem::path& path, int flags, unsigned mode) {
  const int fd = retry([&] { return ::open(path.c_str(), flags | O_CLOEXEC, static_cast<mode_t>(mode)); });
  if (fd < 0) return fail_errno("open " + path.string());
  return FileDescriptor(fd);
}

Result<> write_all(const FileDescriptor& file, std::uint64_t offset, ByteView bytes) {
  if (!in_file_range(offset, bytes.size())) return fail(Error::file_too_large, "write beyond the largest file");
  static Probe probe("stage", "disk write");
  const ProbeScope scope(probe, bytes.size());
  while (!bytes.empty()) {
    const auto written =
        retry([&] { return ::pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)); });
    if (written < 0) return fail_errno("write");
    if (written == 0) return fail(Error::io, "write: no progress");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
  return {};
}

Result<> read_exactly(const FileDescriptor& file, std::uint64_t offset, MutableByteView out) {
  if (!in_file_range(offset, out.size())) return fail(Error::damaged, "read beyond the largest file");
  static Probe probe("stage", "disk read");
  const ProbeScope scope(probe, out.size());
  while (!out.empty()) {
    const auto count = retry([&] { return ::pread(file.get(), out.data(), out.size(), static_cast<off_t>(offset)); });
    if (count < 0) return fail_errno("read");
    if (count == 0) {
      return fail(Error::damaged, "read: the file ends at " + std::to_string(offset) + ", " +
                                      std::to_string(out.size()) + " bytes early");
    }
    out = out.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
  return {};
}

Result<> read_cached(const FileDescriptor& file, std::uint64_t offset, MutableByteView out) {
  if (!in_file_range(offset, out.size())) return fail(Error::damaged, "read beyond the largest file");
  const iovec room{out.data(), out.size()};
  auto count = ::preadv2(file.get(), &room, 1, static_cast<off_t>(offset), RWF_NOWAIT);
  if (count < 0 && errno == EOPNOTSUPP && is_in_memory(file)) {
    count = ::pread(file.get(), out.data(), out.size(), static_cast<off_t>(offset));
  }
  if (count < 0 || static_cast<std::size_t>(count) < out.size()) return fail(Error::would_block);
  return {};
}

Result<FileDescriptor> open_cached(const FileDescriptor& directory, const std::string& name) {
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC;
  how.resolve = RESOLVE_CACHED;
  const auto fd = ::syscall(SYS_openat2, directory.get(), name.c_str(), &how, sizeof how);
  // Whatever the reason, also a kernel that does not know this: the ordinary way finds out.
  if (fd < 0) return fail(Error::would_block);
  return FileDescriptor(static_cast<int>(fd));
}

Result<Bytes> read_file(const std::filesystem::path& path, std::size_t limit) {
  EPHFS_TRY(const auto file, open_file(path, O_RDONLY));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno("stat " + path.string());
  // The size is a guess: the file may be of /proc, or grow while it is read.
  const auto expected = static_cast<std::size_t>(std::max<off_t>(status.st_size, 0));
  Bytes content;
  std::size_t size = 0;
  for (;;) {
    if (size == content.size()) {
      const std::size_t target = size == 0 ? expected + 1 : size + size / 2 + 4096;
      // One byte over the limit is enough to know that it is exceeded.
      content.resize(limit < target ? limit + 1 : target);
    }
    const auto count = retry([&] { return ::read(file.get(), content.data() + size, content.size() - size); });
    if (count < 0) return fail_errno("read " + path.string());
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
    if (size > limit) {
      return fail(Error::damaged, path.string() + " is longer than " + std::to_string(limit) + " bytes");
    }
  }
  content.resize(size);
  return content;
}

Result<> sync_data(const FileDescriptor& file) {
  static Probe probe("stage", "disk sync");
  const ProbeScope scope(probe);
  if (retry([&] { return ::fdatasync(file.get()); }) != 0) return fail_errno("sync");
  return {};
}

Result<> sync_directory(const std::filesystem::path& directory) {
  EPHFS_TRY(const auto file, open_file(directory, O_RDONLY | O_DIRECTORY));
  if (retry([&] { return ::fsync(file.get()); }) != 0) return fail_errno("sync " + directory.string());
  return {};
}

Result<> replace_file(const std::filesystem::path& path, ByteView content, unsigned mode) {
  const std::filesystem::path directory = directory_of(path);
  // A name of its own for each call: two writers of one path may each win, but never mix.
  std::string name = (directory / ".ephfs-new-XXXXXX").string();
  const FileDescriptor file(retry([&] { return ::mkostemp(name.data(), O_CLOEXEC); }));
  if (!file.is_open()) return fail_errno("create a file in " + directory.string());

  Result<> written = fill_replacement(file, content, mode);
  if (written && ::rename(name.c_str(), path.c_str()) != 0) written = fail_errno("rename a new file");
  if (!written) {
    ::unlink(name.c_str());
    Failure failure = std::move(written).error();
    failure.detail = "replace " + path.string() + ": " + failure.detail;
    return failure;
  }
  return sync_directory(directory);
}

Result<> create_private_file(const std::filesystem::path& path, ByteView content) {
  std::array<std::byte, 8> suffix{};
  fill_random(suffix);
  std::filesystem::path temporary = path;
  temporary += ".new-" + to_hex(suffix);
  Result<> made = [&]() -> Result<> {
    EPHFS_TRY(const auto file, open_file(temporary, O_WRONLY | O_CREAT | O_EXCL, 0600));
    EPHFS_TRY_VOID(write_all(file, 0, content));
    EPHFS_TRY_VOID(sync_data(file));
    if (::link(temporary.c_str(), path.c_str()) != 0) return fail_errno("create " + path.string());
    return {};
  }();
  ::unlink(temporary.c_str());
  EPHFS_TRY_VOID(std::move(made));
  return sync_directory(directory_of(path));
}

}  // namespace ephfs::core
