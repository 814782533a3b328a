// SPDX-License-Identifier: Apache-2.0
#include "fs/death_record.hpp"

#include <unordered_set>

#include <sys/stat.h>

namespace ephfs::fs {

std::optional<meta::DeadFileRecord> dead_file_of(const meta::InodeRecord& inode, meta::DeathCause cause,
                                                 core::Instant now) {
  if (!S_ISREG(inode.mode) || inode.file.is_zero()) return std::nullopt;
  meta::DeadFileRecord dead;
  dead.number = inode.number;
  dead.file = inode.file;
  dead.cause = cause;
  dead.died = now;
  dead.deadline = inode.deadline;
  dead.size = inode.size;
  return dead;
}

void remember_file(meta::DeadFileRecord dead, meta::Changes& changes) {
  if (dead.extents.empty()) return;
  if (dead.extents.size() > meta::kDeadExtentsMax) {
    // Then at least the stripes are known: a row of bounded size.
    dead.complete = false;
    std::unordered_set<core::StripeNumber> seen;
    std::erase_if(dead.extents, [&seen](const auto& extent) { return !seen.insert(extent.stripe).second; });
    dead.extents.resize(std::min(dead.extents.size(), meta::kDeadExtentsMax));
  }
  changes.emplace_back(meta::PutDeadFile{std::move(dead)});
}

void remember_stripe(const meta::StripeRecord& stripe, const std::vector<meta::PlacementRecord>& placements,
                     core::Instant now, meta::Changes& changes) {
  if (placements.empty()) return;  // it never left this machine
  meta::DeadStripeRecord dead;
  dead.number = stripe.number;
  dead.id = stripe.id;
  dead.format = stripe.format;
  dead.profile = stripe.profile;
  dead.length = stripe.length;
  dead.deadline = stripe.deadline;
  dead.died = now;
  changes.emplace_back(meta::PutDeadStripe{dead});
  for (const auto& row : placements) {
    meta::DeadShardRecord shard;
    shard.stripe = row.stripe;
    shard.index = row.index;
    shard.shard = row.shard;
    shard.node = row.node;
    shard.shard_bytes = row.shard_bytes;
    shard.lease_deadline = row.lease_deadline;
    shard.receipt = row.receipt;
    // A node that is not known to have had it is not asked.
    if (row.stored || row.lease_deadline.raw() != 0) shard.ask_at = now + kAskAfter;
    changes.emplace_back(meta::PutDeadShard{std::move(shard)});
  }
}

}  // namespace ephfs::fs
