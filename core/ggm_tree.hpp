// SPDX-License-Identifier: Apache-2.0
// A puncturable pseudorandom function over the leaves of a binary tree: the construction of Goldreich,
// Goldwasser and Micali, "How to Construct Random Functions", Journal of the ACM 33(4), 1986. A node's seed
// gives its children's, and a leaf's seed is the function's value there, so that a node's seed gives every
// leaf below it and none other. Who keeps, instead of the root, the seeds of the subtrees that cover some
// leaves can compute those and no others: the puncturing of Boneh and Waters (ASIACRYPT 2013), as
// forward-secure encryption uses it (Green and Miers, IEEE S&P 2015). Here leaves are only ever given up from
// the left: [0, first()) is gone, [first(), kLeaves) is covered.
//
// How many seeds: the fewest subtrees that cover [first, 2^d) are one for each 1 in the binary number 2^d -
// first. It has at most d digits unless first is 0, when it is 2^d and has a single 1. So there are never
// more than d = 32.
//
// Immutable but for puncture(); one thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/result.hpp"
#include "core/secret.hpp"

namespace ephfs::core {

class GgmTree {
 public:
  static constexpr unsigned kDepth = 32;
  static constexpr std::uint64_t kLeaves = std::uint64_t{1} << kDepth;
  static constexpr std::size_t kSeedsMax = kDepth;

  /// All leaves, from the root's seed.
  explicit GgmTree(Key root);
  /// The leaves from `first` on, from the seeds() of a tree that was punctured there: as many as
  /// seed_count(first).
  GgmTree(std::uint64_t first, std::vector<Key> seeds);
  /// How many seeds cover [first, kLeaves); `first` is at most kLeaves.
  [[nodiscard]] static std::size_t seed_count(std::uint64_t first);

  /// The first leaf that there is; kLeaves when there is none.
  [[nodiscard]] std::uint64_t first() const noexcept { return first_; }
  /// The seeds of the subtrees that cover what there is, from the left.
  [[nodiscard]] std::span<const Key> seeds() const noexcept { return seeds_; }

  /// A leaf's value, by at most kDepth derivations: stale for one that was given up, invalid_argument for one
  /// that no tree has.
  [[nodiscard]] Result<Key> leaf(std::uint64_t number) const;
  /// Gives the leaves in front of `first` up for ever: the seeds that reach them are wiped. One at or in
  /// front of first() changes nothing; `first` is at most kLeaves.
  void puncture(std::uint64_t first);

 private:
  std::uint64_t first_ = 0;
  std::vector<Key> seeds_;
};

}  // namespace ephfs::core
