// SPDX-License-Identifier: Apache-2.0
// The Merkle trees of shards read or written lately, each checked against its shard's name when it was put in, so that
// reading a shard range by range builds its tree once. Bounded in bytes, least recently used out first. Thread-safe.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "core/merkle.hpp"

namespace ephfs::node {

class TreeCache {
 public:
  explicit TreeCache(std::size_t bytes_max) : bytes_max_(bytes_max) {}

  /// Null when the tree is not here.
  [[nodiscard]] std::shared_ptr<const core::MerkleTree> find(const core::ShardId& shard);
  /// `tree` must have been checked: it is kept under its own root.
  void insert(std::shared_ptr<const core::MerkleTree> tree);
  void erase(const core::ShardId& shard);

 private:
  using Order = std::list<std::shared_ptr<const core::MerkleTree>>;
  [[nodiscard]] static std::size_t cost_of(const core::MerkleTree& tree);
  void erase_locked(const core::ShardId& shard);

  const std::size_t bytes_max_;
  std::mutex mutex_;  // guards all below
  std::size_t bytes_ = 0;
  Order order_;  // the most recently used first
  std::unordered_map<core::ShardId, Order::iterator> places_;
};

}  // namespace ephfs::node
