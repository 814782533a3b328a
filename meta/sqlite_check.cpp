// SPDX-License-Identifier: Apache-2.0
#include "meta/sqlite_check.hpp"

#include <array>

namespace ephfs::meta {

namespace {

// Each gives one column of text, a row for each thing that is wrong. Names are shown as hexadecimal: they are
// bytes.
constexpr std::array kInvariants{
    Sql{"(file)", "SELECT 'file: ' || integrity_check FROM pragma_integrity_check(100) WHERE integrity_check <> 'ok'"},

    Sql{"names", R"sql(
SELECT 'name x''' || hex(n.name) || ''' in directory ' || n.parent || ' leads to inode ' || n.inode || ', which is not there'
FROM names n WHERE NOT EXISTS (SELECT 1 FROM inodes i WHERE i.number = n.inode) LIMIT 100)sql"},
    Sql{"names", R"sql(
SELECT 'name x''' || hex(n.name) || ''' is in ' || n.parent || ', which is no directory'
FROM names n WHERE NOT EXISTS (SELECT 1 FROM inodes i WHERE i.number = n.parent AND (i.mode & 61440) = 16384)
LIMIT 100)sql"},
    Sql{"inodes", R"sql(
SELECT 'inode ' || number || ' counts ' || links || ' links and has ' || found || ' names'
FROM (SELECT i.number, i.links, (SELECT count(*) FROM names n WHERE n.inode = i.number) AS found
      FROM inodes i WHERE (i.mode & 61440) <> 16384)
WHERE links <> found LIMIT 100)sql"},
    Sql{"inodes", R"sql(
SELECT 'directory ' || number || ' has ' || found || ' names'
FROM (SELECT i.number, i.links, (SELECT count(*) FROM names n WHERE n.inode = i.number) AS found
      FROM inodes i WHERE (i.mode & 61440) = 16384)
WHERE found <> (number <> 1 AND links > 0) LIMIT 100)sql"},

    Sql{"xattrs", R"sql(
SELECT 'xattr of inode ' || inode || ', which is not there'
FROM xattrs x WHERE NOT EXISTS (SELECT 1 FROM inodes i WHERE i.number = x.inode) LIMIT 100)sql"},

    Sql{"extents", R"sql(
SELECT 'extent at ' || offset || ' of inode ' || inode || ', which is not there'
FROM extents e WHERE NOT EXISTS (SELECT 1 FROM inodes i WHERE i.number = e.inode) LIMIT 100)sql"},
    Sql{"extents", R"sql(
SELECT 'extent at ' || offset || ' of inode ' || inode || ' reaches ' || (offset + length) || ', over the next at ' || next
FROM (SELECT inode, offset, length, lead(offset) OVER (PARTITION BY inode ORDER BY offset) AS next FROM extents)
WHERE next < offset + length LIMIT 100)sql"},
    Sql{"extents", R"sql(
SELECT 'extent at ' || offset || ' of inode ' || inode || ' is no slice of its origin'
FROM extents WHERE offset < origin_offset OR offset + length > origin_offset + origin_length OR length <= 0
LIMIT 100)sql"},
    // The record of an open stripe may lag behind what is appended to it.
    Sql{"extents", R"sql(
SELECT 'extent at ' || e.offset || ' of inode ' || e.inode || ' is not inside stripe ' || e.stripe
FROM extents e LEFT JOIN stripes s ON s.number = e.stripe
WHERE s.number IS NULL OR (s.state <> 0 AND e.stripe_offset + e.origin_length > s.length) LIMIT 100)sql"},

    Sql{"stripes", R"sql(
SELECT 'stripe ' || number || ' counts ' || live || ' live bytes and has ' || found
FROM (SELECT s.number, s.live, coalesce((SELECT sum(length) FROM extents e WHERE e.stripe = s.number), 0) AS found
      FROM stripes s)
WHERE live <> found LIMIT 100)sql"},
    Sql{"placements", R"sql(
SELECT 'placement of shard ' || shard_index || ' of stripe ' || stripe || ', which is not there'
FROM placements p WHERE NOT EXISTS (SELECT 1 FROM stripes s WHERE s.number = p.stripe) LIMIT 100)sql"},
    Sql{"placements", R"sql(
SELECT 'placement of shard ' || p.shard_index || ' of stripe ' || p.stripe || ', which has ' || (s.profile_k + s.profile_m)
FROM placements p JOIN stripes s ON s.number = p.stripe WHERE p.shard_index >= s.profile_k + s.profile_m
LIMIT 100)sql"},

    Sql{"totals", R"sql(
SELECT 'totals count ' || t.inodes || ' inodes, ' || t.stripes || ' stripes and ' || t.bytes || ' bytes; there are ' ||
       r.inodes || ', ' || r.stripes || ' and ' || r.bytes
FROM totals t, (SELECT (SELECT count(*) FROM inodes) AS inodes, (SELECT count(*) FROM stripes) AS stripes,
                       (SELECT coalesce(sum(live), 0) FROM stripes) AS bytes) r
WHERE t.inodes <> r.inodes OR t.stripes <> r.stripes OR t.bytes <> r.bytes)sql"},
    Sql{"totals", R"sql(
SELECT 'the last inode or stripe number is behind the largest'
FROM totals t
WHERE t.last_inode < (SELECT coalesce(max(number), 0) FROM inodes)
   OR t.last_stripe < (SELECT coalesce(max(number), 0) FROM stripes))sql"},
    Sql{"totals", "SELECT 'there are no totals' WHERE NOT EXISTS (SELECT 1 FROM totals)"},
};

}  // namespace

Result<std::vector<std::string>> check_records(SqliteConnection& connection) {
  std::vector<std::string> lines;
  SqliteTransaction snapshot(connection);
  EPHFS_TRY_VOID(snapshot.begin_reading());
  for (const Sql& invariant : kInvariants) {
    SqliteQuery query(connection, invariant);
    for (;;) {
      auto row = query.next();
      if (!row && row.error().code != core::Error::damaged) return std::move(row).error();
      if (!row) lines.push_back(row.error().message());
      if (!row || !*row) break;
      lines.push_back(query.text(0));
    }
  }
  return lines;
}

}  // namespace ephfs::meta
