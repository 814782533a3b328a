// SPDX-License-Identifier: Apache-2.0
// A few mebibytes of disk set aside, so that deleting still works when the disk is full: what frees space
// writes first. Held as a file of its own next to what it is for. Thread-safe. Private to meta/.
#pragma once

#include <filesystem>
#include <mutex>

namespace ephfs::meta {

class DiskReserve {
 public:
  /// Of the file at `path`, made when there is none. Nothing is set aside until fill().
  explicit DiskReserve(std::filesystem::path path) : path_(std::move(path)) {}
  /// Fills it for the next time: what used it may just have been closed and left room.
  ~DiskReserve() { fill(); }
  DiskReserve(const DiskReserve&) = delete;
  DiskReserve& operator=(const DiskReserve&) = delete;

  /// Sets the space aside, or what there is of it; all of it another time.
  void fill();
  /// Gives the space back to the file system. Whether there was any.
  bool release();

 private:
  const std::filesystem::path path_;
  std::mutex mutex_;
  bool is_full_ = false;  // under mutex_
};

}  // namespace ephfs::meta
