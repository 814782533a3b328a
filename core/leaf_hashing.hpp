// SPDX-License-Identifier: Apache-2.0
// The two ways of hashing a shard's leaves, apart from the choice between them, so that tests can compare
// them. Used by merkle.cpp; everybody else calls hash_leaves(). Thread-safe.
#pragma once

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

}  // namespace ephfs::core::detail
