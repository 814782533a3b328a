// SPDX-License-Identifier: Apache-2.0
// A file that is being fetched: under a name of its own until it is whole, and only then under the one it is to have.
// When it is destroyed before, nothing is left of it.
#pragma once

#include <filesystem>
#include <string>

#include "core/files.hpp"
#include "core/result.hpp"

namespace ephfs::cli {

class FetchedFile {
 public:
  /// Begun in `directory`, which is there and can be written to.
  [[nodiscard]] static core::Result<FetchedFile> begin(const std::filesystem::path& directory);
  ~FetchedFile();
  FetchedFile(FetchedFile&& other) noexcept
      : file_(std::move(other.file_)),
        directory_(std::move(other.directory_)),
        temporary_(std::exchange(other.temporary_, {})) {}
  FetchedFile& operator=(FetchedFile&&) = delete;

  /// What is not written is a hole.
  [[nodiscard]] core::Result<> set_size(std::uint64_t size);
  [[nodiscard]] core::Result<> write(std::uint64_t offset, core::ByteView bytes) {
    return core::write_all(file_, offset, bytes);
  }

  /// Writes all of it to `fd`.
  [[nodiscard]] core::Result<> copy_to(int fd) const;

  enum class Existing { refuse, replace, step_aside };
  /// Gives it its times and permissions (less the umask) and its name, once it is on stable storage; the name it got.
  /// What is there already is left (exists), replaced, or makes it "NAME.1" and so on.
  [[nodiscard]] core::Result<std::filesystem::path> finish(const std::string& name, std::uint32_t mode,
                                                           std::int64_t modified_ns, Existing existing);

 private:
  FetchedFile(core::FileDescriptor file, std::filesystem::path directory, std::string temporary)
      : file_(std::move(file)), directory_(std::move(directory)), temporary_(std::move(temporary)) {}

  core::FileDescriptor file_;
  std::filesystem::path directory_;
  std::string temporary_;  // its path; empty when it is finished
};

}  // namespace ephfs::cli
