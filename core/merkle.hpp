// SPDX-License-Identifier: Apache-2.0
// The Merkle tree of RFC 9162, section 2.1, with SHA-256, over the 4 KiB leaves of a shard (the last may be shorter).
// Its root names the shard; a range of leaves can be proven against the root alone.
#pragma once

#include <memory>
#include <vector>

#include "core/bytes.hpp"
#include "core/ids.hpp"
#include "core/result.hpp"

namespace ephfs::core {

constexpr std::size_t kLeafBytes = 4096;

using Hash = FixedId<struct HashTag, 32>;

[[nodiscard]] constexpr std::size_t leaf_count(std::size_t bytes) {
  return bytes / kLeafBytes + (bytes % kLeafBytes != 0 ? 1 : 0);
}

/// SHA-256(0x00 || leaf) of every leaf of `data`, in order. Many leaves are hashed at once where that is faster
/// (multi-buffer, intel-ipsec-mb: the widest registers) and one by one where SHA instructions are the faster.
[[nodiscard]] std::vector<Hash> hash_leaves(ByteView data);

/// SHA-256(0x01 || left || right).
[[nodiscard]] Hash hash_node(const Hash& left, const Hash& right);

/// The tree over some leaves: immutable, thread-safe.
class MerkleTree {
 public:
  [[nodiscard]] static MerkleTree of_data(ByteView data) { return MerkleTree(hash_leaves(data)); }
  explicit MerkleTree(std::vector<Hash> leaves);

  [[nodiscard]] ShardId root() const { return root_; }
  [[nodiscard]] const std::vector<Hash>& leaves() const { return levels_.front(); }
  /// The hashes that, with leaves [first, first + count), give the root: left to right in the order verify_range
  /// consumes them. For one leaf it is RFC 9162's inclusion path, ordered left to right by position. `count` is at
  /// least 1 and the range lies within the tree: check what a stranger asks for.
  [[nodiscard]] std::vector<Hash> prove_range(std::size_t first, std::size_t count) const;

 private:
  // The leaves, their parents, and so on up to the root, so that a proof hashes nothing.
  std::vector<std::vector<Hash>> levels_;
  ShardId root_;
};

/// Whether `data`, which is leaves [first, ...) of a shard of `shard_bytes` bytes, belongs to the shard named `root`.
/// `data` starts on a leaf and ends on one or at the shard's end.
[[nodiscard]] bool verify_range(const ShardId& root, std::size_t shard_bytes, std::size_t first, ByteView data,
                                const std::vector<Hash>& proof);

/// RFC 9162 section 2.1.3.2: whether `leaf` is at `index` of a tree of `count` leaves with `root`;
/// `path` from the leaf up.
[[nodiscard]] bool verify_inclusion(const ShardId& root, std::size_t index, std::size_t count, const Hash& leaf,
                                    const std::vector<Hash>& path);

}  // namespace ephfs::core
