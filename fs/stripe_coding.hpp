// SPDX-License-Identifier: Apache-2.0
// From a stripe's padded ciphertext to its shards: parity, and a Merkle tree over each, whose root names it.
#pragma once

#include <memory>
#include <vector>

#include "core/buffer_pool.hpp"
#include "core/erasure.hpp"
#include "core/merkle.hpp"
#include "fs/extent_codec.hpp"
#include "meta/catalog.hpp"

namespace ephfs::fs {

using core::BufferPool;
using core::shared_part;

/// Length of a whole stripe on disk: k shards laid end to end.
[[nodiscard]] inline std::uint64_t padded_length(const meta::StripeRecord& record) {
  return std::uint64_t{record.profile.k} * core::shard_bytes(record.length, record.profile);
}

/// Whether a record's numbers can be a stripe's: it may have come from a damaged catalog.
[[nodiscard]] inline bool is_possible(const meta::StripeRecord& record) {
  return record.length > 0 && record.length <= kStripeCapacity && record.profile.k >= 1 &&
         record.profile.k <= core::kDataShardsMax && record.profile.m <= core::kParityShardsMax;
}

struct CodedShard {
  core::SharedBytes bytes;
  std::shared_ptr<const core::MerkleTree> tree;
};

/// All k + m shards of `padded`, which is padded_length long. The data shards share its memory. CPU work only.
[[nodiscard]] std::vector<CodedShard> code_stripe(const core::SharedBytes& padded, core::Profile profile,
                                                  BufferPool& pool);

}  // namespace ephfs::fs
