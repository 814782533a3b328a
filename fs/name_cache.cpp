// SPDX-License-Identifier: Apache-2.0
#include "fs/name_cache.hpp"

namespace ephfs::fs {

std::optional<InodeNumber> NameCache::find(InodeNumber parent, const std::string& name) {
  const Place place(parent, name);
  const std::lock_guard lock(mutex_);
  if (const auto found = young_.find(place); found != young_.end()) return found->second;
  const auto found = old_.find(place);
  if (found == old_.end()) return std::nullopt;
  const InodeNumber inode = found->second;
  put(place, inode);
  return inode;
}

std::uint64_t NameCache::version() const {
  const std::lock_guard lock(mutex_);
  return version_;
}

void NameCache::learn(InodeNumber parent, const std::string& name, InodeNumber inode, std::uint64_t version) {
  const std::lock_guard lock(mutex_);
  if (version == version_) put({parent, name}, inode);
}

void NameCache::learn(InodeNumber parent, const std::vector<meta::NameRecord>& names, std::uint64_t version) {
  if (names.size() > kGenerationMax) return;  // the first would be forgotten before the last are learnt
  const std::lock_guard lock(mutex_);
  if (version != version_) return;
  for (const auto& name : names) put({parent, name.name}, name.inode);
}

void NameCache::committed(const meta::Changes& changes) {
  const std::lock_guard lock(mutex_);
  ++version_;
  for (const auto& change : changes) {
    if (const auto* made = std::get_if<meta::PutName>(&change)) put({made->parent, made->name}, made->inode);
    if (const auto* gone = std::get_if<meta::DropName>(&change)) put({gone->parent, gone->name}, kAbsent);
  }
}

void NameCache::put(Place place, InodeNumber inode) {
  old_.erase(place);
  if (young_.size() >= kGenerationMax && !young_.contains(place)) {
    old_ = std::exchange(young_, {});
  }
  young_.insert_or_assign(std::move(place), inode);
}

}  // namespace ephfs::fs
