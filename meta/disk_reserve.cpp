// SPDX-License-Identifier: Apache-2.0
#include "meta/disk_reserve.hpp"

#include <fcntl.h>

#include "core/files.hpp"

namespace ephfs::meta {

namespace {

// Room for the log to be copied into the catalog: twice what it holds when that is due. Less is better than
// nothing.
constexpr off_t kReserveBytes = off_t{8} << 20;
constexpr off_t kReserveBytesMin = off_t{512} << 10;

}  // namespace

void DiskReserve::fill() {
  const std::lock_guard lock(mutex_);
  if (is_full_) return;
  const auto file = core::open_file(path_, O_RDWR | O_CREAT, 0600);
  if (!file) return;
  off_t size = kReserveBytes;
  while (size >= kReserveBytesMin && ::fallocate(file->get(), 0, 0, size) != 0) size /= 2;
  is_full_ = size == kReserveBytes;
}

bool DiskReserve::release() {
  const std::lock_guard lock(mutex_);
  is_full_ = false;
  std::error_code failed;
  const auto size = std::filesystem::file_size(path_, failed);
  return !failed && size > 0 && std::filesystem::remove(path_, failed);
}

}  // namespace ephfs::meta
