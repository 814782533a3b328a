// SPDX-License-Identifier: Apache-2.0
// A directory that is gone, with all in it, when the test is: under $TMPDIR, or in memory where the machine
// allows.
#pragma once

#include <filesystem>
#include <string_view>

namespace ephfs::testing {

class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace ephfs::testing
