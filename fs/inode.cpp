// SPDX-License-Identifier: Apache-2.0
#include "fs/inode.hpp"

namespace ephfs::fs {

Inode::Inode(meta::InodeRecord loaded)
    : number(loaded.number),
      type(loaded.mode & S_IFMT),
      record(std::move(loaded)),
      deadline_(record.deadline.raw()) {}

template <class Read>
Result<std::shared_ptr<Inode>> InodeTable::load(Read read) {
  for (;;) {
    std::uint64_t releases = 0;
    {
      const std::lock_guard lock(mutex_);
      releases = releases_;
    }
    EPHFS_TRY(auto record, read());
    if (!record) return core::fail(core::Error::not_found);
    const std::lock_guard lock(mutex_);
    const auto found = inodes_.find(record->number);
    if (found != inodes_.end()) return found->second;
    if (releases != releases_) continue;
    const auto number = record->number;
    return inodes_.emplace(number, std::make_shared<Inode>(*std::move(record))).first->second;
  }
}

Result<std::shared_ptr<Inode>> InodeTable::get(InodeNumber number) {
  if (auto here = find(number)) return here;
  return load([&] { return catalog_.inode(number); });
}

Result<std::shared_ptr<Inode>> InodeTable::lookup(InodeNumber parent, const std::string& name) {
  return load([&] { return catalog_.lookup(parent, name); });
}

std::shared_ptr<Inode> InodeTable::adopt(meta::InodeRecord record) {
  const std::lock_guard lock(mutex_);
  auto& slot = inodes_[record.number];
  if (!slot) slot = std::make_shared<Inode>(std::move(record));
  return slot;
}

std::shared_ptr<Inode> InodeTable::find(InodeNumber number) const {
  const std::lock_guard lock(mutex_);
  const auto found = inodes_.find(number);
  return found == inodes_.end() ? nullptr : found->second;
}

void InodeTable::release(InodeNumber number) {
  std::shared_ptr<Inode> gone;  // destroyed after the lock is let go
  const std::lock_guard lock(mutex_);
  const auto found = inodes_.find(number);
  if (found == inodes_.end()) return;
  // One reference is the table's: any other is somebody working with it, or the list of what is dirty.
  if (found->second.use_count() > 1 || found->second->lookups > 0 || found->second->handles > 0) return;
  gone = std::move(found->second);
  inodes_.erase(found);
  ++releases_;
}

std::vector<std::shared_ptr<Inode>> InodeTable::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Inode>> list;
  list.reserve(inodes_.size());
  for (const auto& [number, inode] : inodes_) list.push_back(inode);
  return list;
}

std::size_t InodeTable::size() const {
  const std::lock_guard lock(mutex_);
  return inodes_.size();
}

}  // namespace ephfs::fs
