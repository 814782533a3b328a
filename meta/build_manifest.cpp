// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <unordered_map>

#include <sys/stat.h>

#include "meta/manifest.hpp"

namespace ephfs::meta {

using core::Error;
using core::fail;

namespace {

constexpr int kAttemptsMax = 8;

std::string name_of(InodeNumber number) {
  return "manifest of inode " + std::to_string(number.value);
}

/// None when the stripe went away since its extents were read.
Result<std::optional<ManifestStripe>> describe_stripe(const Catalog& catalog, StripeNumber number) {
  EPHFS_TRY(const auto record, catalog.stripe(number));
  EPHFS_TRY(const auto placements, catalog.placements(number));
  if (!record) return std::optional<ManifestStripe>();
  if (record->state != StripeState::placed) {
    return fail(Error::busy, "stripe " + record->id.hex() + " has not been placed");
  }
  ManifestStripe stripe;
  stripe.id = record->id;
  stripe.algorithm = record->algorithm;
  stripe.profile = record->profile;
  stripe.length = record->length;
  stripe.shard_bytes = core::shard_bytes(record->length, record->profile);
  for (const PlacementRecord& placement : placements) {
    stripe.shards.push_back({placement.index, placement.shard, placement.node});
  }
  return std::optional<ManifestStripe>(std::move(stripe));
}

/// None when what was read does not belong together and is to be read again.
Result<std::optional<Manifest>> try_build(const Catalog& catalog, const InodeRecord& inode,
                                          const std::vector<ExtentRecord>& extents,
                                          const core::VolumeId& volume) {
  Manifest manifest;
  manifest.volume = volume;
  manifest.file = inode.file;
  manifest.size = inode.size;
  manifest.deadline = inode.deadline;
  std::unordered_map<StripeNumber, std::uint32_t> places;
  for (const ExtentRecord& extent : extents) {
    if (extent.offset >= inode.size) break;
    const auto [place, is_new] =
        places.try_emplace(extent.stripe, static_cast<std::uint32_t>(manifest.stripes.size()));
    if (is_new) {
      EPHFS_TRY(auto stripe, describe_stripe(catalog, extent.stripe));
      if (!stripe) return std::optional<Manifest>();
      manifest.stripes.push_back(*std::move(stripe));
    }
    manifest.extents.push_back({extent.offset, std::min(extent.length, inode.size - extent.offset),
                                place->second, extent.stripe_offset, extent.origin_offset,
                                extent.origin_length});
  }
  return std::optional<Manifest>(std::move(manifest));
}

}  // namespace

Result<Manifest> build_manifest(const Catalog& catalog, InodeNumber number, const core::VolumeId& volume) {
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    EPHFS_TRY(const auto inode, catalog.inode(number));
    if (!inode) return fail(Error::not_found, name_of(number));
    if (!S_ISREG(inode->mode)) return fail(Error::invalid_argument, name_of(number) + ": not a regular file");
    EPHFS_TRY(const auto extents, catalog.extents(number));
    EPHFS_TRY(auto manifest, try_build(catalog, *inode, extents, volume));
    // Each read above saw the catalog at a moment of its own; what has not changed meanwhile was true all the
    // time.
    EPHFS_TRY(const auto inode_after, catalog.inode(number));
    EPHFS_TRY(const auto extents_after, catalog.extents(number));
    if (manifest && inode_after == inode && extents_after == extents) return *std::move(manifest);
  }
  return fail(Error::busy, name_of(number) + ": it keeps changing");
}

}  // namespace ephfs::meta
