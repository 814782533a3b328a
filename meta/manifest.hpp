// SPDX-License-Identifier: Apache-2.0
// The manifest: everything about one file that somebody without the catalog needs to fetch and verify it,
// except its key. It is serialized once, those very bytes are signed by the volume's owner, and they are
// carried verbatim: two manifests are the same when their bytes are. Format: docs/formats.md, "Manifest".
// Free functions; thread-safe.
#pragma once

#include <vector>

#include "core/block_format.hpp"
#include "core/bytes.hpp"
#include "core/erasure.hpp"
#include "core/ids.hpp"
#include "core/merkle.hpp"
#include "core/result.hpp"
#include "core/signing.hpp"
#include "core/time.hpp"
#include "meta/catalog.hpp"

namespace ephfs::meta {

/// As ExtentRecord, its stripe by place in Manifest::stripes.
struct ManifestExtent {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint32_t stripe = 0;
  std::uint64_t stripe_offset = 0;
  std::uint64_t origin_offset = 0;
  std::uint64_t origin_length = 0;
  friend bool operator==(const ManifestExtent&, const ManifestExtent&) = default;
};

struct ManifestShard {
  std::uint8_t index = 0;
  core::ShardId id;
  core::NodeId node;  // where it is, or is to be
  friend bool operator==(const ManifestShard&, const ManifestShard&) = default;
};

struct ManifestStripe {
  core::StripeId id;
  core::BlockFormat format = core::BlockFormat::aes_256_gcm_4k;
  core::Profile profile;
  std::uint64_t length = 0;           // bytes of ciphertext
  std::uint64_t shard_bytes = 0;      // in each shard
  std::vector<ManifestShard> shards;  // by index; at least k of them
  friend bool operator==(const ManifestStripe&, const ManifestStripe&) = default;
};

struct Manifest {
  core::OwnerId owner;  // the key that signed it; sign_manifest fills it in
  core::VolumeId volume;
  core::FileId file;
  std::uint64_t size = 0;  // of the file; what no extent covers is zeros
  Deadline deadline;
  std::vector<ManifestExtent> extents;  // by offset; they do not overlap and end within the size
  std::vector<ManifestStripe> stripes;
  friend bool operator==(const Manifest&, const Manifest&) = default;
};

constexpr std::uint32_t kManifestVersion = 2;
constexpr std::size_t kManifestBytesMax = std::size_t{64} << 20;

/// The signed bytes. invalid_argument, saying what, for a manifest that open_manifest would not take;
/// file_too_large past kManifestBytesMax.
[[nodiscard]] Result<core::Bytes> sign_manifest(const Manifest& manifest, const core::Signer& owner);

/// Checks the signature, then every field. damaged for bytes that are no manifest, not_permitted for a
/// signature or signer that does not match, version for one that is not known. Whether `owner` is the right one is
/// the caller's to judge.
[[nodiscard]] Result<Manifest> open_manifest(core::ByteView bytes);

/// SHA-256 of the signed bytes.
[[nodiscard]] core::Hash manifest_hash(core::ByteView bytes);

/// The manifest of a regular file as the catalog has it, unsigned. not_found when there is no such inode,
/// invalid_argument for what is no regular file, busy while part of it has not been placed, or keeps
/// changing.
[[nodiscard]] Result<Manifest> build_manifest(const Catalog& catalog, InodeNumber number, const core::VolumeId& volume);
/// The manifest that a dead file had, as far as its stripes are remembered: not_found when one is not, or not all of
/// the file's extents were kept.
[[nodiscard]] Result<Manifest> build_dead_manifest(const Catalog& catalog, const DeadFileRecord& dead,
                                                   const core::VolumeId& volume);

}  // namespace ephfs::meta
