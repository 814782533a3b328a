// SPDX-License-Identifier: Apache-2.0
#include "node/file_shard_store.hpp"

#include <algorithm>

#include "core/log.hpp"

namespace ephfs::node {
namespace {

using core::Error;
using core::fail;

constexpr std::size_t kTreeCacheBytes = 8U << 20U;
/// Ranges from this size on are read into buffers of a pool.
constexpr std::size_t kPooledBytes = 256U << 10U;
constexpr std::size_t kReadBuffersKept = 2;

}  // namespace

/// The right to change one shard's files. Waits while another holds it.
class FileShardStore::Claim {
 public:
  Claim(FileShardStore& store, const core::ShardId& shard) : store_(store), shard_(shard) {
    std::unique_lock lock(store_.mutex_);
    store_.claim_released_.wait(lock, [this] { return !store_.claimed_.contains(shard_); });
    store_.claimed_.insert(shard_);
  }
  ~Claim() {
    {
      const std::lock_guard lock(store_.mutex_);
      store_.claimed_.erase(shard_);
    }
    store_.claim_released_.notify_all();
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;

 private:
  FileShardStore& store_;
  const core::ShardId shard_;
};

FileShardStore::FileShardStore(std::unique_ptr<ShardFiles> files, std::uint64_t capacity)
    : files_(std::move(files)),
      capacity_(capacity),
      trees_(kTreeCacheBytes),
      read_buffers_(net::kShardBytesMax, kReadBuffersKept) {}

Result<> FileShardStore::put(const HeldLease& lease, const net::ShardSource& shard) {
  const core::ShardId id = lease.lease.shard;
  const std::uint64_t bytes = lease.lease.bytes;
  EPHFS_CHECK(shard.bytes.size() == bytes && (!shard.tree || shard.tree->root() == id),
              "a store is given what its lease names");
  const Claim claim(*this, id);
  {
    const std::lock_guard lock(mutex_);
    if (held_.contains(id)) return fail(Error::exists, named(id));
    const std::uint64_t taken = used_ + reserved_;
    if (taken > capacity_ || bytes > capacity_ - taken) {
      return fail(Error::no_space, "the node's capacity of " + std::to_string(capacity_) + " bytes");
    }
    reserved_ += bytes;
  }
  auto written = files_->write(lease, shard);
  if (written) trees_.insert(*written);
  const std::lock_guard lock(mutex_);
  reserved_ -= bytes;
  traces_.erase(id);
  if (!written) return written.error();
  index_locked(lease);
  return {};
}

std::optional<HeldLease> FileShardStore::find(const core::ShardId& shard) const {
  const std::lock_guard lock(mutex_);
  const auto found = held_.find(shard);
  if (found == held_.end()) return std::nullopt;
  return found->second;
}

Result<std::shared_ptr<const core::MerkleTree>> FileShardStore::load_tree(const core::ShardId& shard) const {
  if (auto cached = trees_.find(shard)) return cached;
  EPHFS_TRY(auto read, files_->read_tree(shard));
  auto tree = std::make_shared<const core::MerkleTree>(std::move(read));
  trees_.insert(tree);
  return tree;
}

Result<core::MerkleTree> FileShardStore::tree(const core::ShardId& shard) const {
  if (!find(shard)) return fail(Error::not_found, named(shard));
  EPHFS_TRY(const auto tree, load_tree(shard));
  return *tree;
}

Result<net::ShardRange> FileShardStore::get(const net::FetchRequest& request) const {
  return get_range(request, Wait::for_disk);
}

Result<net::ShardRange> FileShardStore::try_get(const net::FetchRequest& request) const {
  return get_range(request, Wait::never);
}

Result<net::ShardRange> FileShardStore::get_range(const net::FetchRequest& request, Wait wait) const {
  std::uint64_t bytes = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto held = held_.find(request.shard);
    if (held == held_.end()) return fail(Error::not_found, named(request.shard));
    bytes = held->second.lease.bytes;
  }
  if (request.length == 0 || request.offset >= bytes || request.length > bytes - request.offset) {
    return fail(Error::invalid_argument, "a range outside " + named(request.shard));
  }
  if (request.with_proof) return prove_range(request, bytes, wait);
  net::ShardRange range;
  range.shard_bytes = bytes;
  range.offset = request.offset;
  EPHFS_TRY(range.bytes, read_range(request.shard, request.offset, request.length, wait));
  return range;
}

/// Whole leaves around what was asked for, and their proof.
Result<net::ShardRange> FileShardStore::prove_range(const net::FetchRequest& request, std::uint64_t shard_bytes,
                                                    Wait wait) const {
  auto tree = trees_.find(request.shard);
  if (!tree && wait == Wait::never) return fail(Error::would_block);
  if (!tree) {
    EPHFS_TRY(tree, load_tree(request.shard));
  }
  const std::size_t first = request.offset / core::kLeafBytes;
  const std::size_t count = (request.offset + request.length - 1) / core::kLeafBytes - first + 1;
  net::ShardRange range;
  range.shard_bytes = shard_bytes;
  range.offset = first * core::kLeafBytes;
  const std::uint64_t length = std::min(range.offset + count * core::kLeafBytes, shard_bytes) - range.offset;
  EPHFS_TRY(range.bytes, read_range(request.shard, range.offset, length, wait));
  const std::vector<core::Hash> hashes = core::hash_leaves(range.bytes.view());
  for (std::size_t i = 0; i < count; ++i) {
    if (hashes[i] == tree->leaves()[first + i]) continue;
    return fail(Error::damaged, named(request.shard) + " at byte " + std::to_string((first + i) * core::kLeafBytes));
  }
  if (count < tree->leaves().size()) range.proof = tree->prove_range(first, count);
  return range;
}

Result<core::SharedBytes> FileShardStore::read_range(const core::ShardId& shard, std::uint64_t offset,
                                                     std::uint64_t length, Wait wait) const {
  const auto pooled = length >= kPooledBytes ? read_buffers_.take() : std::make_shared<core::Buffer>(length);
  EPHFS_TRY_VOID(files_->read(shard, offset, pooled->view().first(length), wait));
  return core::shared_part(pooled, 0, length);
}

Result<> FileShardStore::set_lease(const HeldLease& lease) {
  const core::ShardId& id = lease.lease.shard;
  const Claim claim(*this, id);
  const auto held = find(id);
  if (!held) return fail(Error::not_found, named(id));
  EPHFS_CHECK(held->lease.bytes == lease.lease.bytes, "a lease is replaced by one for the same shard");

  EPHFS_TRY_VOID(files_->replace_lease(lease));
  {
    // From the rename on, the file says so; the index follows it even when the sync below fails.
    const std::lock_guard lock(mutex_);
    drop_locked(id);
    index_locked(lease);
  }
  return files_->sync({&id, 1});
}

Result<> FileShardStore::remove(const core::ShardId& shard, RemovalSync sync) {
  const Claim claim(*this, shard);
  if (!find(shard)) return fail(Error::not_found, named(shard));
  EPHFS_TRY_VOID(files_->remove_shard(shard));
  trees_.erase(shard);
  {
    const std::lock_guard lock(mutex_);
    traces_.insert_or_assign(shard, held_.at(shard));
    drop_locked(shard);
  }
  if (sync == RemovalSync::lazy) return {};
  return files_->sync({&shard, 1});
}

std::optional<HeldLease> FileShardStore::trace(const core::ShardId& shard) const {
  const std::lock_guard lock(mutex_);
  const auto found = traces_.find(shard);
  if (found == traces_.end()) return std::nullopt;
  return found->second;
}

std::vector<HeldLease> FileShardStore::traces(std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  std::vector<HeldLease> traces;
  for (const auto& [shard, lease] : traces_) {
    if (traces.size() >= limit) break;
    traces.push_back(lease);
  }
  return traces;
}

Result<> FileShardStore::sync_removals(const std::vector<core::ShardId>& shards) {
  return files_->sync(shards);
}

Result<> FileShardStore::forget(const std::vector<core::ShardId>& shards) {
  for (const auto& shard : shards) {
    const Claim claim(*this, shard);
    if (!trace(shard)) continue;
    EPHFS_TRY_VOID(files_->remove_lease(shard));
    const std::lock_guard lock(mutex_);
    traces_.erase(shard);
  }
  return {};
}

core::Deadline FileShardStore::next_deadline() const {
  const std::lock_guard lock(mutex_);
  return by_deadline_.empty() ? core::Deadline::never() : by_deadline_.begin()->first;
}

std::vector<core::ShardId> FileShardStore::expired(core::Instant now, std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  std::vector<core::ShardId> shards;
  for (const auto& [deadline, shard] : by_deadline_) {
    if (shards.size() >= limit || deadline.is_never() || !deadline.passed(now)) break;
    shards.push_back(shard);
  }
  return shards;
}

StoreUsage FileShardStore::usage() const {
  const std::lock_guard lock(mutex_);
  return {.capacity = capacity_, .used = used_, .shards = held_.size()};
}

std::vector<net::Holding> FileShardStore::held_for(const core::OwnerId& owner, const core::ShardId& after,
                                                   std::size_t limit) const {
  std::vector<net::Holding> holdings;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [shard, held] : held_) {
      if (held.lease.owner != owner || shard <= after) continue;
      holdings.push_back({shard, held.lease.bytes, held.lease.serial, held.lease.deadline, true});
    }
  }
  limit = std::min(limit, holdings.size());
  const auto end = holdings.begin() + static_cast<std::ptrdiff_t>(limit);
  std::ranges::partial_sort(holdings, end, {}, &net::Holding::shard);
  holdings.resize(limit);
  for (auto& holding : holdings) holding.present = files_->has(holding.shard, holding.bytes);
  return holdings;
}

void FileShardStore::index_locked(const HeldLease& lease) {
  held_.emplace(lease.lease.shard, lease);
  by_deadline_.emplace(lease.lease.deadline, lease.lease.shard);
  used_ += lease.lease.bytes;
}

void FileShardStore::drop_locked(const core::ShardId& shard) {
  const auto found = held_.find(shard);
  EPHFS_CHECK(found != held_.end(), "what is dropped was held");
  by_deadline_.erase({found->second.lease.deadline, shard});
  used_ -= found->second.lease.bytes;
  held_.erase(found);
}

/// A lease that was found when the store is opened.
Result<> FileShardStore::adopt(const core::ShardId& shard, bool has_shard, core::Instant now) {
  const auto held = files_->read_lease(shard);
  if (held && has_shard && !held->lease.deadline.passed(now)) {
    index_locked(*held);
    return {};
  }
  if (!held) {
    const bool lost = held.error().code == Error::damaged || held.error().code == Error::io;
    if (!lost) return held.error();
    core::log_line(held.error().message() + "; its shard is deleted");
  }
  EPHFS_TRY_VOID(files_->remove_shard(shard));
  if (!held) return files_->remove_lease(shard);
  traces_.emplace(shard, *held);
  return {};
}

Result<std::unique_ptr<FileShardStore>> open_file_shard_store(const std::filesystem::path& directory,
                                                              std::uint64_t capacity, core::Instant now) {
  EPHFS_TRY(auto files, ShardFiles::open(directory));
  std::unique_ptr<FileShardStore> store(new FileShardStore(std::move(files), capacity));
  EPHFS_TRY_VOID(store->files_->recover(
      [&](const core::ShardId& shard, bool has_shard) { return store->adopt(shard, has_shard, now); }));
  return store;
}

}  // namespace ephfs::node
