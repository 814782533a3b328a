// SPDX-License-Identifier: Apache-2.0
// Extended attributes: our own (user.ephfs.*, ephfs_xattrs.cpp) and everybody's, which are stored as they
// are.
#include <algorithm>

#include "fs/ephfs_xattrs.hpp"

namespace ephfs::fs {
namespace {

constexpr std::size_t kValueBytesMax = std::size_t{64} << 10U;
/// What listxattr(2) can return at most.
constexpr std::size_t kListBytesMax = std::size_t{64} << 10U;
constexpr std::string_view kCapability = "security.capability";

/// Whether the attribute is one that is stored as it is.
Result<> check_namespace(const std::string& name) {
  if (name.size() > kNameBytesMax) return core::fail(core::Error::name_too_long);
  for (const std::string_view prefix : {"user.", "trusted.", "security."}) {
    if (name.starts_with(prefix) && name.size() > prefix.size()) return {};
  }
  return core::fail(core::Error::not_supported);
}

Result<> check_presence(bool is_set, XattrMode mode) {
  if (mode == XattrMode::create && is_set) return core::fail(core::Error::exists);
  if (mode == XattrMode::replace && !is_set) return core::fail(core::Error::no_attribute);
  return {};
}

/// Exclusive lock held. Commits `change` with the inode's new ctime.
Result<> commit_with_time(EngineState& state, Inode& inode, meta::Change change) {
  meta::InodeRecord record = inode.record;
  record.changed = file_time_now(state.clock);
  meta::Changes changes;
  changes.emplace_back(meta::PutInode{record});
  changes.push_back(std::move(change));
  EPHFS_TRY_VOID(state.catalog->commit(changes));
  inode.record = std::move(record);
  inode.record_dirty = false;
  return {};
}

/// The inode, alive and with its row, locked.
struct Locked {
  std::shared_ptr<Inode> inode;
  std::unique_lock<std::shared_mutex> lock;
};
Result<Locked> lock_inode(EngineState& state, InodeNumber number) {
  Locked locked;
  EPHFS_TRY(locked.inode, live_inode(state, number));
  locked.lock = std::unique_lock(locked.inode->mutex);
  EPHFS_TRY_VOID(check_alive(state, *locked.inode, false));
  if (locked.inode->removed) return core::fail(core::Error::not_found);
  return locked;
}

Result<> check_list_room(const EngineState& state, InodeNumber number, const std::string& name) {
  EPHFS_TRY(const auto names, state.catalog->xattr_names(number));
  // Room is kept for the one of our own that is listed.
  std::size_t bytes = name.size() + 1 + kNameBytesMax + 1;
  for (const auto& present : names) bytes += present.size() + 1;
  if (bytes > kListBytesMax) return core::fail(core::Error::no_space, "too many extended attributes");
  return {};
}

Result<> change_own(EngineState& state, InodeNumber number, const EphfsXattr& attribute,
                    const std::function<Result<>(XattrTarget&)>& change) {
  if (attribute.set == nullptr) return core::fail(core::Error::not_permitted);
  EPHFS_TRY(auto locked, lock_inode(state, number));
  Inode& inode = *locked.inode;
  EPHFS_TRY(const auto parent, parent_record(state, inode));
  XattrTarget target{state, inode.record, parent};
  EPHFS_TRY_VOID(change(target));
  target.record.changed = file_time_now(state.clock);
  meta::Changes changes;
  changes.emplace_back(meta::PutInode{target.record});
  EPHFS_TRY_VOID(state.catalog->commit(changes));
  const Deadline before = inode.record.deadline;
  const Milliseconds reread_before = inode.reread();
  inode.record = std::move(target.record);
  inode.record_dirty = false;
  inode.publish_ttl();
  const Deadline after = inode.record.deadline;
  locked.lock.unlock();
  if (after != before) {
    deadline_changed(state, locked.inode);
  } else if (inode.reread() != reread_before) {
    watch_pages(state, inode);
  }
  if (after < before) deadline_shortened(state, *locked.inode);
  return {};
}

}  // namespace

Result<core::Bytes> Engine::xattr(InodeNumber number, const std::string& name) {
  EPHFS_TRY(const auto inode, live_inode(*state_, number));
  if (is_ephfs_xattr(name)) {
    EPHFS_TRY(const auto* attribute, find_ephfs_xattr(name));
    EPHFS_TRY(const auto text, attribute->get(*state_, *inode));
    return core::to_bytes(core::as_bytes(text));
  }
  EPHFS_TRY_VOID(check_namespace(name));
  const bool is_capability = name == kCapability;
  if (is_capability && inode->no_capability) return core::fail(core::Error::no_attribute);
  // Under the lock, so that a value that is just being set is not taken for one that is not there.
  const std::shared_lock lock(inode->mutex);
  EPHFS_TRY(auto value, state_->catalog->xattr(number, name));
  if (value) return *std::move(value);
  if (is_capability) inode->no_capability = true;
  return core::fail(core::Error::no_attribute);
}

Result<> Engine::set_xattr(InodeNumber number, const std::string& name, core::ByteView value, XattrMode mode) {
  if (is_ephfs_xattr(name)) {
    EPHFS_TRY(const auto* attribute, find_ephfs_xattr(name));
    return change_own(*state_, number, *attribute, [&](XattrTarget& target) -> Result<> {
      EPHFS_TRY_VOID(check_presence(attribute->is_set(target.record), mode));
      return attribute->set(target, core::as_text(value));
    });
  }
  EPHFS_TRY_VOID(check_namespace(name));
  if (value.size() > kValueBytesMax) return core::fail(core::Error::no_space, "an extended attribute past 64 KiB");
  EPHFS_TRY(const auto locked, lock_inode(*state_, number));
  EPHFS_TRY(const auto present, state_->catalog->xattr(number, name));
  EPHFS_TRY_VOID(check_presence(present.has_value(), mode));
  if (!present) EPHFS_TRY_VOID(check_list_room(*state_, number, name));
  EPHFS_TRY_VOID(commit_with_time(*state_, *locked.inode, meta::PutXattr{number, name, core::to_bytes(value)}));
  if (name == kCapability) locked.inode->no_capability = false;
  return {};
}

Result<> Engine::remove_xattr(InodeNumber number, const std::string& name) {
  if (is_ephfs_xattr(name)) {
    EPHFS_TRY(const auto* attribute, find_ephfs_xattr(name));
    return change_own(*state_, number, *attribute, [&](XattrTarget& target) -> Result<> {
      EPHFS_TRY_VOID(check_presence(attribute->is_set(target.record), XattrMode::replace));
      return attribute->remove(target);
    });
  }
  EPHFS_TRY_VOID(check_namespace(name));
  EPHFS_TRY(const auto locked, lock_inode(*state_, number));
  EPHFS_TRY(const auto present, state_->catalog->xattr(number, name));
  if (!present) return core::fail(core::Error::no_attribute);
  return commit_with_time(*state_, *locked.inode, meta::DropXattr{number, name});
}

Result<std::vector<std::string>> Engine::list_xattrs(InodeNumber number) {
  EPHFS_TRY(const auto inode, live_inode(*state_, number));
  EPHFS_TRY(auto names, state_->catalog->xattr_names(number));
  const std::shared_lock lock(inode->mutex);
  if (const auto listed = listed_ephfs_xattr(inode->record)) names.push_back(*listed);
  return names;
}

}  // namespace ephfs::fs
