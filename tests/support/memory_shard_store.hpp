// SPDX-License-Identifier: Apache-2.0
// A ShardStore in memory that keeps every promise of the seam, and can be told to have a bad day: fail the Nth
// operation, run full, rot a byte, lose power. For tests and simulations. Thread-safe.
#pragma once

#include <map>
#include <mutex>
#include <set>

#include "node/shard_store.hpp"

namespace ephfs::testing {

class MemoryShardStore final : public node::ShardStore {
 public:
  explicit MemoryShardStore(std::uint64_t capacity) : capacity_(capacity) {}

  [[nodiscard]] core::Result<> put(const node::HeldLease& lease, const net::ShardSource& shard) override;
  [[nodiscard]] std::optional<node::HeldLease> find(const core::ShardId& shard) const override;
  [[nodiscard]] core::Result<net::ShardRange> get(const net::FetchRequest& request) const override;
  [[nodiscard]] core::Result<net::ShardRange> try_get(const net::FetchRequest& request) const override {
    return get(request);
  }
  [[nodiscard]] core::Result<core::MerkleTree> tree(const core::ShardId& shard) const override;
  [[nodiscard]] core::Result<> set_lease(const node::HeldLease& lease) override;
  [[nodiscard]] core::Result<> remove(const core::ShardId& shard, node::RemovalSync sync) override;
  [[nodiscard]] std::optional<node::HeldLease> trace(const core::ShardId& shard) const override;
  [[nodiscard]] std::vector<node::HeldLease> traces(std::size_t limit) const override;
  [[nodiscard]] core::Result<> sync_removals(const std::vector<core::ShardId>& shards) override;
  [[nodiscard]] core::Result<> forget(const std::vector<core::ShardId>& shards) override;
  [[nodiscard]] core::Deadline next_deadline() const override;
  [[nodiscard]] std::vector<core::ShardId> expired(core::Instant now, std::size_t limit) const override;
  [[nodiscard]] node::StoreUsage usage() const override;
  [[nodiscard]] std::vector<net::Holding> held_for(const core::OwnerId& owner, const core::ShardId& after,
                                                   std::size_t limit) const override;

  enum class Fault { once, from_then_on };
  /// The `nth` operation from now (1 is the next) fails with `code` and without effect, once or with all that follow.
  /// Operations are put, get, tree, set_lease, remove, sync_removals and forget.
  void fail_operation(std::uint64_t nth, Fault fault, core::Error code = core::Error::io);
  void stop_failing();
  /// How many operations there were.
  [[nodiscard]] std::uint64_t operations() const;
  /// As if something else had filled the disk: every put gives no_space.
  void set_full(bool full);
  /// Inverts a byte of a held shard; false when it is not held or shorter.
  bool flip_byte(const core::ShardId& shard, std::uint64_t offset);
  /// The bytes of a held shard vanish, and its lease stays; false when it is not held.
  bool lose_bytes(const core::ShardId& shard);
  /// Power fails and the store is opened again at `reopened`: what was put and leased is all there, what was removed
  /// lazily is back unless its deadline has passed, as the sweep of a real opening sees to.
  void crash(core::Instant reopened);
  /// Every shard held, for checkers; not an operation.
  [[nodiscard]] std::vector<node::HeldLease> all() const;

 private:
  struct Item {
    node::HeldLease lease;
    core::SharedBytes bytes;
    core::MerkleTree tree;
  };
  [[nodiscard]] core::Result<> count_locked(const char* operation) const;
  void insert_locked(const core::ShardId& shard, Item item);
  void erase_locked(const core::ShardId& shard);

  mutable std::mutex mutex_;  // guards all below
  std::uint64_t capacity_;
  std::uint64_t used_ = 0;
  bool full_ = false;
  std::map<core::ShardId, Item> items_;
  std::map<core::ShardId, Item> removed_lazily_;
  std::map<core::ShardId, node::HeldLease> traces_;
  std::set<core::ShardId> without_bytes_;
  std::set<std::pair<core::Deadline, core::ShardId>> by_deadline_;
  mutable std::uint64_t operations_ = 0;
  mutable std::optional<std::uint64_t> fail_at_;
  Fault fault_ = Fault::once;
  core::Error fault_code_ = core::Error::io;
};

}  // namespace ephfs::testing
