// SPDX-License-Identifier: Apache-2.0
// Files as crash-safe programs use them: owned descriptors, whole reads and writes, and replacing a file so that a
// crash leaves the old content or the new.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "core/bytes.hpp"
#include "core/result.hpp"

namespace ephfs::core {

/// An owned file descriptor.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() { close(); }
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    if (this != &other) {
      close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void close() noexcept;

 private:
  int fd_ = -1;
};

/// Gives each of the standard streams that is closed /dev/null: else a file that is opened later would have its number,
/// and what is written to the stream would go into that file. Call first of all.
[[nodiscard]] Result<> fill_standard_streams();
/// open(2) with O_CLOEXEC added.
[[nodiscard]] Result<FileDescriptor> open_file(const std::filesystem::path& path, int flags, unsigned mode = 0600);
/// All of `bytes` at `offset`, however many calls it takes; no_space and io as the system says.
[[nodiscard]] Result<> write_all(const FileDescriptor& file, std::uint64_t offset, ByteView bytes);
/// Exactly out.size() bytes at `offset`; damaged when the file ends before.
[[nodiscard]] Result<> read_exactly(const FileDescriptor& file, std::uint64_t offset, MutableByteView out);
/// The same of what the page cache has; would_block where it has not all of it.
[[nodiscard]] Result<> read_cached(const FileDescriptor& file, std::uint64_t offset, MutableByteView out);
/// openat(2) of a file for reading, where that waits for no disk; else would_block.
[[nodiscard]] Result<FileDescriptor> open_cached(const FileDescriptor& directory, const std::string& name);
/// The whole of a file of at most `limit` bytes; damaged when it is longer.
[[nodiscard]] Result<Bytes> read_file(const std::filesystem::path& path, std::size_t limit);
[[nodiscard]] Result<> sync_data(const FileDescriptor& file);
[[nodiscard]] Result<> sync_directory(const std::filesystem::path& directory);
/// Writes a new file beside `path`, syncs it, renames it over `path`, and syncs the directory.
[[nodiscard]] Result<> replace_file(const std::filesystem::path& path, ByteView content, unsigned mode);
/// Makes a file of mode 0600, synced, whole under its name or not there. exists, with nothing changed, where something
/// is: secrets are never overwritten by accident, also not by who came second.
[[nodiscard]] Result<> create_private_file(const std::filesystem::path& path, ByteView content);

}  // namespace ephfs::core
