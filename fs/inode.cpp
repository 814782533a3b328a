// SPDX-License-Identifier: Apache-2.0
#include "fs/inode.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <span>

namespace ephfs::fs {
namespace {

constexpr unsigned kReadsUnlocked = 2;
constexpr unsigned kBucketsLookedAt = 8;
constexpr std::size_t kLetGoAtOnce = 4;
Milliseconds reread_of(const meta::InodeRecord& record) {
  const bool slides = S_ISREG(record.mode) && record.ttl_mode == meta::TtlMode::accessed &&
                      !record.deadline.is_never() && record.ttl.count() > 0;
  return slides ? std::max(record.ttl / kSlideSteps, kRereadMin) : Milliseconds{0};
}

/// Whether the catalog's row and its number of lookups are all there is to know of it. The table's is the only
/// reference.
bool is_idle(Inode& inode) {
  // The notifier watches symbolic links for as long as the kernel knows them.
  if (inode.handles > 0 || (S_ISLNK(inode.type) && inode.lookups > 0)) return false;
  const std::shared_lock lock(inode.mutex, std::try_to_lock);
  if (!lock.owns_lock() || inode.removed || inode.record_dirty) return false;
  // stat(2) tells how much room a sparse file takes up as long as its extents are known.
  return !inode.data || (inode.data->dirty().empty() && inode.data->allocated() >= inode.record.size);
}

}  // namespace

Inode::Inode(meta::InodeRecord loaded)
    : number(loaded.number),
      type(loaded.mode & S_IFMT),
      record(std::move(loaded)),
      deadline_(record.deadline.raw()),
      reread_(reread_of(record).count()) {}

void Inode::publish_ttl() {
  deadline_.store(record.deadline.raw(), std::memory_order_release);
  reread_.store(reread_of(record).count(), std::memory_order_release);
}

template <class Read>
Result<std::shared_ptr<Inode>> InodeTable::load(Read read) {
  for (unsigned attempt = 1;; ++attempt) {
    std::unique_lock lock(mutex_);
    const std::uint64_t releases = releases_;
    // Where others release all the time, it is read with nobody else at it.
    if (attempt <= kReadsUnlocked) lock.unlock();
    EPHFS_TRY(auto record, read());
    if (!record) return core::fail(core::Error::not_found);
    if (!lock.owns_lock()) lock.lock();
    const auto found = inodes_.find(record->number);
    if (found != inodes_.end()) return found->second;
    if (releases != releases_) continue;
    return insert_locked(*std::move(record));
  }
}

std::shared_ptr<Inode> InodeTable::insert_locked(meta::InodeRecord record) {
  const auto number = record.number;
  auto inode = std::make_shared<Inode>(std::move(record));
  if (const auto known = remembered_.find(number); known != remembered_.end()) {
    inode->lookups = known->second.lookups;
    remembered_.erase(known);
  }
  inodes_.emplace(number, inode);
  trim_locked();
  return inode;
}

void InodeTable::trim_locked() {
  for (unsigned looked = 0; looked < kBucketsLookedAt && inodes_.size() > kept_max_; ++looked) {
    hand_ = (hand_ + 1) % inodes_.bucket_count();
    std::array<InodeNumber, kLetGoAtOnce> idle;
    std::size_t found = 0;
    for (auto at = inodes_.begin(hand_); at != inodes_.end(hand_) && found < idle.size(); ++at) {
      if (at->second.use_count() == 1 && is_idle(*at->second)) idle[found++] = at->first;
    }
    for (const InodeNumber number : std::span(idle).first(found)) {
      const auto at = inodes_.find(number);
      if (const auto lookups = at->second->lookups.load(); lookups > 0) {
        remembered_[number] = {lookups, at->second->deadline()};
      }
      inodes_.erase(at);
      ++releases_;
    }
  }
}

Result<std::shared_ptr<Inode>> InodeTable::get(InodeNumber number) {
  if (auto here = find(number)) return here;
  return load([&] { return catalog_.inode(number); });
}

Result<std::shared_ptr<Inode>> InodeTable::lookup(InodeNumber parent, const std::string& name) {
  if (const auto known = names_.find(parent, name)) {
    if (*known == NameCache::kAbsent) return core::fail(core::Error::not_found);
    return get(*known);
  }
  const std::uint64_t version = names_.version();
  auto inode = load([&] { return catalog_.lookup(parent, name); });
  if (inode) {
    names_.learn(parent, name, (*inode)->number, version);
  } else if (inode.error().code == core::Error::not_found) {
    names_.learn(parent, name, NameCache::kAbsent, version);
  }
  return inode;
}

Result<std::vector<meta::NameRecord>> InodeTable::list(InodeNumber parent, const std::string& after,
                                                       std::size_t limit) {
  const std::uint64_t version = names_.version();
  EPHFS_TRY(auto names, catalog_.names(parent, after, limit));
  names_.learn(parent, names, version);
  return names;
}

void InodeTable::load_all(const std::vector<InodeNumber>& numbers) {
  std::vector<InodeNumber> missing;
  std::unique_lock lock(mutex_);
  const std::uint64_t releases = releases_;
  std::ranges::copy_if(numbers, std::back_inserter(missing), [this](auto number) { return !inodes_.contains(number); });
  lock.unlock();
  if (missing.empty()) return;
  auto records = catalog_.inodes(missing);
  if (!records) return;  // whoever asks for one hears of it
  lock.lock();
  if (releases != releases_) return;
  for (meta::InodeRecord& record : *records) {
    if (!inodes_.contains(record.number)) (void)insert_locked(std::move(record));
  }
}

std::shared_ptr<Inode> InodeTable::adopt(meta::InodeRecord record) {
  const std::lock_guard lock(mutex_);
  const auto found = inodes_.find(record.number);
  return found != inodes_.end() ? found->second : insert_locked(std::move(record));
}

std::shared_ptr<Inode> InodeTable::find(InodeNumber number) const {
  const std::lock_guard lock(mutex_);
  const auto found = inodes_.find(number);
  return found == inodes_.end() ? nullptr : found->second;
}

bool InodeTable::is_known(InodeNumber number) const {
  const std::lock_guard lock(mutex_);
  const auto found = inodes_.find(number);
  return found != inodes_.end() ? found->second->lookups > 0 : remembered_.contains(number);
}

std::optional<std::uint32_t> InodeTable::forget(InodeNumber number, std::uint64_t lookups) {
  std::shared_ptr<Inode> gone;  // destroyed after the lock is let go
  const std::lock_guard lock(mutex_);
  if (const auto found = inodes_.find(number); found != inodes_.end()) {
    auto& counted = found->second->lookups;
    auto known = counted.load();
    // The kernel never forgets more than it knew; should it, the inode stays countable.
    while (!counted.compare_exchange_weak(known, known - std::min(known, lookups))) {
    }
    if (known > lookups) return std::nullopt;
    const std::uint32_t type = found->second->type;
    gone = take_removed_locked(found);
    return type;
  }
  if (const auto known = remembered_.find(number); known != remembered_.end()) {
    if (known->second.lookups <= lookups) {
      remembered_.erase(known);
    } else {
      known->second.lookups -= lookups;
    }
  }
  return std::nullopt;
}

void InodeTable::release(InodeNumber number) {
  std::shared_ptr<Inode> gone;  // destroyed after the lock is let go
  const std::lock_guard lock(mutex_);
  if (const auto found = inodes_.find(number); found != inodes_.end()) {
    gone = take_removed_locked(found);
  } else {
    ++releases_;  // who has just read the row of one that is gone reads again
  }
}

std::shared_ptr<Inode> InodeTable::take_removed_locked(Objects::iterator at) {
  Inode& inode = *at->second;
  // One reference is the table's: any other is somebody working with it, or the list of what is dirty.
  if (at->second.use_count() > 1 || inode.lookups > 0 || inode.handles > 0) return nullptr;
  {
    const std::shared_lock lock(inode.mutex, std::try_to_lock);
    if (!lock.owns_lock() || !inode.removed) return nullptr;
  }
  auto gone = std::move(at->second);
  inodes_.erase(at);
  ++releases_;
  return gone;
}

std::vector<std::shared_ptr<Inode>> InodeTable::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Inode>> list;
  list.reserve(inodes_.size());
  for (const auto& [number, inode] : inodes_) list.push_back(inode);
  return list;
}

std::vector<InodeNumber> InodeTable::remembered_gone(core::Instant now) const {
  const std::lock_guard lock(mutex_);
  std::vector<InodeNumber> gone;
  for (const auto& [number, known] : remembered_) {
    if (known.deadline.passed(now + kLastMoment)) gone.push_back(number);
  }
  return gone;
}

std::size_t InodeTable::size() const {
  const std::lock_guard lock(mutex_);
  return inodes_.size();
}

}  // namespace ephfs::fs
