// SPDX-License-Identifier: Apache-2.0
// Rows to records, checked: what a damaged or foreign row holds never reaches the engine. Private to meta/.
#pragma once

#include <vector>

#include "meta/catalog.hpp"
#include "meta/sqlite_db.hpp"

namespace ephfs::meta {

/// The columns each read_ function takes, from column 0 on, in this order. Macros, since they are pasted into
/// SQL text.
#define EPHFS_INODE_COLUMNS                                                                              \
  "i.number, i.mode, i.uid, i.gid, i.rdev, i.links, i.size, i.accessed, i.modified, i.changed, i.file, " \
  "i.wrapped_key, i.target, i.deadline, i.ttl, i.default_deadline, i.deadline_explicit, i.ttl_mode, "    \
  "i.profile_k, i.profile_m"
#define EPHFS_EXTENT_COLUMNS "inode, offset, length, stripe, stripe_offset, origin_offset, origin_length"
#define EPHFS_STRIPE_COLUMNS "number, id, state, algorithm, profile_k, profile_m, length, live, deadline, created"
#define EPHFS_PLACEMENT_COLUMNS \
  "stripe, shard_index, shard, node, stored, shard_bytes, lease_serial, lease_deadline, receipt"
#define EPHFS_REMOVAL_COLUMNS "shard, node, serial, lease_deadline"
#define EPHFS_DEAD_FILE_COLUMNS "number, file, cause, died, deadline, size, complete, extents"
#define EPHFS_DEAD_STRIPE_COLUMNS "number, id, algorithm, profile_k, profile_m, length, deadline, died"
#define EPHFS_DEAD_SHARD_COLUMNS \
  "stripe, shard_index, node, shard, shard_bytes, lease_deadline, receipt, deletion, ask_at"
#define EPHFS_AUDIT_COLUMNS "stripe, shard_index, shard, node, at, passed, receipt"

[[nodiscard]] InodeRecord read_inode(SqliteQuery& row);
[[nodiscard]] ExtentRecord read_extent(SqliteQuery& row);
[[nodiscard]] StripeRecord read_stripe(SqliteQuery& row);
[[nodiscard]] PlacementRecord read_placement(SqliteQuery& row);
[[nodiscard]] RemovalRecord read_removal(SqliteQuery& row);
[[nodiscard]] DeadFileRecord read_dead_file(SqliteQuery& row);
[[nodiscard]] DeadStripeRecord read_dead_stripe(SqliteQuery& row);
[[nodiscard]] DeadShardRecord read_dead_shard(SqliteQuery& row);
[[nodiscard]] AuditRecord read_audit(SqliteQuery& row);
[[nodiscard]] Deadline read_deadline(SqliteQuery& row, int column);

/// A deadline as it is stored: none for never.
[[nodiscard]] inline std::optional<std::int64_t> stored_deadline(Deadline deadline) {
  if (deadline.is_never()) return std::nullopt;
  return deadline.raw();
}

/// The extents of a dead file as they are stored: six integers each.
[[nodiscard]] core::Bytes stored_extents(const std::vector<ExtentRecord>& extents);

/// All rows of a bound query, each by `read`; damaged when one of them is no record.
template <class Record>
[[nodiscard]] Result<std::vector<Record>> read_all(SqliteQuery& query, Record (*read)(SqliteQuery&)) {
  std::vector<Record> records;
  for (;;) {
    EPHFS_TRY(const bool row, query.next());
    if (!row) return records;
    records.push_back(read(query));
    EPHFS_TRY_VOID(query.sound());
  }
}

/// The only row of a bound query, or none.
template <class Record>
[[nodiscard]] Result<std::optional<Record>> read_one(SqliteQuery& query, Record (*read)(SqliteQuery&)) {
  EPHFS_TRY(const bool row, query.next());
  if (!row) return std::optional<Record>();
  std::optional<Record> record(read(query));
  EPHFS_TRY_VOID(query.sound());
  return record;
}

}  // namespace ephfs::meta
