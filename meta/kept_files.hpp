// SPDX-License-Identifier: Apache-2.0
// The files in the volume's directory `staging` whose newest bytes are safe in the catalog's journal only: what has to
// be synced before the journal may forget them. Not thread-safe. Private to meta/.
#pragma once

#include <filesystem>
#include <set>
#include <string>

#include "meta/catalog.hpp"

namespace ephfs::meta {

class KeptFiles {
 public:
  explicit KeptFiles(std::filesystem::path directory) : directory_(std::move(directory)) {}

  /// The journal keeps bytes of this file.
  void note(const std::string& file) { files_.insert(file); }
  /// Writes them to their file. Makes it, and the directory, when there is none.
  [[nodiscard]] Result<> write(const StagedBytes& staged);
  /// Makes all that were noted survive loss of power, and their names; then none is noted. A file that is no longer
  /// there needs nothing.
  [[nodiscard]] Result<> sync();

 private:
  std::filesystem::path directory_;
  std::set<std::string> files_;
};

}  // namespace ephfs::meta
