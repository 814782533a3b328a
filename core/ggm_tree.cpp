// SPDX-License-Identifier: Apache-2.0
#include "core/ggm_tree.hpp"

#include <algorithm>
#include <bit>
#include <iterator>
#include <string_view>
#include <utility>

#include "core/aead.hpp"
#include "core/check.hpp"

namespace ephfs::core {
namespace {

constexpr std::string_view kLeft = "ggm-left";
constexpr std::string_view kRight = "ggm-rght";

Key child(const Key& seed, bool right) {
  return derive_key(seed, right ? kRight : kLeft, {});
}

/// Leaves below the subtree that begins at `at` in the cover of [at, kLeaves): as many as what is left
/// allows.
std::uint64_t subtree_leaves(std::uint64_t at) {
  const std::uint64_t rest = GgmTree::kLeaves - at;
  return rest & (~rest + 1);
}

}  // namespace

GgmTree::GgmTree(Key root) {
  seeds_.reserve(kSeedsMax);
  seeds_.push_back(std::move(root));
}

GgmTree::GgmTree(std::uint64_t first, std::vector<Key> seeds) : first_(first), seeds_(std::move(seeds)) {
  EPHFS_CHECK(seeds_.size() == seed_count(first), "a tree has the seeds that its first leaf asks for");
}

std::size_t GgmTree::seed_count(std::uint64_t first) {
  EPHFS_CHECK(first <= kLeaves, "a tree begins at one of its leaves or behind the last");
  return static_cast<std::size_t>(std::popcount(kLeaves - first));
}

Result<Key> GgmTree::leaf(std::uint64_t number) const {
  if (number >= kLeaves) return fail(Error::invalid_argument, "further than the tree of keys reaches");
  if (number < first_) return fail(Error::stale, "the key of that time has been destroyed");
  std::uint64_t begin = first_;
  for (const Key& seed : seeds_) {
    std::uint64_t leaves = subtree_leaves(begin);
    if (number >= begin + leaves) {
      begin += leaves;
      continue;
    }
    Key key = seed.copy();
    while (leaves > 1) {
      leaves /= 2;
      const bool right = number >= begin + leaves;
      if (right) begin += leaves;
      key = child(key, right);
    }
    return key;
  }
  fail_check("number is covered", "the seeds cover every leaf from the first on");
}

void GgmTree::puncture(std::uint64_t first) {
  EPHFS_CHECK(first <= kLeaves, "a tree is punctured at one of its leaves or behind the last");
  if (first <= first_) return;
  std::vector<Key> kept;
  kept.reserve(kSeedsMax);
  std::uint64_t begin = first_;
  for (Key& seed : seeds_) {
    std::uint64_t leaves = subtree_leaves(begin);
    const std::uint64_t end = begin + leaves;
    if (begin >= first) {
      kept.push_back(std::move(seed));
    } else if (end > first) {
      // Down to where the kept part begins; what branches off to the right on the way stays.
      std::vector<Key> branches;
      Key node = std::move(seed);
      std::uint64_t at = begin;
      while (at < first) {
        leaves /= 2;
        const bool right = first >= at + leaves;
        if (right)
          at += leaves;
        else
          branches.push_back(child(node, true));
        node = child(node, right);
      }
      kept.push_back(std::move(node));
      std::move(branches.rbegin(), branches.rend(), std::back_inserter(kept));
    }
    begin = end;
  }
  seeds_ = std::move(kept);
  first_ = first;
  EPHFS_CHECK(seeds_.size() == seed_count(first), "a punctured tree has the fewest seeds");
}

}  // namespace ephfs::core
