// SPDX-License-Identifier: Apache-2.0
#include "meta/sqlite_commit.hpp"

#include "meta/change_rules.hpp"
#include "meta/sqlite_records.hpp"

namespace ephfs::meta {

namespace {

// "Put" updates the row that is there instead of replacing it: a replaced row would take its dependants with
// it.
constexpr Sql kPutInode{"inodes", R"sql(
  INSERT INTO inodes (number, mode, uid, gid, rdev, links, size, accessed, modified, changed, file, wrapped_key, target,
                      deadline, ttl, default_deadline, deadline_explicit, ttl_mode, profile_k, profile_m)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
  ON CONFLICT (number) DO UPDATE SET
    mode = ?2, uid = ?3, gid = ?4, rdev = ?5, links = ?6, size = ?7, accessed = ?8, modified = ?9, changed = ?10,
    file = ?11, wrapped_key = ?12, target = ?13, deadline = ?14, ttl = ?15, default_deadline = ?16,
    deadline_explicit = ?17, ttl_mode = ?18, profile_k = ?19, profile_m = ?20)sql"};
constexpr Sql kDropInode{"inodes", "DELETE FROM inodes WHERE number = ?1"};
constexpr Sql kPutName{"names",
                       "INSERT INTO names (parent, name, inode) VALUES (?1, ?2, ?3) "
                       "ON CONFLICT (parent, name) DO UPDATE SET inode = ?3"};
constexpr Sql kDropName{"names", "DELETE FROM names WHERE parent = ?1 AND name = ?2"};
constexpr Sql kPutXattr{"xattrs",
                        "INSERT INTO xattrs (inode, name, value) VALUES (?1, ?2, ?3) "
                        "ON CONFLICT (inode, name) DO UPDATE SET value = ?3"};
constexpr Sql kDropXattr{"xattrs", "DELETE FROM xattrs WHERE inode = ?1 AND name = ?2"};
constexpr Sql kPutExtent{"extents", R"sql(
  INSERT INTO extents (inode, offset, length, stripe, stripe_offset, origin_offset, origin_length)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
  ON CONFLICT (inode, offset) DO UPDATE SET
    length = ?3, stripe = ?4, stripe_offset = ?5, origin_offset = ?6, origin_length = ?7)sql"};
constexpr Sql kDropExtent{"extents", "DELETE FROM extents WHERE inode = ?1 AND offset = ?2"};
// `live` is left to the triggers.
constexpr Sql kPutStripe{"stripes", R"sql(
  INSERT INTO stripes (number, id, state, algorithm, profile_k, profile_m, length, deadline, created)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
  ON CONFLICT (number) DO UPDATE SET
    id = ?2, state = ?3, algorithm = ?4, profile_k = ?5, profile_m = ?6, length = ?7, deadline = ?8, created = ?9)sql"};
constexpr Sql kDropStripe{"stripes", "DELETE FROM stripes WHERE number = ?1"};
constexpr Sql kPutPlacement{"placements", R"sql(
  INSERT INTO placements (stripe, shard_index, shard, node, stored, shard_bytes, lease_serial, lease_deadline, receipt)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
  ON CONFLICT (stripe, shard_index) DO UPDATE SET
    shard = ?3, node = ?4, stored = ?5, shard_bytes = ?6, lease_serial = ?7, lease_deadline = ?8, receipt = ?9)sql"};
constexpr Sql kPutRemoval{"removals",
                          "INSERT INTO removals (shard, node, serial, lease_deadline) VALUES (?1, ?2, ?3, ?4) "
                          "ON CONFLICT (shard, node) DO UPDATE SET serial = ?3, lease_deadline = ?4"};
constexpr Sql kDropRemoval{"removals", "DELETE FROM removals WHERE shard = ?1 AND node = ?2"};
constexpr Sql kPutValue{"settings",
                        "INSERT INTO settings (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2"};

constexpr Sql kPutDeadFile{"dead_files", R"sql(
  INSERT INTO dead_files (number, file, cause, died, deadline, size, complete, extents)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
  ON CONFLICT (number) DO UPDATE SET
    file = ?2, cause = ?3, died = ?4, deadline = ?5, size = ?6, complete = ?7, extents = ?8)sql"};
constexpr Sql kDropDeadFile{"dead_files", "DELETE FROM dead_files WHERE number = ?1"};
constexpr Sql kPutDeadStripe{"dead_stripes", R"sql(
  INSERT INTO dead_stripes (number, id, algorithm, profile_k, profile_m, length, deadline, died)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
  ON CONFLICT (number) DO UPDATE SET
    id = ?2, algorithm = ?3, profile_k = ?4, profile_m = ?5, length = ?6, deadline = ?7, died = ?8)sql"};
constexpr Sql kDropDeadStripe{"dead_stripes", "DELETE FROM dead_stripes WHERE number = ?1"};
constexpr Sql kDropDeadShards{"dead_shards", "DELETE FROM dead_shards WHERE stripe = ?1"};
constexpr Sql kPutDeadShard{"dead_shards", R"sql(
  INSERT INTO dead_shards (stripe, shard_index, node, shard, shard_bytes, lease_deadline, receipt, deletion, ask_at)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
  ON CONFLICT (stripe, shard_index, node) DO UPDATE SET
    shard = ?4, shard_bytes = ?5, lease_deadline = ?6, receipt = ?7, deletion = ?8, ask_at = ?9)sql"};
constexpr Sql kPutAudit{"audits", R"sql(
  INSERT INTO audits (stripe, shard_index, shard, node, at, passed, receipt) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
  ON CONFLICT (stripe, shard_index) DO UPDATE SET shard = ?3, node = ?4, at = ?5, passed = ?6, receipt = ?7)sql"};

std::optional<std::uint32_t> stored_k(const std::optional<core::Profile>& profile) {
  return profile ? std::optional<std::uint32_t>(profile->k) : std::nullopt;
}
std::optional<std::uint32_t> stored_m(const std::optional<core::Profile>& profile) {
  return profile ? std::optional<std::uint32_t>(profile->m) : std::nullopt;
}

/// Applies each kind of change; one overload a kind.
struct Applier {
  SqliteConnection& connection;

  template <class... Values>
  Result<> run(const Sql& sql, const Values&... values) const {
    return SqliteQuery(connection, sql).bind(values...).run();
  }

  Result<> operator()(const PutInode& put) const {
    const InodeRecord& inode = put.inode;
    return run(kPutInode, inode.number, inode.mode, inode.uid, inode.gid, static_cast<std::int64_t>(inode.rdev),
               inode.links, inode.size, inode.accessed.ns, inode.modified.ns, inode.changed.ns,
               inode.file.is_zero() ? core::ByteView() : inode.file.view(), inode.wrapped_key, inode.target,
               stored_deadline(inode.deadline), std::int64_t{inode.ttl.count()},
               stored_deadline(inode.default_deadline), inode.deadline_explicit,
               static_cast<std::uint32_t>(inode.ttl_mode), stored_k(inode.profile), stored_m(inode.profile));
  }
  Result<> operator()(const DropInode& drop) const { return run(kDropInode, drop.inode); }

  Result<> operator()(const PutName& put) const { return run(kPutName, put.parent, put.name, put.inode); }
  Result<> operator()(const DropName& drop) const { return run(kDropName, drop.parent, drop.name); }

  Result<> operator()(const PutXattr& put) const { return run(kPutXattr, put.inode, put.name, put.value); }
  Result<> operator()(const DropXattr& drop) const { return run(kDropXattr, drop.inode, drop.name); }

  Result<> operator()(const PutExtent& put) const {
    const ExtentRecord& extent = put.extent;
    return run(kPutExtent, extent.inode, extent.offset, extent.length, extent.stripe, extent.stripe_offset,
               extent.origin_offset, extent.origin_length);
  }
  Result<> operator()(const DropExtent& drop) const { return run(kDropExtent, drop.inode, drop.offset); }

  Result<> operator()(const PutStripe& put) const {
    const StripeRecord& stripe = put.stripe;
    return run(kPutStripe, stripe.number, stripe.id, static_cast<std::uint32_t>(stripe.state),
               static_cast<std::uint32_t>(stripe.format), std::uint32_t{stripe.profile.k},
               std::uint32_t{stripe.profile.m}, stripe.length, stored_deadline(stripe.deadline), stripe.created.ms);
  }
  Result<> operator()(const DropStripe& drop) const { return run(kDropStripe, drop.stripe); }

  Result<> operator()(const PutPlacement& put) const {
    const PlacementRecord& placement = put.placement;
    return run(kPutPlacement, placement.stripe, std::uint32_t{placement.index}, placement.shard, placement.node,
               placement.stored, placement.shard_bytes, placement.lease_serial,
               stored_deadline(placement.lease_deadline), placement.receipt);
  }

  Result<> operator()(const PutRemoval& put) const {
    const RemovalRecord& removal = put.removal;
    return run(kPutRemoval, removal.shard, removal.node, removal.serial, stored_deadline(removal.lease_deadline));
  }
  Result<> operator()(const DropRemoval& drop) const { return run(kDropRemoval, drop.shard, drop.node); }

  Result<> operator()(const PutValue& put) const { return run(kPutValue, put.key, put.value); }

  Result<> operator()(const PutDeadFile& put) const {
    const DeadFileRecord& dead = put.file;
    const core::Bytes extents = stored_extents(dead.extents);
    return run(kPutDeadFile, dead.number, dead.file, static_cast<std::uint32_t>(dead.cause), dead.died.ms,
               stored_deadline(dead.deadline), dead.size, dead.complete, extents);
  }
  Result<> operator()(const DropDeadFile& drop) const { return run(kDropDeadFile, drop.number); }

  Result<> operator()(const PutDeadStripe& put) const {
    const DeadStripeRecord& dead = put.stripe;
    return run(kPutDeadStripe, dead.number, dead.id, static_cast<std::uint32_t>(dead.format),
               std::uint32_t{dead.profile.k}, std::uint32_t{dead.profile.m}, dead.length,
               stored_deadline(dead.deadline), dead.died.ms);
  }
  Result<> operator()(const DropDeadStripe& drop) const {
    EPHFS_TRY_VOID(run(kDropDeadShards, drop.number));
    return run(kDropDeadStripe, drop.number);
  }

  Result<> operator()(const PutDeadShard& put) const {
    const DeadShardRecord& dead = put.shard;
    const auto ask_at = dead.ask_at ? std::optional(dead.ask_at->ms) : std::nullopt;
    return run(kPutDeadShard, dead.stripe, std::uint32_t{dead.index}, dead.node, dead.shard, dead.shard_bytes,
               stored_deadline(dead.lease_deadline), dead.receipt, dead.deletion, ask_at);
  }

  Result<> operator()(const PutAudit& put) const {
    const AuditRecord& audit = put.audit;
    return run(kPutAudit, audit.stripe, std::uint32_t{audit.index}, audit.shard, audit.node, audit.at.ms, audit.passed,
               audit.receipt);
  }
};

}  // namespace

Result<> apply_change(SqliteConnection& connection, const Change& change) {
  EPHFS_TRY_VOID(check_change(change));
  return std::visit(Applier{connection}, change);
}

}  // namespace ephfs::meta
