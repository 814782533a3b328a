// SPDX-License-Identifier: Apache-2.0
// A disk that can be filled.
#pragma once

#include <filesystem>

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "core/files.hpp"

namespace ephfs::meta::testing {

/// A small file system in memory; needs root.
class SmallDisk {
 public:
  explicit SmallDisk(const std::filesystem::path& where) : where_(where) {
    std::filesystem::create_directory(where);
    mounted_ = ::mount("tmpfs", where.c_str(), "tmpfs", 0, "size=24m") == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(where_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  [[nodiscard]] bool is_mounted() const { return mounted_; }
  /// Leaves no byte free.
  void fill() const {
    const auto file = core::open_file(where_ / "filler", O_WRONLY | O_CREAT | O_APPEND).value();
    const core::Bytes page(4096);
    while (::write(file.get(), page.data(), page.size()) > 0) {
    }
  }

 private:
  std::filesystem::path where_;
  bool mounted_ = false;
};

}  // namespace ephfs::meta::testing
