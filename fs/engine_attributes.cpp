// SPDX-License-Identifier: Apache-2.0
// stat(2) and what changes it: chmod, chown, truncate, utimensat.
#include <cstdlib>

#include "fs/engine_state.hpp"

namespace ephfs::fs {
namespace {

constexpr std::uint32_t kPermissionBits = 07777;

Result<> check_size(const Inode& inode, std::uint64_t size) {
  if (inode.is_directory()) return core::fail(core::Error::is_directory);
  if (!inode.is_regular()) return core::fail(core::Error::invalid_argument);
  if (size > kFileBytesMax) return core::fail(core::Error::file_too_large);
  return {};
}

/// The times that follow from what was set, and those that were given.
void set_times(const SetAttributes& set, meta::FileTime now, meta::InodeRecord& record) {
  if (set.size) record.modified = now;
  if (set.accessed) record.accessed = *set.accessed;
  if (set.modified) record.modified = *set.modified;
  record.changed = set.changed.value_or(now);
}

/// Two stamps of one change are apart by no more: the kernel takes its own when the engine has answered.
constexpr std::int64_t kSameChangeNs = 100'000'000;

std::uint32_t without_set_id(std::uint32_t mode) {
  mode &= ~std::uint32_t{S_ISUID};
  if ((mode & S_IXGRP) != 0) mode &= ~std::uint32_t{S_ISGID};
  return mode;
}

}  // namespace

bool Engine::note_kernel_times(InodeNumber number, meta::FileTime modified, meta::FileTime changed, bool by_writer) {
  const auto inode = state_->inodes.find(number);
  if (!inode || inode->is_gone(state_->clock.now())) return false;
  const std::unique_lock lock(inode->mutex);
  if (inode->removed) return false;
  auto& record = inode->record;
  if (!by_writer) return modified == record.modified && std::abs(changed.ns - record.changed.ns) <= kSameChangeNs;
  if (modified == record.modified && changed == record.changed) return true;
  record.modified = modified;
  record.changed = changed;
  inode->record_dirty = true;
  mark_dirty(*state_, inode, 0);
  return true;
}

Result<Attributes> Engine::attributes(InodeNumber number, bool by_descriptor) {
  EPHFS_TRY(const auto inode, live_inode(*state_, number, by_descriptor));
  const std::shared_lock lock(inode->mutex);
  return attributes_of(*state_, *inode);
}

Result<Attributes> Engine::set_attributes(InodeNumber number, const SetAttributes& set, bool by_descriptor) {
  EPHFS_TRY(const auto inode, live_inode(*state_, number, by_descriptor));
  bool slid = false;
  Attributes attributes;
  {
    const std::unique_lock lock(inode->mutex);
    EPHFS_TRY_VOID(check_alive(*state_, *inode, by_descriptor));
    if (inode->removed) return core::fail(by_descriptor ? core::Error::stale : core::Error::not_found);
    if (set.size) EPHFS_TRY_VOID(check_size(*inode, *set.size));
    // Nobody sees the record before the lock is let go, so it may be put back when the commit fails.
    const meta::InodeRecord before = inode->record;
    auto& record = inode->record;
    if (set.mode) record.mode = (record.mode & S_IFMT) | (*set.mode & kPermissionBits);
    if (set.drop_set_id && !inode->is_directory()) record.mode = without_set_id(record.mode);
    if (set.uid) record.uid = *set.uid;
    if (set.gid) record.gid = *set.gid;
    set_times(set, file_time_now(state_->clock), record);
    meta::Changes changes;
    std::optional<ContentUndo> undo;
    if (set.size) {
      slid = slide_deadline(*state_, *inode, true);
      auto resized = resize(*state_, *inode, *set.size, changes);
      if (!resized) {
        record = before;
        inode->publish_ttl();
        return std::move(resized).error();
      }
      undo = *std::move(resized);
    } else {
      changes.emplace_back(meta::PutInode{record});
    }
    if (auto committed = state_->catalog->commit(changes); !committed) {
      if (undo) undo_content(*state_, *inode, *std::move(undo));
      record = before;
      inode->publish_ttl();
      return std::move(committed).error();
    }
    if (undo) content_committed(*state_, *undo);
    inode->record_dirty = false;
    attributes = attributes_of(*state_, *inode);
  }
  if (slid) deadline_changed(*state_, inode);
  return attributes;
}

Result<> Engine::drop_set_id(InodeNumber number) {
  EPHFS_TRY(const auto inode, live_inode(*state_, number, true));
  {
    const std::shared_lock lock(inode->mutex);
    if (inode->is_directory() || without_set_id(inode->record.mode) == inode->record.mode) return {};
  }
  SetAttributes set;
  set.drop_set_id = true;
  EPHFS_TRY_VOID(set_attributes(number, set, true));
  return {};
}

}  // namespace ephfs::fs
