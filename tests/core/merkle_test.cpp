// SPDX-License-Identifier: Apache-2.0
#include "core/merkle.hpp"

#include <limits>

#include <gtest/gtest.h>
#include <sodium.h>

#include "core/leaf_hashing.hpp"
#include "tests/support/seeded.hpp"

namespace ephfs::core::testing {
namespace {

using ephfs::testing::Random;

// RFC 9162, section 2.1, word for word and slow, on libsodium's SHA-256: what merkle.cpp is compared with.
namespace naive {

Hash sha256(const Bytes& message) {
  Hash hash;
  crypto_hash_sha256(as_u8(hash.mutable_view()), as_u8(ByteView(message)), message.size());
  return hash;
}

Hash leaf(ByteView content) {
  Bytes message{std::byte{0}};
  message.insert(message.end(), content.begin(), content.end());
  return sha256(message);
}

std::size_t split(std::size_t count) {
  std::size_t k = 1;
  while (k * 2 < count) k *= 2;
  return k;
}

Hash root(std::span<const Hash> leaves) {
  if (leaves.empty()) return sha256({});
  if (leaves.size() == 1) return leaves[0];
  const std::size_t k = split(leaves.size());
  const Hash left = root(leaves.first(k));
  const Hash right = root(leaves.subspan(k));
  Bytes message{std::byte{1}};
  message.insert(message.end(), left.view().begin(), left.view().end());
  message.insert(message.end(), right.view().begin(), right.view().end());
  return sha256(message);
}

// PATH(index, leaves) of section 2.1.3.1, from the leaf up.
std::vector<Hash> path(std::size_t index, std::span<const Hash> leaves) {
  if (leaves.size() <= 1) return {};
  const std::size_t k = split(leaves.size());
  const bool is_left = index < k;
  std::vector<Hash> hashes = is_left ? path(index, leaves.first(k)) : path(index - k, leaves.subspan(k));
  hashes.push_back(root(is_left ? leaves.subspan(k) : leaves.first(k)));
  return hashes;
}

}  // namespace naive

std::vector<Hash> leaves_of(ByteView data) {
  std::vector<Hash> hashes;
  for (std::size_t at = 0; at < data.size(); at += kLeafBytes) {
    hashes.push_back(naive::leaf(data.subspan(at, std::min(kLeafBytes, data.size() - at))));
  }
  return hashes;
}

// The log that the Certificate Transparency reference implementation tests with (merkle_tree_test.cc).
std::vector<Hash> reference_leaves() {
  std::vector<Hash> hashes;
  for (const std::string_view hex :
       {"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}) {
    Bytes input(hex.size() / 2);
    EXPECT_TRUE(from_hex(hex, input));
    hashes.push_back(detail::hash_leaf(input));
  }
  return hashes;
}

TEST(Merkle, GivesTheReferenceRoots) {
  EXPECT_EQ(MerkleTree(std::vector<Hash>{}).root().hex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const char* expected[] = {"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
                            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
                            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
                            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
                            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
                            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};
  const std::vector<Hash> leaves = reference_leaves();
  for (std::size_t count = 1; count <= leaves.size(); ++count) {
    const MerkleTree tree(std::vector<Hash>(leaves.begin(), leaves.begin() + static_cast<std::ptrdiff_t>(count)));
    EXPECT_EQ(tree.root().hex(), expected[count - 1]) << count;
  }
}

TEST(Merkle, AcceptsTheReferenceInclusionPath) {
  const std::vector<Hash> leaves = reference_leaves();
  const MerkleTree tree{std::vector<Hash>(leaves)};
  std::vector<Hash> path;
  for (const char* hex : {"96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                          "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                          "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"}) {
    path.push_back(*Hash::from_hex(hex));
  }
  EXPECT_TRUE(verify_inclusion(tree.root(), 0, 8, leaves[0], path));
  EXPECT_EQ(tree.prove_range(0, 1), path);
  EXPECT_FALSE(verify_inclusion(tree.root(), 1, 8, leaves[0], path));
  EXPECT_FALSE(verify_inclusion(tree.root(), 0, 8, leaves[1], path));
}

TEST(Merkle, BothWaysOfHashingLeavesAgree) {
  Random random;
  EPHFS_TRACE_SEED(random);
  // Every fill of the lanes and of a batch, and a last leaf of every kind.
  for (std::size_t count = 0; count <= 70; ++count) {
    for (const std::size_t last : {std::size_t{1}, std::size_t{64}, random.between(2, kLeafBytes - 1), kLeafBytes}) {
      const Bytes data = random.bytes(count == 0 ? 0 : (count - 1) * kLeafBytes + last);
      const auto expected = leaves_of(data);
      ASSERT_EQ(detail::hash_leaves_singly(data), expected) << count << " leaves, the last of " << last;
      ASSERT_EQ(detail::hash_leaves_together(data), expected) << count << " leaves, the last of " << last;
      ASSERT_EQ(hash_leaves(data), expected);
    }
  }
}

TEST(Merkle, BothWaysOfHashingNodesAgree) {
  Random random;
  EPHFS_TRACE_SEED(random);
  std::vector<Hash> below;
  for (std::size_t count = 0; count <= 140; ++count) {
    std::vector<Hash> expected;
    for (std::size_t i = 0; i + 1 < below.size(); i += 2) expected.push_back(hash_node(below[i], below[i + 1]));
    ASSERT_EQ(detail::hash_pairs_singly(below), expected) << count;
    ASSERT_EQ(detail::hash_pairs_together(below), expected) << count;
    ASSERT_EQ(detail::hash_pairs(below), expected) << count;
    below.push_back(*Hash::from_bytes(random.bytes(Hash::kSize)));
  }
}

TEST(Merkle, TreesOfEverySmallAndSomeLargeSizesAreThoseOfTheRfc) {
  Random random;
  EPHFS_TRACE_SEED(random);
  std::vector<std::size_t> counts;
  for (std::size_t count = 1; count <= 66; ++count) counts.push_back(count);
  for (int i = 0; i < 6; ++i) counts.push_back(random.between(67, 2000));
  for (const std::size_t count : counts) {
    std::vector<Hash> leaves(count);
    for (Hash& leaf : leaves) random.fill(leaf.mutable_view());
    const MerkleTree tree{std::vector<Hash>(leaves)};
    ASSERT_EQ(tree.root().hex(), naive::root(leaves).hex()) << count;
    for (int i = 0; i < 8; ++i) {
      const std::size_t index = random.below(count);
      const auto path = naive::path(index, leaves);
      ASSERT_TRUE(verify_inclusion(tree.root(), index, count, leaves[index], path)) << index << " of " << count;
      ASSERT_FALSE(verify_inclusion(tree.root(), index + 1, count, leaves[index], path) && count > 1);
      // The same hashes, in the order of positions.
      auto sorted = tree.prove_range(index, 1);
      ASSERT_TRUE(std::is_permutation(sorted.begin(), sorted.end(), path.begin(), path.end()));
    }
  }
}

class MerkleRange : public ::testing::Test {
 protected:
  // The data of leaves [first, first + count).
  [[nodiscard]] ByteView range(std::size_t first, std::size_t count) const {
    const std::size_t begin = first * kLeafBytes;
    return ByteView(data_).subspan(begin, std::min(count * kLeafBytes, data_.size() - begin));
  }
  void make(std::size_t size) {
    data_ = random_.bytes(size);
    tree_.emplace(MerkleTree::of_data(data_));
  }
  [[nodiscard]] bool verifies(std::size_t first, std::size_t count, const std::vector<Hash>& proof) const {
    return verify_range(tree_->root(), data_.size(), first, range(first, count), proof);
  }

  Random random_;
  Bytes data_;
  std::optional<MerkleTree> tree_;
};

TEST_F(MerkleRange, EveryRangeOfSmallShardsIsProven) {
  EPHFS_TRACE_SEED(random_);
  for (std::size_t leaves = 1; leaves <= 17; ++leaves) {
    make((leaves - 1) * kLeafBytes + random_.between(1, kLeafBytes));
    for (std::size_t first = 0; first < leaves; ++first) {
      for (std::size_t count = 1; first + count <= leaves; ++count) {
        const auto proof = tree_->prove_range(first, count);
        ASSERT_TRUE(verifies(first, count, proof)) << first << "+" << count << " of " << leaves;
      }
    }
    EXPECT_TRUE(tree_->prove_range(0, leaves).empty());
  }
}

TEST_F(MerkleRange, OtherBytesPlacesSizesRootsAndProofsAreRefused) {
  EPHFS_TRACE_SEED(random_);
  for (int round = 0; round < 60; ++round) {
    const std::size_t leaves = random_.between(2, 40);
    make((leaves - 1) * kLeafBytes + random_.between(1, kLeafBytes));
    const std::size_t first = random_.below(leaves);
    const std::size_t count = random_.between(1, leaves - first);
    const auto proof = tree_->prove_range(first, count);
    const ShardId root = tree_->root();
    ASSERT_TRUE(verifies(first, count, proof));

    Bytes changed = to_bytes(range(first, count));
    changed[random_.below(changed.size())] ^= std::byte{1};
    EXPECT_FALSE(verify_range(root, data_.size(), first, changed, proof));

    ShardId other_root = root;
    other_root.mutable_view()[0] ^= std::byte{1};
    EXPECT_FALSE(verify_range(other_root, data_.size(), first, range(first, count), proof));

    for (std::size_t place = 0; place < leaves; ++place) {
      if (place != first) {
        EXPECT_FALSE(verify_range(root, data_.size(), place, range(first, count), proof));
      }
    }
    if (!proof.empty()) {
      auto longer = proof;
      longer.push_back(proof.back());
      EXPECT_FALSE(verifies(first, count, longer));
      auto shorter = proof;
      shorter.pop_back();
      EXPECT_FALSE(verifies(first, count, shorter));
      auto damaged = proof;
      damaged[random_.below(damaged.size())].mutable_view()[31] ^= std::byte{0x80};
      EXPECT_FALSE(verifies(first, count, damaged));
    }
  }
}

TEST_F(MerkleRange, ARangeEndsOnALeafOrAtTheShardsEnd) {
  make(3 * kLeafBytes + 100);
  const ShardId root = tree_->root();
  const ByteView all(data_);
  EXPECT_TRUE(verify_range(root, data_.size(), 0, all, {}));
  EXPECT_FALSE(verify_range(root, data_.size(), 0, all.first(data_.size() - 1), {}));
  EXPECT_FALSE(verify_range(root, data_.size() - 1, 0, all, {}));
  EXPECT_FALSE(verify_range(root, data_.size(), 0, {}, {}));
  EXPECT_FALSE(verify_range(root, data_.size(), 0, {}, {*Hash::from_bytes(root.view())}));
  EXPECT_FALSE(verify_range(root, data_.size(), 1, all.first(100), tree_->prove_range(1, 1)));
  EXPECT_FALSE(verify_range(root, data_.size(), 4, all.first(kLeafBytes), {}));
}

TEST_F(MerkleRange, HostileNumbersAreRefusedQuickly) {
  EPHFS_TRACE_SEED(random_);
  constexpr std::size_t kHuge = std::numeric_limits<std::size_t>::max();
  make(kLeafBytes);
  const ShardId root = tree_->root();
  for (const std::size_t shard_bytes :
       {std::size_t{0}, kLeafBytes - 1, kHuge, kHuge - 1, kHuge / 2, kHuge - kLeafBytes}) {
    for (const std::size_t first : {std::size_t{0}, std::size_t{1}, kHuge, kHuge / kLeafBytes, kHuge / 2}) {
      for (const std::size_t hashes : {0, 1, 51, 52, 53, 104, 128, 129, 100'000}) {
        EXPECT_FALSE(verify_range(root, shard_bytes, first, data_, std::vector<Hash>(hashes)));
        EXPECT_FALSE(verify_inclusion(root, first, shard_bytes, Hash{}, std::vector<Hash>(hashes)));
      }
    }
  }
  EXPECT_TRUE(verify_range(root, kLeafBytes, 0, data_, {}));
}

TEST(MerkleDeathTest, ARangeOutsideTheTreeIsOurOwnMistake) {
  const MerkleTree tree(std::vector<Hash>(3));
  EXPECT_DEATH((void)tree.prove_range(0, 0), "within the tree");
  EXPECT_DEATH((void)tree.prove_range(3, 1), "within the tree");
  EXPECT_DEATH((void)tree.prove_range(1, std::numeric_limits<std::size_t>::max()), "within the tree");
}

TEST(LeafCount, CountsTheLastShortOneAndDoesNotOverflow) {
  static_assert(leaf_count(0) == 0 && leaf_count(1) == 1 && leaf_count(4096) == 1 && leaf_count(4097) == 2);
  static_assert(leaf_count(std::numeric_limits<std::size_t>::max()) == std::size_t{1} << 52);
}

}  // namespace
}  // namespace ephfs::core::testing
