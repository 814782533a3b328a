// SPDX-License-Identifier: Apache-2.0
#include "core/ggm_tree.hpp"

#include <algorithm>

#include <gtest/gtest.h>

#include "core/aead.hpp"
#include "tests/support/seeded.hpp"

namespace ephfs::core {
namespace {

using ephfs::testing::Random;

Key root_key() {
  return Key::copy_of(Bytes(32, std::byte{7}));
}

// From the definition alone: one child a bit, the highest first.
Key leaf_by_definition(std::uint64_t number) {
  Key node = root_key();
  for (unsigned bit = GgmTree::kDepth; bit-- > 0;) {
    node = derive_key(node, (number >> bit & 1U) != 0 ? "ggm-rght" : "ggm-left", {});
  }
  return node;
}

bool same(const Key& a, const Key& b) {
  return equal_in_constant_time(a.view(), b.view());
}

TEST(GgmTree, GivesTheLeavesOfTheDefinition) {
  const GgmTree tree(root_key());
  for (const std::uint64_t number :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{29'453'760}, GgmTree::kLeaves / 2, GgmTree::kLeaves - 1}) {
    EXPECT_TRUE(same(tree.leaf(number).value(), leaf_by_definition(number))) << number;
  }
  EXPECT_EQ(tree.leaf(GgmTree::kLeaves).error().code, Error::invalid_argument);
}

TEST(GgmTree, PuncturesAnywhereAndKeepsTheRest) {
  Random random;
  for (int round = 0; round < 200; ++round) {
    GgmTree tree(root_key());
    std::uint64_t first = 0;
    // Short steps and long ones, from low leaves and high ones.
    for (int step = 0; step < 20; ++step) {
      const std::uint64_t reach = std::uint64_t{1} << random.below(GgmTree::kDepth + 1);
      first = std::min(first + random.below(reach + 1), GgmTree::kLeaves);
      tree.puncture(first);
      ASSERT_EQ(tree.first(), first);
      ASSERT_EQ(tree.seeds().size(), GgmTree::seed_count(first));
      ASSERT_LE(tree.seeds().size(), GgmTree::kSeedsMax);
    }
    if (first == GgmTree::kLeaves) continue;
    ASSERT_TRUE(same(tree.leaf(first).value(), leaf_by_definition(first))) << first;
    const std::uint64_t some = first + random.below(GgmTree::kLeaves - first);
    ASSERT_TRUE(same(tree.leaf(some).value(), leaf_by_definition(some))) << first << " " << some;
    if (first > 0) {
      EXPECT_EQ(tree.leaf(first - 1).error().code, Error::stale);
    }
  }
}

// What is kept is only what cannot be computed from the seeds: none of them is on the way to a leaf that was
// given up.
TEST(GgmTree, NoSeedReachesWhatWasGivenUp) {
  Random random;
  for (int round = 0; round < 50; ++round) {
    const std::uint64_t first = 1 + random.below(GgmTree::kLeaves - 1);
    GgmTree tree(root_key());
    tree.puncture(first);
    for (const std::uint64_t given_up : {first - 1, random.below(first), std::uint64_t{0}}) {
      Key node = root_key();
      for (unsigned bit = GgmTree::kDepth;; --bit) {
        EXPECT_TRUE(std::ranges::none_of(tree.seeds(), [&](const Key& seed) { return same(seed, node); }));
        if (bit == 0) break;
        node = derive_key(node, (given_up >> (bit - 1) & 1U) != 0 ? "ggm-rght" : "ggm-left", {});
      }
    }
  }
}

TEST(GgmTree, NeverHasMoreThan32Seeds) {
  EXPECT_EQ(GgmTree::seed_count(0), 1U);
  EXPECT_EQ(GgmTree::seed_count(1), 32U);
  EXPECT_EQ(GgmTree::seed_count(GgmTree::kLeaves - 1), 1U);
  EXPECT_EQ(GgmTree::seed_count(GgmTree::kLeaves), 0U);
  GgmTree tree(root_key());
  std::size_t most = 0;
  // Minute by minute through some of 2026.
  for (std::uint64_t minute = 29'453'760; minute < 29'453'760 + 5000; ++minute) {
    tree.puncture(minute);
    most = std::max(most, tree.seeds().size());
  }
  EXPECT_LE(most, GgmTree::kSeedsMax);
  tree.puncture(GgmTree::kLeaves);
  EXPECT_TRUE(tree.seeds().empty());
  EXPECT_EQ(tree.leaf(GgmTree::kLeaves - 1).error().code, Error::stale);
}

TEST(GgmTree, IsMadeAgainFromItsSeeds) {
  GgmTree tree(root_key());
  tree.puncture(29'453'761);
  std::vector<Key> seeds;
  for (const Key& seed : tree.seeds()) seeds.push_back(seed.copy());
  const GgmTree again(tree.first(), std::move(seeds));
  EXPECT_TRUE(same(again.leaf(29'500'000).value(), leaf_by_definition(29'500'000)));
  EXPECT_EQ(again.leaf(29'453'760).error().code, Error::stale);
}

}  // namespace
}  // namespace ephfs::core
