// SPDX-License-Identifier: Apache-2.0
#include "meta/sqlite_records.hpp"

#include <limits>

#include "core/little_endian.hpp"

namespace ephfs::meta {

namespace {

constexpr std::size_t kExtentBytes = 6 * sizeof(std::uint64_t);
constexpr std::uint64_t kMax32 = std::numeric_limits<std::uint32_t>::max();

core::Profile read_profile(SqliteQuery& row, int column) {
  core::Profile profile;
  profile.k = static_cast<std::uint8_t>(row.natural_to(column, core::kDataShardsMax));
  profile.m = static_cast<std::uint8_t>(row.natural_to(column + 1, core::kParityShardsMax));
  if (profile.k == 0) row.mark_unsound();
  return profile;
}

core::BlockFormat read_format(SqliteQuery& row, int column) {
  const auto format = static_cast<core::BlockFormat>(row.natural_to(column, std::numeric_limits<std::uint8_t>::max()));
  if (!core::is_known(format)) row.mark_unsound();
  return format;
}

std::uint8_t read_index(SqliteQuery& row, int column) {
  return static_cast<std::uint8_t>(row.natural_to(column, core::kDataShardsMax + core::kParityShardsMax - 1));
}

}  // namespace

Deadline read_deadline(SqliteQuery& row, int column) {
  return row.is_null(column) ? Deadline::never() : Deadline::from_raw(row.integer(column));
}

InodeRecord read_inode(SqliteQuery& row) {
  InodeRecord inode;
  inode.number = {row.natural(0)};
  inode.mode = static_cast<std::uint32_t>(row.natural_to(1, kMax32));
  inode.uid = static_cast<std::uint32_t>(row.natural_to(2, kMax32));
  inode.gid = static_cast<std::uint32_t>(row.natural_to(3, kMax32));
  inode.rdev = static_cast<std::uint64_t>(row.integer(4));
  inode.links = static_cast<std::uint32_t>(row.natural_to(5, kMax32));
  inode.size = row.natural(6);
  inode.accessed = {row.integer(7)};
  inode.modified = {row.integer(8)};
  inode.changed = {row.integer(9)};
  if (!row.blob(10).empty()) inode.file = row.id<core::FileId>(10);
  inode.wrapped_key = core::to_bytes(row.blob(11));
  inode.target = row.text(12);
  inode.deadline = read_deadline(row, 13);
  inode.ttl = core::Milliseconds(row.integer(14));
  inode.default_deadline = read_deadline(row, 15);
  inode.deadline_explicit = row.natural_to(16, 1) == 1;
  inode.ttl_mode = static_cast<TtlMode>(row.natural_to(17, 2));
  if (!row.is_null(18)) inode.profile = read_profile(row, 18);
  return inode;
}

ExtentRecord read_extent(SqliteQuery& row) {
  ExtentRecord extent;
  extent.inode = {row.natural(0)};
  extent.offset = row.natural(1);
  extent.length = row.natural(2);
  extent.stripe = {row.integer(3)};
  extent.stripe_offset = row.natural(4);
  extent.origin_offset = row.natural(5);
  extent.origin_length = row.natural(6);
  return extent;
}

StripeRecord read_stripe(SqliteQuery& row) {
  StripeRecord stripe;
  stripe.number = {row.integer(0)};
  stripe.id = row.id<core::StripeId>(1);
  stripe.state = static_cast<StripeState>(row.natural_to(2, 2));
  stripe.format = read_format(row, 3);
  stripe.profile = read_profile(row, 4);
  stripe.length = row.natural(6);
  stripe.live = row.natural(7);
  stripe.deadline = read_deadline(row, 8);
  stripe.created = {row.integer(9)};
  return stripe;
}

PlacementRecord read_placement(SqliteQuery& row) {
  PlacementRecord placement;
  placement.stripe = {row.integer(0)};
  placement.index = read_index(row, 1);
  placement.shard = row.id<core::ShardId>(2);
  placement.node = row.id<core::NodeId>(3);
  placement.stored = row.natural_to(4, 1) == 1;
  placement.shard_bytes = row.natural(5);
  placement.lease_serial = row.natural(6);
  placement.lease_deadline = read_deadline(row, 7);
  placement.receipt = core::to_bytes(row.blob(8));
  return placement;
}

RemovalRecord read_removal(SqliteQuery& row) {
  RemovalRecord removal;
  removal.shard = row.id<core::ShardId>(0);
  removal.node = row.id<core::NodeId>(1);
  removal.serial = row.natural(2);
  removal.lease_deadline = read_deadline(row, 3);
  return removal;
}

core::Bytes stored_extents(const std::vector<ExtentRecord>& extents) {
  core::Bytes bytes(extents.size() * kExtentBytes);
  core::MutableByteView rest(bytes);
  for (const ExtentRecord& extent : extents) {
    for (const std::uint64_t value : {extent.offset, extent.length, static_cast<std::uint64_t>(extent.stripe.value),
                                      extent.stripe_offset, extent.origin_offset, extent.origin_length}) {
      core::store_le(rest, value);
      rest = rest.subspan(sizeof value);
    }
  }
  return bytes;
}

DeadFileRecord read_dead_file(SqliteQuery& row) {
  DeadFileRecord dead;
  dead.number = {row.natural(0)};
  dead.file = row.id<core::FileId>(1);
  dead.cause = static_cast<DeathCause>(row.natural_to(2, 2));
  if (dead.cause != DeathCause::expired && dead.cause != DeathCause::removed) row.mark_unsound();
  dead.died = {row.integer(3)};
  dead.deadline = read_deadline(row, 4);
  dead.size = row.natural(5);
  dead.complete = row.natural_to(6, 1) == 1;
  const core::ByteView bytes = row.blob(7);
  if (bytes.size() % kExtentBytes != 0) row.mark_unsound();
  for (std::size_t at = 0; at + kExtentBytes <= bytes.size(); at += kExtentBytes) {
    const auto number = [&](std::size_t field) { return core::load_le<std::uint64_t>(bytes.subspan(at + field * 8)); };
    dead.extents.push_back(
        {dead.number, number(0), number(1), {static_cast<std::int64_t>(number(2))}, number(3), number(4), number(5)});
  }
  return dead;
}

DeadStripeRecord read_dead_stripe(SqliteQuery& row) {
  DeadStripeRecord dead;
  dead.number = {row.integer(0)};
  dead.id = row.id<core::StripeId>(1);
  dead.format = read_format(row, 2);
  dead.profile = read_profile(row, 3);
  dead.length = row.natural(5);
  dead.deadline = read_deadline(row, 6);
  dead.died = {row.integer(7)};
  return dead;
}

DeadShardRecord read_dead_shard(SqliteQuery& row) {
  DeadShardRecord dead;
  dead.stripe = {row.integer(0)};
  dead.index = read_index(row, 1);
  dead.node = row.id<core::NodeId>(2);
  dead.shard = row.id<core::ShardId>(3);
  dead.shard_bytes = row.natural(4);
  dead.lease_deadline = read_deadline(row, 5);
  dead.receipt = core::to_bytes(row.blob(6));
  dead.deletion = core::to_bytes(row.blob(7));
  if (!row.is_null(8)) dead.ask_at = core::Instant{row.integer(8)};
  return dead;
}

AuditRecord read_audit(SqliteQuery& row) {
  AuditRecord audit;
  audit.stripe = {row.integer(0)};
  audit.index = read_index(row, 1);
  audit.shard = row.id<core::ShardId>(2);
  audit.node = row.id<core::NodeId>(3);
  audit.at = {row.integer(4)};
  audit.passed = row.natural_to(5, 1) == 1;
  audit.receipt = core::to_bytes(row.blob(6));
  return audit;
}

}  // namespace ephfs::meta
