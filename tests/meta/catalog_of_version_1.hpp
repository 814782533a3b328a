// SPDX-License-Identifier: Apache-2.0
// A catalog as version 1 of its tables made it, in SQL: what was in use then must open for ever. Not to be changed with
// the tables of today.
#pragma once

namespace ephfs::meta::testing {

inline constexpr const char* kCatalogOfVersion1 = R"sql(
PRAGMA page_size = 4096;
PRAGMA auto_vacuum = NONE;
PRAGMA journal_mode = WAL;
BEGIN;
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
PRAGMA application_id = 1701865574;
PRAGMA user_version = 1;
COMMIT;
)sql";

/// A directory with two names of one dying file and a link, xattrs, a placed stripe and a sealed one, a removal that is
/// owed, and a setting.
inline constexpr const char* kContentOfVersion1 = R"sql(
BEGIN;
INSERT INTO inodes VALUES
  (1, 16877, 0, 0, 0, 3, 0, 11, 12, 13, zeroblob(16), x'', x'', NULL, 604800000, NULL, 0, 0, NULL, NULL),
  (2, 16832, 7, 8, 0, 2, 0, 21, 22, 23, zeroblob(16), x'', x'', NULL, 3600000, 1900000000000, 0, 1, 4, 2),
  (3, 33188, 7, 8, 0, 2, 9000, 31, 32, 33, x'03030303030303030303030303030303', x'aabbcc', x'',
   1800000000000, 3600000, NULL, 1, 2, NULL, NULL),
  (4, 41471, 7, 8, 0, 1, 6, 41, 42, 43, x'04040404040404040404040404040404', x'dd', x'7461726765740a',
   1800000005000, 3600000, NULL, 0, 0, NULL, NULL);
INSERT INTO names VALUES (1, x'646972', 2), (2, x'6ffe', 3), (1, x'6c696e6b6564', 3), (1, x'73796d', 4);
INSERT INTO xattrs VALUES (3, x'757365722e61', x'00ff');
INSERT INTO stripes VALUES
  (1, x'11111111111111111111111111111111', 2, 1, 2, 1, 8100, 0, 1800000000000, 1700000000000),
  (5, x'55555555555555555555555555555555', 1, 1, 2, 1, 1100, 0, NULL, 1700000000001);
INSERT INTO extents VALUES (3, 0, 8000, 1, 0, 0, 8000), (3, 8000, 1000, 5, 0, 8000, 1000);
INSERT INTO placements VALUES
  (1, 0, zeroblob(32), zeroblob(32), 1, 4096, 7, 1800000000000, x'0102'),
  (1, 1, zeroblob(32), zeroblob(32), 0, 4096, 7, NULL, x'');
INSERT INTO removals VALUES (zeroblob(32), zeroblob(32), 3, 1800000000000);
INSERT INTO settings VALUES (x'6b6579', x'76616c7565');
COMMIT;
)sql";

}  // namespace ephfs::meta::testing
