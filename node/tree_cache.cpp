// SPDX-License-Identifier: Apache-2.0
#include "node/tree_cache.hpp"

namespace ephfs::node {

std::size_t TreeCache::cost_of(const core::MerkleTree& tree) {
  // A tree keeps its inner nodes too: as many as leaves, and about a list and a map entry besides.
  constexpr std::size_t kOverheadBytes = 512;
  return 2 * tree.leaves().size() * core::Hash::kSize + kOverheadBytes;
}

std::shared_ptr<const core::MerkleTree> TreeCache::find(const core::ShardId& shard) {
  const std::lock_guard lock(mutex_);
  const auto place = places_.find(shard);
  if (place == places_.end()) return nullptr;
  order_.splice(order_.begin(), order_, place->second);
  return order_.front();
}

void TreeCache::insert(std::shared_ptr<const core::MerkleTree> tree) {
  const std::lock_guard lock(mutex_);
  const core::ShardId shard = tree->root();
  erase_locked(shard);
  bytes_ += cost_of(*tree);
  order_.push_front(std::move(tree));
  places_[shard] = order_.begin();
  while (bytes_ > bytes_max_ && order_.size() > 1) erase_locked(order_.back()->root());
}

void TreeCache::erase(const core::ShardId& shard) {
  const std::lock_guard lock(mutex_);
  erase_locked(shard);
}

void TreeCache::erase_locked(const core::ShardId& shard) {
  const auto place = places_.find(shard);
  if (place == places_.end()) return;
  bytes_ -= cost_of(**place->second);
  order_.erase(place->second);
  places_.erase(place);
}

}  // namespace ephfs::node
