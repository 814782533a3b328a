// SPDX-License-Identifier: Apache-2.0
// What makes a directory a volume: which files are there from its first mount on, and what becomes of those that a
// first mount made when it fails.
#pragma once

#include <filesystem>
#include <set>
#include <string>

#include "core/result.hpp"

namespace ephfs::cli {

/// not_empty for a directory that holds somebody's files and no volume. One that is not there, is empty, or holds what
/// comes before the first mount (a node that joined a pool, a configuration) is fit to become one.
[[nodiscard]] core::Result<> check_fit_for_volume(const std::filesystem::path& directory);

/// Whether anything that only a volume has is in `directory`.
[[nodiscard]] bool has_volume_files(const std::filesystem::path& directory);

/// Whether a volume is in `directory`. not_found, naming the file, where part of one is gone: what is as irreplaceable
/// as its keys, key wheel and catalog is made once, with the volume, and never anew. The caller has the volume's lock.
[[nodiscard]] core::Result<bool> holds_volume(const std::filesystem::path& directory);

/// The making of a volume: takes away what was made in its directory since, unless it is kept. The caller has the
/// volume's lock, and whoever uses what is taken away has ended before.
class NewVolume {
 public:
  /// `made_directory`: the directory itself is new, and goes as well.
  NewVolume(std::filesystem::path directory, bool made_directory);
  ~NewVolume();
  NewVolume(const NewVolume&) = delete;
  NewVolume& operator=(const NewVolume&) = delete;
  void keep() { kept_ = true; }

 private:
  std::filesystem::path directory_;
  bool made_directory_;
  bool kept_ = false;
  std::set<std::string> before_;
};

}  // namespace ephfs::cli
