// SPDX-License-Identifier: Apache-2.0
// What a loss of power may leave of a directory: what was synced, and of the rest nobody knows. While one of these
// lives, fsync(2) and fdatasync(2) of this process are noted for what lies in its directory (and not carried out).
#pragma once

#include <filesystem>
#include <map>
#include <mutex>
#include <string>

#include <sys/types.h>

#include "core/bytes.hpp"
#include "tests/support/seeded.hpp"

namespace ephfs::testing {

class LostPower {
 public:
  /// What is in the directory now is safe. One at a time in a process.
  explicit LostPower(std::filesystem::path directory);
  ~LostPower();
  LostPower(const LostPower&) = delete;
  LostPower& operator=(const LostPower&) = delete;

  /// Makes `image`, a directory, of what is safe; of what was done since, each page of 4 KiB, each length and each
  /// file's names are there or not, as `random` has it. A rename is done or not; directories are there.
  void leave(const std::filesystem::path& image, Random& random) const;

  /// Called instead of the system. Whether the file or directory is in this one.
  [[nodiscard]] bool note_sync(int descriptor);

 private:
  using Names = std::map<std::filesystem::path, ino_t>;  // from the directory on
  void note_names(const std::filesystem::path& directory);
  [[nodiscard]] core::Bytes mixed(const core::Bytes& safe, const core::Bytes& now, Random& random) const;

  const std::filesystem::path directory_;
  mutable std::mutex mutex_;
  Names names_;                           // as last synced
  std::map<ino_t, core::Bytes> content_;  // as last synced
};

}  // namespace ephfs::testing
