// SPDX-License-Identifier: Apache-2.0
#include "meta/kept_files.hpp"

#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>

#include "core/files.hpp"

namespace ephfs::meta {

Result<> KeptFiles::write(const StagedBytes& staged) {
  if (::mkdir(directory_.c_str(), 0700) != 0 && errno != EEXIST) {
    return core::fail_errno("making " + directory_.string());
  }
  EPHFS_TRY(const auto file, core::open_file(directory_ / staged.file, O_RDWR | O_CREAT, 0600));
  return core::write_all(file, staged.offset, staged.bytes);
}

Result<> KeptFiles::sync() {
  if (files_.empty()) return {};
  for (const std::string& name : files_) {
    const auto file = core::open_file(directory_ / name, O_RDWR);
    if (!file && file.error().code == core::Error::not_found) continue;
    if (!file) return file.error();
    EPHFS_TRY_VOID(core::sync_data(*file));
  }
  EPHFS_TRY_VOID(core::sync_directory(directory_));
  files_.clear();
  return {};
}

}  // namespace ephfs::meta
