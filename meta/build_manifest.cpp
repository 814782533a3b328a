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
  stripe.format = record->format;
  stripe.profile = record->profile;
  stripe.length = record->length;
  stripe.shard_bytes = core::shard_bytes(record->length, record->profile);
  for (const PlacementRecord& placement : placements) {
    stripe.shards.push_back({placement.index, placement.shard, placement.node});
  }
  return std::optional<ManifestStripe>(std::move(stripe));
}

/// Of a stripe that is remembered, or lives on without the file.
Result<std::optional<ManifestStripe>> recall_stripe(const Catalog& catalog, StripeNumber number) {
  EPHFS_TRY(const auto dead, catalog.dead_stripe(number));
  if (!dead) return describe_stripe(catalog, number);
  ManifestStripe stripe;
  stripe.id = dead->id;
  stripe.format = dead->format;
  stripe.profile = dead->profile;
  stripe.length = dead->length;
  stripe.shard_bytes = core::shard_bytes(dead->length, dead->profile);
  EPHFS_TRY(const auto shards, catalog.dead_shards(number));
  for (const DeadShardRecord& shard : shards) {
    if (!stripe.shards.empty() && stripe.shards.back().index == shard.index) continue;
    stripe.shards.push_back({shard.index, shard.shard, shard.node});
  }
  return std::optional<ManifestStripe>(std::move(stripe));
}

using DescribeStripe = Result<std::optional<ManifestStripe>> (*)(const Catalog& catalog, StripeNumber number);

/// Adds extents and their stripes. False when a stripe is not there.
Result<bool> add_extents(const Catalog& catalog, const std::vector<ExtentRecord>& extents, DescribeStripe describe,
                         Manifest& manifest) {
  std::unordered_map<StripeNumber, std::uint32_t> places;
  for (const ExtentRecord& extent : extents) {
    if (extent.offset >= manifest.size) break;
    const auto [place, is_new] = places.try_emplace(extent.stripe, static_cast<std::uint32_t>(manifest.stripes.size()));
    if (is_new) {
      EPHFS_TRY(auto stripe, describe(catalog, extent.stripe));
      if (!stripe) return false;
      manifest.stripes.push_back(*std::move(stripe));
    }
    manifest.extents.push_back({extent.offset, std::min(extent.length, manifest.size - extent.offset), place->second,
                                extent.stripe_offset, extent.origin_offset, extent.origin_length});
  }
  return true;
}

/// None when what was read does not belong together and is to be read again.
Result<std::optional<Manifest>> try_build(const Catalog& catalog, const InodeRecord& inode,
                                          const std::vector<ExtentRecord>& extents, const core::VolumeId& volume) {
  Manifest manifest;
  manifest.volume = volume;
  manifest.file = inode.file;
  manifest.size = inode.size;
  manifest.deadline = inode.deadline;
  EPHFS_TRY(const bool whole, add_extents(catalog, extents, describe_stripe, manifest));
  if (!whole) return std::optional<Manifest>();
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

Result<Manifest> build_dead_manifest(const Catalog& catalog, const DeadFileRecord& dead, const core::VolumeId& volume) {
  const std::string name = "manifest of dead file " + dead.file.hex();
  if (!dead.complete) return fail(Error::not_found, name + ": it had too many extents");
  Manifest manifest;
  manifest.volume = volume;
  manifest.file = dead.file;
  manifest.size = dead.size;
  manifest.deadline = dead.deadline;
  EPHFS_TRY(const bool whole, add_extents(catalog, dead.extents, recall_stripe, manifest));
  if (!whole) return fail(Error::not_found, name + ": a stripe of it never left this machine");
  return manifest;
}

}  // namespace ephfs::meta
