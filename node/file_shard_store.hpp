// SPDX-License-Identifier: Apache-2.0
// Shards as files (shard_files.hpp), and in memory what is known of each: its lease, and when it ends. A shard counts
// as held when both its files are there. What is given with a proof is checked against the leaf hashes, and those
// against the shard's name.
//
// Threads. `mutex_` guards the index and the accounts and is never held over a system call; changes of one shard
// exclude one another by a claim on its name, so different shards are written at once.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "core/buffer_pool.hpp"
#include "node/shard_files.hpp"
#include "node/shard_store.hpp"
#include "node/tree_cache.hpp"

namespace ephfs::node {

class FileShardStore final : public ShardStore {
 public:
  FileShardStore(const FileShardStore&) = delete;
  FileShardStore& operator=(const FileShardStore&) = delete;
  ~FileShardStore() override = default;

  [[nodiscard]] Result<> put(const HeldLease& lease, const net::ShardSource& shard) override;
  [[nodiscard]] std::optional<HeldLease> find(const core::ShardId& shard) const override;
  [[nodiscard]] Result<net::ShardRange> get(const net::FetchRequest& request) const override;
  [[nodiscard]] Result<net::ShardRange> try_get(const net::FetchRequest& request) const override;
  [[nodiscard]] Result<core::MerkleTree> tree(const core::ShardId& shard) const override;
  [[nodiscard]] Result<> set_lease(const HeldLease& lease) override;
  [[nodiscard]] Result<> remove(const core::ShardId& shard, RemovalSync sync) override;
  [[nodiscard]] std::optional<HeldLease> trace(const core::ShardId& shard) const override;
  [[nodiscard]] std::vector<HeldLease> traces(std::size_t limit) const override;
  [[nodiscard]] Result<> sync_removals(const std::vector<core::ShardId>& shards) override;
  [[nodiscard]] Result<> forget(const std::vector<core::ShardId>& shards) override;
  [[nodiscard]] core::Deadline next_deadline() const override;
  [[nodiscard]] std::vector<core::ShardId> expired(core::Instant now, std::size_t limit) const override;
  [[nodiscard]] StoreUsage usage() const override;
  [[nodiscard]] std::vector<net::Holding> held_for(const core::OwnerId& owner, const core::ShardId& after,
                                                   std::size_t limit) const override;

 private:
  friend Result<std::unique_ptr<FileShardStore>> open_file_shard_store(const std::filesystem::path& directory,
                                                                       std::uint64_t capacity, core::Instant now);
  class Claim;
  using Wait = ShardFiles::Wait;

  FileShardStore(std::unique_ptr<ShardFiles> files, std::uint64_t capacity);
  [[nodiscard]] Result<> adopt(const core::ShardId& shard, bool has_shard, core::Instant now);
  [[nodiscard]] Result<std::shared_ptr<const core::MerkleTree>> load_tree(const core::ShardId& shard) const;
  [[nodiscard]] Result<net::ShardRange> get_range(const net::FetchRequest& request, Wait wait) const;
  [[nodiscard]] Result<net::ShardRange> prove_range(const net::FetchRequest& request, std::uint64_t shard_bytes,
                                                    Wait wait) const;
  [[nodiscard]] Result<core::SharedBytes> read_range(const core::ShardId& shard, std::uint64_t offset,
                                                     std::uint64_t length, Wait wait) const;
  void index_locked(const HeldLease& lease);
  void drop_locked(const core::ShardId& shard);

  const std::unique_ptr<ShardFiles> files_;
  const std::uint64_t capacity_;

  mutable std::mutex mutex_;  // guards from here
  std::condition_variable claim_released_;
  std::unordered_set<core::ShardId> claimed_;
  std::unordered_map<core::ShardId, HeldLease> held_;
  std::unordered_map<core::ShardId, HeldLease> traces_;  // removed, and the lease file is still there
  std::set<std::pair<core::Deadline, core::ShardId>> by_deadline_;
  std::uint64_t used_ = 0;
  std::uint64_t reserved_ = 0;  // by puts under way
                                // to here
  mutable TreeCache trees_;
  mutable core::BufferPool read_buffers_;
};

/// Opens the store in `directory`, or makes it there. Before it returns, what a crash left unfinished is cleaned up and
/// every shard whose deadline has passed at `now` is deleted, with its trace left; a shard whose lease file is damaged
/// can neither be served nor extended and is deleted, with one line in the log. busy when another process has it open;
/// version, naming the file, for a store of a later ephfs.
[[nodiscard]] Result<std::unique_ptr<FileShardStore>> open_file_shard_store(const std::filesystem::path& directory,
                                                                            std::uint64_t capacity, core::Instant now);

}  // namespace ephfs::node
