// SPDX-License-Identifier: Apache-2.0
// The bytes of a lease file: what lies beside each shard (docs/formats.md, "Shard and lease files"). The head holds the
// lease and what the owner signed, under a checksum; the shard's leaf hashes follow it, and need none, because their
// root is the shard's name. A scan of a million shards therefore reads heads only.
#pragma once

#include <cstdint>

#include "core/bytes.hpp"
#include "core/merkle.hpp"
#include "core/result.hpp"
#include "node/shard_store.hpp"

namespace ephfs::node {

/// A head is never longer than this: read so many bytes (or the whole file, if shorter) and parse.
constexpr std::size_t kLeaseHeadBytesMax = 144 + core::kEnvelopeBytesMax + 32;
constexpr std::size_t kLeaseFileBytesMax =
    kLeaseHeadBytesMax + core::leaf_count(net::kShardBytesMax) * core::Hash::kSize;

struct LeaseHead {
  HeldLease held;
  std::size_t head_bytes = 0;  // the leaf hashes begin here
  std::size_t leaves = 0;
};

/// The head alone; append the leaf hashes to have a file.
[[nodiscard]] core::Bytes encode_lease_head(const HeldLease& held);
[[nodiscard]] core::Bytes encode_lease_file(const HeldLease& held, const std::vector<core::Hash>& leaves);

/// Reads the head from the first bytes of a file that is `file_bytes` long. damaged for anything that is not exactly
/// one lease file's beginning, or a file of another length than its head says; version for another version.
[[nodiscard]] Result<LeaseHead> parse_lease_head(core::ByteView prefix, std::uint64_t file_bytes);

/// The leaf hashes of a whole lease file, not checked against the shard's name.
[[nodiscard]] Result<std::vector<core::Hash>> parse_leaf_hashes(core::ByteView file);

}  // namespace ephfs::node
