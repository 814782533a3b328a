// SPDX-License-Identifier: Apache-2.0
#include "meta/sqlite_schema.hpp"

#include <array>
#include <charconv>

namespace ephfs::meta {

using core::Error;
using core::fail;

namespace {

// A deadline of NULL is never. Names, targets and xattr names are blobs, since a name is bytes, not text.
// References are checked when the transaction ends, so that the changes of a commit may come in any order.
constexpr const char* kVersion1 = R"sql(
CREATE TABLE inodes (
  number INTEGER PRIMARY KEY,
  mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, rdev INTEGER NOT NULL,
  links INTEGER NOT NULL, size INTEGER NOT NULL,
  accessed INTEGER NOT NULL, modified INTEGER NOT NULL, changed INTEGER NOT NULL,
  file BLOB NOT NULL, wrapped_key BLOB NOT NULL, target BLOB NOT NULL,
  deadline INTEGER, ttl INTEGER NOT NULL, default_deadline INTEGER,
  deadline_explicit INTEGER NOT NULL, ttl_mode INTEGER NOT NULL,
  profile_k INTEGER, profile_m INTEGER
) STRICT;
CREATE INDEX inodes_by_deadline ON inodes (deadline, size) WHERE deadline IS NOT NULL;
CREATE INDEX inodes_orphaned ON inodes (number) WHERE links = 0;

CREATE TABLE names (
  parent INTEGER NOT NULL REFERENCES inodes DEFERRABLE INITIALLY DEFERRED,
  name BLOB NOT NULL,
  inode INTEGER NOT NULL REFERENCES inodes DEFERRABLE INITIALLY DEFERRED,
  PRIMARY KEY (parent, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX names_by_inode ON names (inode);

CREATE TABLE xattrs (
  inode INTEGER NOT NULL REFERENCES inodes ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  name BLOB NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY (inode, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE stripes (
  number INTEGER PRIMARY KEY,
  id BLOB NOT NULL,
  state INTEGER NOT NULL, algorithm INTEGER NOT NULL, profile_k INTEGER NOT NULL, profile_m INTEGER NOT NULL,
  length INTEGER NOT NULL,
  live INTEGER NOT NULL DEFAULT 0,
  deadline INTEGER,
  created INTEGER NOT NULL
) STRICT;
CREATE INDEX stripes_unplaced ON stripes (state) WHERE state < 2;
CREATE INDEX stripes_dead ON stripes (number) WHERE live = 0 AND state <> 0;
CREATE INDEX stripes_by_deadline ON stripes (deadline) WHERE deadline IS NOT NULL;

CREATE TABLE extents (
  inode INTEGER NOT NULL REFERENCES inodes ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  offset INTEGER NOT NULL,
  length INTEGER NOT NULL,
  stripe INTEGER NOT NULL REFERENCES stripes DEFERRABLE INITIALLY DEFERRED,
  stripe_offset INTEGER NOT NULL, origin_offset INTEGER NOT NULL, origin_length INTEGER NOT NULL,
  PRIMARY KEY (inode, offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX extents_by_stripe ON extents (stripe);

CREATE TABLE placements (
  stripe INTEGER NOT NULL REFERENCES stripes ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  shard_index INTEGER NOT NULL,
  shard BLOB NOT NULL, node BLOB NOT NULL,
  stored INTEGER NOT NULL, shard_bytes INTEGER NOT NULL,
  lease_serial INTEGER NOT NULL, lease_deadline INTEGER,
  receipt BLOB NOT NULL,
  PRIMARY KEY (stripe, shard_index)
) STRICT, WITHOUT ROWID;
CREATE INDEX placements_owed ON placements (stripe, shard_index) WHERE stored = 0;

CREATE TABLE removals (
  shard BLOB NOT NULL, node BLOB NOT NULL,
  serial INTEGER NOT NULL, lease_deadline INTEGER,
  PRIMARY KEY (shard, node)
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE totals (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  inodes INTEGER NOT NULL, bytes INTEGER NOT NULL, stripes INTEGER NOT NULL,
  last_inode INTEGER NOT NULL, last_stripe INTEGER NOT NULL
) STRICT;
INSERT INTO totals VALUES (1, 0, 0, 0, 0, 0);

CREATE TRIGGER inode_made AFTER INSERT ON inodes BEGIN
  UPDATE totals SET inodes = inodes + 1, last_inode = max(last_inode, NEW.number);
END;
CREATE TRIGGER inode_dropped AFTER DELETE ON inodes BEGIN
  UPDATE totals SET inodes = inodes - 1;
END;
CREATE TRIGGER stripe_made AFTER INSERT ON stripes BEGIN
  UPDATE totals SET stripes = stripes + 1, bytes = bytes + NEW.live, last_stripe = max(last_stripe, NEW.number);
  UPDATE stripes SET live = live + (SELECT sum(length) FROM extents WHERE stripe = NEW.number)
    WHERE number = NEW.number AND EXISTS (SELECT 1 FROM extents WHERE stripe = NEW.number);
END;
CREATE TRIGGER stripe_lives AFTER UPDATE OF live ON stripes BEGIN
  UPDATE totals SET bytes = bytes + NEW.live - OLD.live;
END;
CREATE TRIGGER stripe_dropped AFTER DELETE ON stripes BEGIN
  UPDATE totals SET stripes = stripes - 1, bytes = bytes - OLD.live;
END;
CREATE TRIGGER extent_made AFTER INSERT ON extents BEGIN
  UPDATE stripes SET live = live + NEW.length WHERE number = NEW.stripe;
END;
CREATE TRIGGER extent_changed AFTER UPDATE OF stripe, length ON extents BEGIN
  UPDATE stripes SET live = live - OLD.length WHERE number = OLD.stripe;
  UPDATE stripes SET live = live + NEW.length WHERE number = NEW.stripe;
END;
CREATE TRIGGER extent_dropped AFTER DELETE ON extents BEGIN
  UPDATE stripes SET live = live - OLD.length WHERE number = OLD.stripe;
END;
)sql";

// The dead, and audits. A file's row goes to the end of its table and of one index: dying costs little.
// ask_at is NULL for a shard whose node need not be asked any more.
constexpr const char* kVersion2 = R"sql(
CREATE TABLE dead_files (
  number INTEGER PRIMARY KEY,
  file BLOB NOT NULL, cause INTEGER NOT NULL, died INTEGER NOT NULL, deadline INTEGER, size INTEGER NOT NULL,
  complete INTEGER NOT NULL, extents BLOB NOT NULL
) STRICT;
CREATE INDEX dead_files_by_death ON dead_files (died);

CREATE TABLE dead_stripes (
  number INTEGER PRIMARY KEY,
  id BLOB NOT NULL, algorithm INTEGER NOT NULL, profile_k INTEGER NOT NULL, profile_m INTEGER NOT NULL,
  length INTEGER NOT NULL, deadline INTEGER, died INTEGER NOT NULL
) STRICT;
CREATE INDEX dead_stripes_by_death ON dead_stripes (died);

CREATE TABLE dead_shards (
  stripe INTEGER NOT NULL, shard_index INTEGER NOT NULL, node BLOB NOT NULL,
  shard BLOB NOT NULL, shard_bytes INTEGER NOT NULL, lease_deadline INTEGER,
  receipt BLOB NOT NULL, deletion BLOB NOT NULL, ask_at INTEGER,
  PRIMARY KEY (stripe, shard_index, node)
) STRICT, WITHOUT ROWID;
CREATE INDEX dead_shards_unproven ON dead_shards (node, ask_at) WHERE ask_at IS NOT NULL;

CREATE TABLE audits (
  stripe INTEGER NOT NULL REFERENCES stripes ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  shard_index INTEGER NOT NULL,
  shard BLOB NOT NULL, node BLOB NOT NULL, at INTEGER NOT NULL, passed INTEGER NOT NULL, receipt BLOB NOT NULL,
  PRIMARY KEY (stripe, shard_index)
) STRICT, WITHOUT ROWID;
)sql";

// Stripes of blocks of 4 KiB, whose `algorithm` an older program would take for damage.
constexpr const char* kVersion3 = "";

/// Step n makes version n + 1 out of version n.
constexpr std::array kSteps{kVersion1, kVersion2, kVersion3};
constexpr std::array kTables{"inodes",       "names",       "xattrs",   "stripes", "extents",
                             "placements",   "removals",    "settings", "totals",  "dead_files",
                             "dead_stripes", "dead_shards", "audits"};

Result<std::int64_t> integer(SqliteConnection& connection, const std::string& sql) {
  EPHFS_TRY(const std::string text, connection.first_text(nullptr, sql));
  std::int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

Result<> migrate(SqliteConnection& connection, std::int64_t version) {
  SqliteTransaction transaction(connection);
  EPHFS_TRY_VOID(transaction.begin_writing());
  for (auto step = static_cast<std::size_t>(version); step < kSteps.size(); ++step) {
    EPHFS_TRY_VOID(connection.execute(nullptr, kSteps[step]));
  }
  EPHFS_TRY_VOID(connection.execute(nullptr, "PRAGMA application_id = " + std::to_string(kCatalogApplicationId) +
                                                 "; PRAGMA user_version = " + std::to_string(kCatalogVersion)));
  return transaction.commit();
}

}  // namespace

const std::int64_t kCatalogVersion = static_cast<std::int64_t>(kSteps.size());

Result<> prepare_schema(SqliteConnection& connection) {
  const std::string where = "catalog " + connection.path().string();
  EPHFS_TRY(const std::int64_t entries, integer(connection, "SELECT count(*) FROM sqlite_schema"));
  EPHFS_TRY(const std::int64_t application, integer(connection, "PRAGMA application_id"));
  EPHFS_TRY(const std::int64_t version, integer(connection, "PRAGMA user_version"));
  const bool empty = entries == 0 && application == 0 && version == 0;
  if (!empty && application != kCatalogApplicationId) return fail(Error::damaged, where + ": not a catalog");
  if (version > kCatalogVersion) {
    return fail(Error::version, where + ": version " + std::to_string(version) + ", and this program knows up to " +
                                    std::to_string(kCatalogVersion));
  }
  if (!empty && version < 1) return fail(Error::damaged, where + ": no version");

  // What cannot be changed once there are tables comes first; the journal mode stays with the file.
  if (empty) EPHFS_TRY_VOID(connection.execute(nullptr, "PRAGMA page_size = 4096; PRAGMA auto_vacuum = NONE"));
  EPHFS_TRY(const std::string mode, connection.first_text(nullptr, "PRAGMA journal_mode = WAL"));
  if (mode != "wal") return fail(Error::not_supported, where + ": the file system below cannot hold its log");
  if (version < kCatalogVersion) EPHFS_TRY_VOID(migrate(connection, version));

  for (const char* table : kTables) {
    EPHFS_TRY_VOID(connection.first_text(table, std::string("SELECT 1 FROM ") + table + " LIMIT 1"));
  }
  return {};
}

}  // namespace ephfs::meta
