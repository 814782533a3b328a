// SPDX-License-Identifier: Apache-2.0
#include "core/merkle.hpp"

#include <bit>
#include <optional>

#include "core/check.hpp"
#include "core/leaf_hashing.hpp"

namespace ephfs::core {
namespace {

// No honest proof of a range is longer: two hashes for each level of the deepest tree a std::size_t can
// count.
constexpr std::size_t kProofHashesMax = 128;

ShardId name_of(const Hash& root) {
  return *ShardId::from_bytes(root.view());
}

// Rebuilds the root from a run of leaves and the hashes of everything to the left and right of it. The
// recursion is as deep as the tree (at most 52) and enters only subtrees that meet the run.
class RangeVerifier {
 public:
  RangeVerifier(std::size_t first, const std::vector<Hash>& leaves, const std::vector<Hash>& proof)
      : first_(first), leaves_(leaves), proof_(proof) {}

  // The hash of the tree over leaves [begin, end); none when the proof is too short.
  std::optional<Hash> subtree(std::size_t begin, std::size_t end) {
    if (end <= first_ || begin >= first_ + leaves_.size()) {
      if (used_ == proof_.size()) return std::nullopt;
      return proof_[used_++];
    }
    if (end - begin == 1) return leaves_[begin - first_];
    // RFC 9162: the left part is the largest power of two that is smaller than the whole.
    const std::size_t middle = begin + std::bit_floor(end - begin - 1);
    const auto left = subtree(begin, middle);
    if (!left) return std::nullopt;
    const auto right = subtree(middle, end);
    if (!right) return std::nullopt;
    return hash_node(*left, *right);
  }
  [[nodiscard]] bool used_all() const { return used_ == proof_.size(); }

 private:
  std::size_t first_;
  const std::vector<Hash>& leaves_;
  const std::vector<Hash>& proof_;
  std::size_t used_ = 0;
};

}  // namespace

MerkleTree::MerkleTree(std::vector<Hash> leaves) {
  levels_.push_back(std::move(leaves));
  while (levels_.back().size() > 1) {
    const std::vector<Hash>& below = levels_.back();
    std::vector<Hash> level = detail::hash_pairs(below);
    // A node without a sibling is its own parent, which gives the shape of RFC 9162.
    if (below.size() % 2 == 1) level.push_back(below.back());
    levels_.push_back(std::move(level));
  }
  root_ = name_of(levels_.back().empty() ? detail::hash_of_nothing() : levels_.back().front());
}

std::vector<Hash> MerkleTree::prove_range(std::size_t first, std::size_t count) const {
  const std::size_t size = leaves().size();
  EPHFS_CHECK(count > 0 && first < size && count <= size - first, "a proven range lies within the tree");
  std::vector<Hash> left;   // from the leaves up: right to left
  std::vector<Hash> right;  // from the leaves up: left to right
  std::size_t begin = first;
  std::size_t last = first + count - 1;
  for (std::size_t level = 0; level + 1 < levels_.size(); ++level) {
    const std::vector<Hash>& nodes = levels_[level];
    if (begin % 2 == 1) left.push_back(nodes[begin - 1]);
    if (last % 2 == 0 && last + 1 < nodes.size()) right.push_back(nodes[last + 1]);
    begin /= 2;
    last /= 2;
  }
  std::vector<Hash> proof(left.rbegin(), left.rend());
  proof.insert(proof.end(), right.begin(), right.end());
  return proof;
}

bool verify_range(const ShardId& root, std::size_t shard_bytes, std::size_t first, ByteView data,
                  const std::vector<Hash>& proof) {
  const std::size_t leaves = leaf_count(shard_bytes);
  if (data.empty() || first >= leaves || proof.size() > kProofHashesMax) return false;
  const std::size_t left = shard_bytes - first * kLeafBytes;
  if (data.size() > left || (data.size() != left && data.size() % kLeafBytes != 0)) return false;

  const std::vector<Hash> hashes = hash_leaves(data);
  RangeVerifier verifier(first, hashes, proof);
  const auto computed = verifier.subtree(0, leaves);
  return computed && verifier.used_all() && name_of(*computed) == root;
}

bool verify_inclusion(const ShardId& root, std::size_t index, std::size_t count, const Hash& leaf,
                      const std::vector<Hash>& path) {
  if (index >= count) return false;
  std::size_t node = index;
  std::size_t last = count - 1;
  Hash computed = leaf;
  for (const Hash& sibling : path) {
    if (last == 0) return false;
    if (node % 2 == 1 || node == last) {
      computed = hash_node(sibling, computed);
      // A last node without a sibling rises unchanged until it is somebody's right child.
      while (node % 2 == 0 && node != 0) {
        node /= 2;
        last /= 2;
      }
    } else {
      computed = hash_node(computed, sibling);
    }
    node /= 2;
    last /= 2;
  }
  return last == 0 && name_of(computed) == root;
}

}  // namespace ephfs::core
