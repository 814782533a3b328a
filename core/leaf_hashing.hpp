// SPDX-License-Identifier: Apache-2.0
// The two ways of hashing a shard's leaves and the nodes above them, apart from the choice between them, so that tests
// can compare them. Used by merkle.cpp; everybody else calls hash_leaves(). Thread-safe.
#pragma once

#include <span>
#include <vector>

#include "core/bytes.hpp"
#include "core/merkle.hpp"

namespace ephfs::core::detail {

/// SHA-256(0x00 || leaf) of one leaf, of any length.
[[nodiscard]] Hash hash_leaf(ByteView leaf);
/// SHA-256 of no bytes: the root of a tree without leaves.
[[nodiscard]] Hash hash_of_nothing();
/// Leaf after leaf, with OpenSSL, which uses SHA instructions.
[[nodiscard]] std::vector<Hash> hash_leaves_singly(ByteView data);
/// As many leaves at once as the vector registers hold, with intel-ipsec-mb and without SHA instructions.
[[nodiscard]] std::vector<Hash> hash_leaves_together(ByteView data);
/// hash_node() of each two that follow one another; a last one that is alone is left out.
[[nodiscard]] std::vector<Hash> hash_pairs_singly(std::span<const Hash> hashes);
[[nodiscard]] std::vector<Hash> hash_pairs_together(std::span<const Hash> hashes);
/// By whichever is faster.
[[nodiscard]] std::vector<Hash> hash_pairs(std::span<const Hash> hashes);

}  // namespace ephfs::core::detail
