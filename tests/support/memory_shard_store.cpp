// SPDX-License-Identifier: Apache-2.0
#include "tests/support/memory_shard_store.hpp"

#include <algorithm>

namespace ephfs::testing {

using core::Error;
using core::fail;
using core::Result;

Result<> MemoryShardStore::count_locked(const char* operation) const {
  ++operations_;
  if (!fail_at_ || operations_ < *fail_at_) return {};
  if (fault_ == Fault::once) fail_at_.reset();
  return fail(fault_code_, std::string("injected fault in ") + operation);
}

Result<> MemoryShardStore::put(const node::HeldLease& lease, const net::ShardSource& shard) {
  const std::lock_guard lock(mutex_);
  EPHFS_TRY_VOID(count_locked("put"));
  EPHFS_CHECK(shard.bytes.size() == lease.lease.bytes && (!shard.tree || shard.tree->root() == lease.lease.shard),
              "a store is given what its lease names");
  if (items_.contains(lease.lease.shard)) return fail(Error::exists, lease.lease.shard.hex());
  if (full_ || used_ > capacity_ || lease.lease.bytes > capacity_ - used_) {
    return fail(Error::no_space, "the capacity of a store in memory");
  }
  const core::MerkleTree tree = shard.tree ? *shard.tree : core::MerkleTree::of_data(shard.bytes.view());
  if (tree.root() != lease.lease.shard) return fail(Error::damaged, "the bytes are not the lease's shard");
  removed_lazily_.erase(lease.lease.shard);
  traces_.erase(lease.lease.shard);
  insert_locked(lease.lease.shard, {lease, shard.bytes, tree});
  return {};
}

std::optional<node::HeldLease> MemoryShardStore::find(const core::ShardId& shard) const {
  const std::lock_guard lock(mutex_);
  const auto item = items_.find(shard);
  if (item == items_.end()) return std::nullopt;
  return item->second.lease;
}

Result<net::ShardRange> MemoryShardStore::get(const net::FetchRequest& request) const {
  const std::lock_guard lock(mutex_);
  EPHFS_TRY_VOID(count_locked("get"));
  const auto found = items_.find(request.shard);
  if (found == items_.end() || without_bytes_.contains(request.shard)) {
    return fail(Error::not_found, request.shard.hex());
  }
  const Item& item = found->second;
  const std::uint64_t bytes = item.bytes.size();
  if (request.length == 0 || request.offset >= bytes || request.length > bytes - request.offset) {
    return fail(Error::invalid_argument, "a range outside shard " + request.shard.hex());
  }
  const std::size_t first = request.offset / core::kLeafBytes;
  const std::size_t count = (request.offset + request.length - 1) / core::kLeafBytes - first + 1;
  const std::uint64_t begin = first * core::kLeafBytes;
  const auto leaves = item.bytes.slice(begin, std::min<std::uint64_t>(count * core::kLeafBytes, bytes - begin));
  const auto kept = std::next(item.tree.leaves().begin(), static_cast<std::ptrdiff_t>(first));
  if (request.with_proof && !std::ranges::equal(core::hash_leaves(leaves.view()), std::span(kept, count))) {
    return fail(Error::damaged, "shard " + request.shard.hex());
  }
  net::ShardRange range;
  range.shard_bytes = bytes;
  range.offset = request.with_proof ? begin : request.offset;
  range.bytes = request.with_proof ? leaves : item.bytes.slice(request.offset, request.length);
  if (request.with_proof && count < item.tree.leaves().size()) range.proof = item.tree.prove_range(first, count);
  return range;
}

Result<core::MerkleTree> MemoryShardStore::tree(const core::ShardId& shard) const {
  const std::lock_guard lock(mutex_);
  EPHFS_TRY_VOID(count_locked("tree"));
  const auto item = items_.find(shard);
  if (item == items_.end()) return fail(Error::not_found, shard.hex());
  return item->second.tree;
}

Result<> MemoryShardStore::set_lease(const node::HeldLease& lease) {
  const std::lock_guard lock(mutex_);
  EPHFS_TRY_VOID(count_locked("set_lease"));
  const auto item = items_.find(lease.lease.shard);
  if (item == items_.end()) return fail(Error::not_found, lease.lease.shard.hex());
  by_deadline_.erase({item->second.lease.lease.deadline, lease.lease.shard});
  item->second.lease = lease;
  by_deadline_.emplace(lease.lease.deadline, lease.lease.shard);
  return {};
}

Result<> MemoryShardStore::remove(const core::ShardId& shard, node::RemovalSync sync) {
  const std::lock_guard lock(mutex_);
  EPHFS_TRY_VOID(count_locked("remove"));
  const auto item = items_.find(shard);
  if (item == items_.end()) return fail(Error::not_found, shard.hex());
  if (sync == node::RemovalSync::lazy) removed_lazily_.insert_or_assign(shard, item->second);
  traces_.insert_or_assign(shard, item->second.lease);
  erase_locked(shard);
  return {};
}

std::optional<node::HeldLease> MemoryShardStore::trace(const core::ShardId& shard) const {
  const std::lock_guard lock(mutex_);
  const auto found = traces_.find(shard);
  return found == traces_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<node::HeldLease> MemoryShardStore::traces(std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  std::vector<node::HeldLease> traces;
  for (const auto& [shard, lease] : traces_) {
    if (traces.size() < limit) traces.push_back(lease);
  }
  return traces;
}

Result<> MemoryShardStore::sync_removals(const std::vector<core::ShardId>& shards) {
  const std::lock_guard lock(mutex_);
  EPHFS_TRY_VOID(count_locked("sync_removals"));
  for (const auto& shard : shards) removed_lazily_.erase(shard);
  return {};
}

Result<> MemoryShardStore::forget(const std::vector<core::ShardId>& shards) {
  const std::lock_guard lock(mutex_);
  EPHFS_TRY_VOID(count_locked("forget"));
  for (const auto& shard : shards) traces_.erase(shard);
  return {};
}

std::vector<net::Holding> MemoryShardStore::held_for(const core::OwnerId& owner, const core::ShardId& after,
                                                     std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  std::vector<net::Holding> holdings;
  for (auto item = items_.upper_bound(after); item != items_.end() && holdings.size() < limit; ++item) {
    const core::Lease& lease = item->second.lease.lease;
    if (lease.owner != owner) continue;
    holdings.push_back({item->first, lease.bytes, lease.serial, lease.deadline, !without_bytes_.contains(item->first)});
  }
  return holdings;
}

bool MemoryShardStore::lose_bytes(const core::ShardId& shard) {
  const std::lock_guard lock(mutex_);
  if (!items_.contains(shard)) return false;
  without_bytes_.insert(shard);
  return true;
}

core::Deadline MemoryShardStore::next_deadline() const {
  const std::lock_guard lock(mutex_);
  return by_deadline_.empty() ? core::Deadline::never() : by_deadline_.begin()->first;
}

std::vector<core::ShardId> MemoryShardStore::expired(core::Instant now, std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  std::vector<core::ShardId> shards;
  for (const auto& [deadline, shard] : by_deadline_) {
    if (shards.size() >= limit || deadline.is_never() || !deadline.passed(now)) break;
    shards.push_back(shard);
  }
  return shards;
}

node::StoreUsage MemoryShardStore::usage() const {
  const std::lock_guard lock(mutex_);
  return {.capacity = capacity_, .used = used_, .shards = items_.size()};
}

void MemoryShardStore::fail_operation(std::uint64_t nth, Fault fault, Error code) {
  const std::lock_guard lock(mutex_);
  fail_at_ = operations_ + nth;
  fault_ = fault;
  fault_code_ = code;
}

void MemoryShardStore::stop_failing() {
  const std::lock_guard lock(mutex_);
  fail_at_.reset();
}

std::uint64_t MemoryShardStore::operations() const {
  const std::lock_guard lock(mutex_);
  return operations_;
}

void MemoryShardStore::set_full(bool full) {
  const std::lock_guard lock(mutex_);
  full_ = full;
}

bool MemoryShardStore::flip_byte(const core::ShardId& shard, std::uint64_t offset) {
  const std::lock_guard lock(mutex_);
  const auto item = items_.find(shard);
  if (item == items_.end() || offset >= item->second.bytes.size()) return false;
  core::Buffer copy = core::Buffer::copy_of(item->second.bytes.view());
  copy.view()[offset] ^= std::byte{0xff};
  item->second.bytes = core::SharedBytes(std::move(copy));
  return true;
}

void MemoryShardStore::crash(core::Instant reopened) {
  const std::lock_guard lock(mutex_);
  for (auto& [shard, item] : removed_lazily_) {
    traces_.erase(shard);
    if (!items_.contains(shard)) insert_locked(shard, std::move(item));
  }
  removed_lazily_.clear();
  std::vector<core::ShardId> gone;
  for (const auto& [shard, item] : items_) {
    if (item.lease.lease.deadline.passed(reopened)) gone.push_back(shard);
  }
  for (const auto& shard : gone) {
    traces_.insert_or_assign(shard, items_.at(shard).lease);
    erase_locked(shard);
  }
}

std::vector<node::HeldLease> MemoryShardStore::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<node::HeldLease> leases;
  for (const auto& [shard, item] : items_) leases.push_back(item.lease);
  return leases;
}

void MemoryShardStore::insert_locked(const core::ShardId& shard, Item item) {
  used_ += item.lease.lease.bytes;
  by_deadline_.emplace(item.lease.lease.deadline, shard);
  items_.insert_or_assign(shard, std::move(item));
}

void MemoryShardStore::erase_locked(const core::ShardId& shard) {
  const auto item = items_.find(shard);
  used_ -= item->second.lease.lease.bytes;
  by_deadline_.erase({item->second.lease.lease.deadline, shard});
  items_.erase(item);
  without_bytes_.erase(shard);
}

}  // namespace ephfs::testing
