// SPDX-License-Identifier: Apache-2.0
#include "meta/sqlite_catalog.hpp"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <mutex>

#include <fcntl.h>
#include <sys/file.h>

#include "core/files.hpp"
#include "core/profile.hpp"
#include "meta/disk_reserve.hpp"
#include "meta/sqlite_check.hpp"
#include "meta/sqlite_commit.hpp"
#include "meta/sqlite_pool.hpp"
#include "meta/sqlite_records.hpp"
#include "meta/sqlite_schema.hpp"

namespace ephfs::meta {

using core::Error;
using core::fail;

namespace {

constexpr int kWriterCacheKib = 8192;
constexpr int kCheckpointCacheKib = 256;
constexpr int kScrubPatienceMs = 50;

// INDEXED BY makes a query fail rather than quietly become a scan of all inodes.
constexpr Sql kValue{"settings", "SELECT value FROM settings WHERE key = ?1"};
constexpr Sql kInode{"inodes", "SELECT " EPHFS_INODE_COLUMNS " FROM inodes i WHERE i.number = ?1"};
constexpr Sql kLastInode{"totals", "SELECT last_inode FROM totals"};
constexpr Sql kLastStripe{"totals", "SELECT last_stripe FROM totals"};
constexpr Sql kLookup{"names",
                      "SELECT " EPHFS_INODE_COLUMNS
                      " FROM names n CROSS JOIN inodes i ON i.number = n.inode WHERE n.parent = ?1 AND n.name = ?2"};
constexpr Sql kNames{
    "names",
    "SELECT n.name, n.inode, i.mode, i.deadline FROM names n CROSS JOIN inodes i ON i.number = n.inode "
    "WHERE n.parent = ?1 AND n.name > ?2 ORDER BY n.name LIMIT ?3"};
constexpr Sql kParent{"names", "SELECT parent, name FROM names INDEXED BY names_by_inode WHERE inode = ?1 LIMIT 1"};
constexpr Sql kNamesOf{"names",
                       "SELECT parent, name FROM names INDEXED BY names_by_inode WHERE inode = ?1 "
                       "ORDER BY parent, name"};
constexpr Sql kIsThere{"inodes",
                       "SELECT 1, EXISTS (SELECT 1 FROM names WHERE parent = ?1) FROM inodes WHERE number = ?1"};
constexpr Sql kXattr{"xattrs", "SELECT value FROM xattrs WHERE inode = ?1 AND name = ?2"};
constexpr Sql kXattrNames{"xattrs", "SELECT name FROM xattrs WHERE inode = ?1 ORDER BY name"};
constexpr Sql kExtents{"extents", "SELECT " EPHFS_EXTENT_COLUMNS " FROM extents WHERE inode = ?1 ORDER BY offset"};
constexpr Sql kExtentAt{"extents", "SELECT " EPHFS_EXTENT_COLUMNS " FROM extents WHERE inode = ?1 AND offset = ?2"};
constexpr Sql kExtentsIn{"extents",
                         "SELECT " EPHFS_EXTENT_COLUMNS
                         " FROM extents INDEXED BY extents_by_stripe WHERE stripe = ?1 ORDER BY inode, offset"};
constexpr Sql kStripe{"stripes", "SELECT " EPHFS_STRIPE_COLUMNS " FROM stripes WHERE number = ?1"};
constexpr Sql kUnplaced{"stripes", "SELECT " EPHFS_STRIPE_COLUMNS
                                   " FROM stripes INDEXED BY stripes_unplaced WHERE state < 2 AND state = ?1 "
                                   "ORDER BY number LIMIT ?2"};
constexpr Sql kPlaced{"stripes",
                      "SELECT " EPHFS_STRIPE_COLUMNS " FROM stripes WHERE state = 2 ORDER BY number LIMIT ?1"};
constexpr Sql kLifeless{"stripes",
                        "SELECT " EPHFS_STRIPE_COLUMNS
                        " FROM stripes INDEXED BY stripes_dead WHERE live = 0 AND state <> 0 ORDER BY number LIMIT ?1"};
constexpr Sql kOverdue{"stripes", "SELECT " EPHFS_STRIPE_COLUMNS
                                  " FROM stripes INDEXED BY stripes_by_deadline "
                                  "WHERE deadline <= ?1 AND NOT (live = 0 AND state <> 0) ORDER BY deadline LIMIT ?2"};
constexpr Sql kSparse{"stripes", "SELECT " EPHFS_STRIPE_COLUMNS
                                 " FROM stripes WHERE state = 2 AND live * 1000 <= ?1 * length "
                                 "AND (deadline IS NULL OR deadline > ?2) ORDER BY number LIMIT ?3"};
constexpr Sql kPlacements{"placements",
                          "SELECT " EPHFS_PLACEMENT_COLUMNS " FROM placements WHERE stripe = ?1 ORDER BY shard_index"};
constexpr Sql kOwed{"placements", "SELECT " EPHFS_PLACEMENT_COLUMNS
                                  " FROM placements INDEXED BY placements_owed WHERE stored = 0 "
                                  "ORDER BY stripe, shard_index LIMIT ?1"};
constexpr Sql kRemovals{"removals", "SELECT " EPHFS_REMOVAL_COLUMNS " FROM removals ORDER BY shard, node LIMIT ?1"};
constexpr Sql kExpired{"inodes",
                       "SELECT number FROM inodes INDEXED BY inodes_by_deadline WHERE deadline <= ?1 "
                       "ORDER BY deadline LIMIT ?2"};
constexpr Sql kExpiredInodes{"inodes", "SELECT " EPHFS_INODE_COLUMNS
                                       " FROM inodes i INDEXED BY inodes_by_deadline WHERE i.deadline <= ?1 "
                                       "ORDER BY i.deadline LIMIT ?2"};
constexpr Sql kNextDeadline{"inodes",
                            "SELECT deadline FROM inodes INDEXED BY inodes_by_deadline WHERE deadline IS NOT NULL "
                            "ORDER BY deadline LIMIT 1"};
constexpr Sql kOrphans{"inodes",
                       "SELECT number FROM inodes INDEXED BY inodes_orphaned WHERE links = 0 ORDER BY number LIMIT ?1"};
constexpr Sql kExpiring{"inodes",
                        "SELECT count(*), coalesce(sum(size), 0) FROM inodes INDEXED BY inodes_by_deadline "
                        "WHERE deadline >= ?1 AND deadline < ?2"};
// In the order of the index, so that a page costs by its own length.
constexpr Sql kExpiringList{"inodes",
                            "SELECT deadline, size, number, mode FROM inodes INDEXED BY inodes_by_deadline "
                            "WHERE (deadline, size, number) > (?1, ?2, ?3) AND deadline < ?4 "
                            "ORDER BY deadline, size, number LIMIT ?5"};
constexpr Sql kStripesAfter{"stripes",
                            "SELECT " EPHFS_STRIPE_COLUMNS " FROM stripes WHERE number > ?1 ORDER BY number LIMIT ?2"};
constexpr Sql kAudits{"audits", "SELECT " EPHFS_AUDIT_COLUMNS " FROM audits WHERE stripe = ?1 ORDER BY shard_index"};
constexpr Sql kDeadFile{"dead_files", "SELECT " EPHFS_DEAD_FILE_COLUMNS " FROM dead_files WHERE file = ?1 LIMIT 1"};
constexpr Sql kDeadStripe{"dead_stripes", "SELECT " EPHFS_DEAD_STRIPE_COLUMNS " FROM dead_stripes WHERE number = ?1"};
constexpr Sql kDeadShards{
    "dead_shards", "SELECT " EPHFS_DEAD_SHARD_COLUMNS " FROM dead_shards WHERE stripe = ?1 ORDER BY shard_index, node"};
constexpr Sql kUnproven{"dead_shards",
                        "SELECT " EPHFS_DEAD_SHARD_COLUMNS
                        " FROM dead_shards INDEXED BY dead_shards_unproven "
                        "WHERE node = ?1 AND ask_at <= ?2 AND ask_at IS NOT NULL ORDER BY ask_at LIMIT ?3"};
constexpr Sql kNextUnproven{"dead_shards",
                            "SELECT ask_at FROM dead_shards INDEXED BY dead_shards_unproven "
                            "WHERE node = ?1 AND ask_at IS NOT NULL ORDER BY ask_at LIMIT 1"};
constexpr Sql kDeadFilesBefore{
    "dead_files",
    "SELECT number FROM dead_files INDEXED BY dead_files_by_death WHERE died < ?1 ORDER BY died LIMIT ?2"};
constexpr Sql kDeadStripesBefore{
    "dead_stripes",
    "SELECT number FROM dead_stripes INDEXED BY dead_stripes_by_death WHERE died < ?1 ORDER BY died LIMIT ?2"};
constexpr Sql kTotals{"totals", "SELECT inodes, bytes, stripes FROM totals"};

std::int64_t row_limit(std::size_t limit) {
  return static_cast<std::int64_t>(std::min<std::uint64_t>(limit, std::numeric_limits<std::int64_t>::max()));
}

core::Bytes read_bytes(SqliteQuery& row) {
  return core::to_bytes(row.blob(0));
}
std::string read_text(SqliteQuery& row) {
  return row.text(0);
}
InodeTies read_ties(SqliteQuery& row) {
  InodeTies ties;
  ties.is_there = true;
  ties.has_names = row.natural(1) != 0;
  return ties;
}
InodeNumber read_number(SqliteQuery& row) {
  return {row.natural(0)};
}
std::pair<InodeNumber, std::string> read_place(SqliteQuery& row) {
  return {{row.natural(0)}, row.text(1)};
}
CatalogTotals read_totals(SqliteQuery& row) {
  return {row.natural(0), row.natural(1), row.natural(2)};
}
ExpiringTotals read_expiring(SqliteQuery& row) {
  return {row.natural(0), row.natural(1)};
}
ExpiringRecord read_expiring_record(SqliteQuery& row) {
  ExpiringRecord record;
  record.deadline = read_deadline(row, 0);
  record.size = row.natural(1);
  record.inode = {row.natural(2)};
  record.mode = static_cast<std::uint32_t>(row.natural_to(3, std::numeric_limits<std::uint32_t>::max()));
  return record;
}
Deadline read_first_deadline(SqliteQuery& row) {
  return read_deadline(row, 0);
}
StripeNumber read_stripe_number(SqliteQuery& row) {
  return {row.integer(0)};
}

core::Instant read_instant(SqliteQuery& row) {
  return {row.integer(0)};
}

NameRecord read_name(SqliteQuery& row) {
  NameRecord name;
  name.name = row.text(0);
  name.inode = {row.natural(1)};
  name.mode = static_cast<std::uint32_t>(row.natural_to(2, std::numeric_limits<std::uint32_t>::max()));
  name.deadline = read_deadline(row, 3);
  return name;
}

bool drops_something(const Change& change) {
  return std::holds_alternative<DropInode>(change) || std::holds_alternative<DropName>(change) ||
         std::holds_alternative<DropXattr>(change) || std::holds_alternative<DropExtent>(change) ||
         std::holds_alternative<DropStripe>(change) || std::holds_alternative<DropRemoval>(change) ||
         std::holds_alternative<DropDeadFile>(change) || std::holds_alternative<DropDeadStripe>(change);
}

/// What is opened before there is a catalog to open readers of.
struct Connections {
  std::unique_ptr<SqliteConnection> writer;
  std::unique_ptr<SqliteConnection> checkpoints;
};

class SqliteCatalog final : public Catalog {
 public:
  /// The writer's connection has been prepared; the lock file is held for as long as the catalog is open.
  SqliteCatalog(core::FileDescriptor lock, std::unique_ptr<DiskReserve> reserve, Connections connections)
      : lock_(std::move(lock)),
        reserve_(std::move(reserve)),
        writer_(std::move(connections.writer)),
        readers_(writer_->path()),
        checkpointer_(std::move(connections.checkpoints), writer_mutex_, *reserve_) {
    sqlite3_wal_hook(
        writer_->handle(),
        [](void* self, sqlite3*, const char*, int pages) {
          static_cast<SqliteCheckpointer*>(self)->log_grew(pages);
          return SQLITE_OK;
        },
        &checkpointer_);
    sqlite3_file_control(writer_->handle(), nullptr, SQLITE_FCNTL_JOURNAL_POINTER, &log_);
    EPHFS_CHECK(log_ != nullptr && log_->pMethods != nullptr, "a catalog that was read has its log open");
  }

  Result<> commit(const Changes& changes) override {
    if (changes.empty()) return {};
    static core::Probe probe("stage", "catalog commit");
    const core::ProbeScope scope(probe);
    const std::lock_guard lock(writer_mutex_);
    is_clean_ = false;
    auto done = try_commit(changes);
    if (!done && done.error().code == Error::no_space) {
      // When all of the log is in the file, the next commit writes over the log's own space. Deleting must
      // work on a full disk, so it may have the reserve for that.
      if (std::ranges::any_of(changes, drops_something)) reserve_->release();
      (void)sqlite3_wal_checkpoint_v2(writer_->handle(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
      done = try_commit(changes);
    }
    return done;
  }

  Result<> sync() override {
    static core::Probe probe("stage", "catalog sync");
    const core::ProbeScope scope(probe);
    // Without the writer's mutex: the log's file stays open as long as the connection, and syncing it touches
    // nothing that a commit does. What has left the log was synced when it was copied.
    const int code = log_->pMethods->xSync(log_, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);
    if (code != SQLITE_OK) {
      return fail(Error::io,
                  "catalog " + writer_->path().string() + ": syncing its log (SQLite " + std::to_string(code) + ")");
    }
    return {};
  }

  Result<> scrub() override {
    {
      const std::lock_guard lock(writer_mutex_);
      if (is_clean_) return {};
    }
    // Nearly all of it without the writer's mutex.
    checkpointer_.checkpoint();
    const std::lock_guard lock(writer_mutex_);
    const auto alone = checkpointer_.pause();
    // Readers' snapshots are short: who has a long one is not waited for with everybody else waiting behind.
    sqlite3_busy_timeout(writer_->handle(), kScrubPatienceMs);
    const int code =
        sqlite3_wal_checkpoint_v2(writer_->handle(), nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
    sqlite3_busy_timeout(writer_->handle(), SqliteConnection::kBusyTimeoutMs);
    if (code != SQLITE_OK) return writer_->failure(code, "(log)");
    is_clean_ = true;
    checkpointer_.log_grew(0);
    return {};
  }

  Result<std::optional<core::Bytes>> value(const std::string& key) const override {
    return one(kValue, read_bytes, key);
  }
  Result<std::optional<InodeRecord>> inode(InodeNumber number) const override {
    static core::Probe probe("stage", "catalog inode");
    const core::ProbeScope scope(probe);
    return one(kInode, read_inode, number);
  }
  Result<std::vector<InodeRecord>> inodes(const std::vector<InodeNumber>& numbers) const override {
    static core::Probe probe("stage", "catalog inodes");
    const core::ProbeScope scope(probe);
    return each_of<InodeRecord>(numbers, [](SqliteConnection& reader, InodeNumber number) {
      return read_one(SqliteQuery(reader, kInode).bind(number), read_inode);
    });
  }
  Result<InodeNumber> last_inode() const override { return the(kLastInode, read_number); }
  Result<StripeNumber> last_stripe() const override { return the(kLastStripe, read_stripe_number); }
  Result<std::optional<InodeRecord>> lookup(InodeNumber parent, const std::string& name) const override {
    static core::Probe probe("stage", "catalog lookup");
    const core::ProbeScope scope(probe);
    return one(kLookup, read_inode, parent, name);
  }
  Result<std::vector<NameRecord>> names(InodeNumber parent, const std::string& after,
                                        std::size_t limit) const override {
    return all(kNames, read_name, parent, after, row_limit(limit));
  }
  Result<std::optional<std::pair<InodeNumber, std::string>>> parent_of(InodeNumber number) const override {
    return one(kParent, read_place, number);
  }
  Result<std::vector<std::pair<InodeNumber, std::string>>> names_of(InodeNumber number) const override {
    return all(kNamesOf, read_place, number);
  }
  Result<InodeTies> ties(InodeNumber number) const override {
    static core::Probe probe("stage", "catalog ties");
    const core::ProbeScope scope(probe);
    EPHFS_TRY(const auto reader, readers_.borrow());
    SqliteTransaction snapshot(*reader);
    EPHFS_TRY_VOID(snapshot.begin_reading());
    SqliteQuery is_there(*reader, kIsThere);
    EPHFS_TRY(auto ties, read_one(is_there.bind(number), read_ties));
    if (!ties) return InodeTies{};
    SqliteQuery names(*reader, kNamesOf);
    SqliteQuery extents(*reader, kExtents);
    EPHFS_TRY(ties->names, read_all(names.bind(number), read_place));
    EPHFS_TRY(ties->extents, read_all(extents.bind(number), read_extent));
    return *std::move(ties);
  }
  Result<std::optional<core::Bytes>> xattr(InodeNumber number, const std::string& name) const override {
    return one(kXattr, read_bytes, number, name);
  }
  Result<std::vector<std::string>> xattr_names(InodeNumber number) const override {
    return all(kXattrNames, read_text, number);
  }
  Result<std::vector<ExtentRecord>> extents(InodeNumber number) const override {
    return all(kExtents, read_extent, number);
  }
  Result<std::vector<ExtentRecord>> extents_at(InodeNumber number,
                                               const std::vector<std::uint64_t>& offsets) const override {
    return each_of<ExtentRecord>(offsets, [number](SqliteConnection& reader, std::uint64_t offset) {
      return read_one(SqliteQuery(reader, kExtentAt).bind(number, offset), read_extent);
    });
  }
  Result<std::vector<ExtentRecord>> extents_in(StripeNumber stripe) const override {
    return all(kExtentsIn, read_extent, stripe);
  }
  Result<std::optional<StripeRecord>> stripe(StripeNumber number) const override {
    return one(kStripe, read_stripe, number);
  }
  Result<std::vector<StripeRecord>> stripes_in_state(StripeState state, std::size_t limit) const override {
    if (state == StripeState::placed) return all(kPlaced, read_stripe, row_limit(limit));
    return all(kUnplaced, read_stripe, static_cast<std::uint32_t>(state), row_limit(limit));
  }

  Result<std::vector<StripeRecord>> dead_stripes(core::Instant now, std::size_t limit) const override {
    EPHFS_TRY(const auto reader, readers_.borrow());
    SqliteTransaction snapshot(*reader);
    EPHFS_TRY_VOID(snapshot.begin_reading());
    SqliteQuery lifeless(*reader, kLifeless);
    EPHFS_TRY(auto dead, read_all(lifeless.bind(row_limit(limit)), read_stripe));
    SqliteQuery overdue(*reader, kOverdue);
    EPHFS_TRY(auto late, read_all(overdue.bind(now.ms, row_limit(limit - dead.size())), read_stripe));
    dead.insert(dead.end(), late.begin(), late.end());
    return dead;
  }

  Result<std::vector<StripeRecord>> sparse_stripes(unsigned permille, core::Instant later,
                                                   std::size_t limit) const override {
    return all(kSparse, read_stripe, std::uint32_t{permille}, later.ms, row_limit(limit));
  }
  Result<std::vector<PlacementRecord>> placements(StripeNumber stripe) const override {
    return all(kPlacements, read_placement, stripe);
  }
  Result<std::vector<PlacementRecord>> owed(std::size_t limit) const override {
    return all(kOwed, read_placement, row_limit(limit));
  }
  Result<std::vector<RemovalRecord>> removals(std::size_t limit) const override {
    return all(kRemovals, read_removal, row_limit(limit));
  }
  Result<std::vector<InodeNumber>> expired(core::Instant now, std::size_t limit) const override {
    return all(kExpired, read_number, now.ms, row_limit(limit));
  }
  Result<std::vector<ExpiredInode>> expired_inodes(core::Instant now, std::size_t limit) const override {
    EPHFS_TRY(const auto reader, readers_.borrow());
    SqliteTransaction snapshot(*reader);
    EPHFS_TRY_VOID(snapshot.begin_reading());
    SqliteQuery query(*reader, kExpiredInodes);
    EPHFS_TRY(auto records, read_all(query.bind(now.ms, row_limit(limit)), read_inode));
    std::vector<ExpiredInode> found;
    found.reserve(records.size());
    for (auto& record : records) {
      SqliteQuery names(*reader, kNamesOf);
      SqliteQuery extents(*reader, kExtents);
      auto& one = found.emplace_back(ExpiredInode{std::move(record), {}, {}});
      EPHFS_TRY(one.names, read_all(names.bind(one.record.number), read_place));
      EPHFS_TRY(one.extents, read_all(extents.bind(one.record.number), read_extent));
    }
    return found;
  }
  Result<Deadline> next_deadline() const override {
    EPHFS_TRY(const auto deadline, one(kNextDeadline, read_first_deadline));
    return deadline.value_or(Deadline::never());
  }
  Result<std::vector<InodeNumber>> orphans(std::size_t limit) const override {
    return all(kOrphans, read_number, row_limit(limit));
  }
  Result<ExpiringTotals> expiring(core::Instant from, core::Instant until) const override {
    return the(kExpiring, read_expiring, from.ms, until.ms);
  }
  Result<std::vector<ExpiringRecord>> expiring_list(const ExpiringRecord& after, core::Instant until,
                                                    std::size_t limit) const override {
    return all(kExpiringList, read_expiring_record, after.deadline.raw(), after.size, after.inode, until.ms,
               row_limit(limit));
  }
  Result<CatalogTotals> totals() const override { return the(kTotals, read_totals); }

  Result<std::vector<StripeRecord>> stripes_after(StripeNumber after, std::size_t limit) const override {
    return all(kStripesAfter, read_stripe, after, row_limit(limit));
  }
  Result<std::vector<AuditRecord>> audits(StripeNumber stripe) const override {
    return all(kAudits, read_audit, stripe);
  }
  Result<std::optional<DeadFileRecord>> dead_file(const core::FileId& file) const override {
    return one(kDeadFile, read_dead_file, file);
  }
  Result<std::optional<DeadStripeRecord>> dead_stripe(StripeNumber number) const override {
    return one(kDeadStripe, read_dead_stripe, number);
  }
  Result<std::vector<DeadShardRecord>> dead_shards(StripeNumber stripe) const override {
    return all(kDeadShards, read_dead_shard, stripe);
  }
  Result<std::vector<DeadShardRecord>> unproven(const core::NodeId& node, core::Instant now,
                                                std::size_t limit) const override {
    return all(kUnproven, read_dead_shard, node, now.ms, row_limit(limit));
  }
  Result<std::optional<core::Instant>> next_unproven(const core::NodeId& node) const override {
    return one(kNextUnproven, read_instant, node);
  }
  Result<DeadNumbers> dead_before(core::Instant instant, std::size_t limit) const override {
    DeadNumbers dead;
    EPHFS_TRY(dead.files, all(kDeadFilesBefore, read_number, instant.ms, row_limit(limit)));
    EPHFS_TRY(dead.stripes, all(kDeadStripesBefore, read_stripe_number, instant.ms, row_limit(limit)));
    return dead;
  }

  Result<std::vector<std::string>> check() const override {
    EPHFS_TRY(const auto reader, readers_.borrow());
    return check_records(*reader);
  }

 private:
  /// Writer's mutex held.
  Result<> try_commit(const Changes& changes) {
    SqliteTransaction transaction(*writer_);
    EPHFS_TRY_VOID(transaction.begin_writing());
    for (const Change& change : changes) EPHFS_TRY_VOID(apply_change(*writer_, change));
    return transaction.commit();
  }

  template <class Record, class... Values>
  Result<std::vector<Record>> all(const Sql& sql, Record (*read)(SqliteQuery&), const Values&... values) const {
    EPHFS_TRY(const auto reader, readers_.borrow());
    SqliteQuery query(*reader, sql);
    return read_all(query.bind(values...), read);
  }
  template <class Record, class... Values>
  Result<std::optional<Record>> one(const Sql& sql, Record (*read)(SqliteQuery&), const Values&... values) const {
    EPHFS_TRY(const auto reader, readers_.borrow());
    SqliteQuery query(*reader, sql);
    return read_one(query.bind(values...), read);
  }
  /// What `read_record` finds for each of `keys`, in one snapshot.
  template <class Record, class Key, class ReadRecord>
  Result<std::vector<Record>> each_of(const std::vector<Key>& keys, ReadRecord read_record) const {
    EPHFS_TRY(const auto reader, readers_.borrow());
    SqliteTransaction snapshot(*reader);
    EPHFS_TRY_VOID(snapshot.begin_reading());
    std::vector<Record> found;
    for (const Key& key : keys) {
      EPHFS_TRY(auto record, read_record(*reader, key));
      if (record) found.push_back(*std::move(record));
    }
    return found;
  }
  /// A row that every catalog has.
  template <class Record, class... Values>
  Result<Record> the(const Sql& sql, Record (*read)(SqliteQuery&), const Values&... values) const {
    EPHFS_TRY(auto record, one(sql, read, values...));
    if (!record) {
      return fail(Error::damaged, "catalog " + writer_->path().string() + ": table " + sql.table + ": it is empty");
    }
    return *std::move(record);
  }

  // Destroyed from the last to the first: the writer's connection closes after the others and takes the log
  // with it, and only then is the lock let go.
  core::FileDescriptor lock_;
  std::unique_ptr<DiskReserve> reserve_;
  std::mutex writer_mutex_;
  std::unique_ptr<SqliteConnection> writer_;  // under writer_mutex_
  bool is_clean_ = false;                     // under writer_mutex_: nothing committed since the last scrub
  sqlite3_file* log_ = nullptr;               // the writer's
  mutable SqliteReaders readers_;
  SqliteCheckpointer checkpointer_;
};

/// A file of its own is locked, not the catalog: closing any descriptor of the catalog would drop SQLite's
/// locks on it.
Result<core::FileDescriptor> lock_catalog(const std::filesystem::path& path) {
  EPHFS_TRY(auto lock, core::open_file(path.string() + "-lock", O_RDWR | O_CREAT, 0600));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno == EWOULDBLOCK) return fail(Error::busy, "catalog " + path.string() + ": already open");
  return core::fail_errno("locking " + path.string() + "-lock");
}

Result<Connections> open_connections(const std::filesystem::path& path) {
  // Made here when it is not there, since SQLite would make it readable to others; and closed before SQLite
  // opens it.
  EPHFS_TRY_VOID(core::open_file(path, O_RDWR | O_CREAT, 0600));
  EPHFS_TRY(auto writer, SqliteConnection::open(path, kWriterCacheKib));
  EPHFS_TRY_VOID(prepare_schema(*writer));
  EPHFS_TRY(auto checkpoints, SqliteConnection::open(path, kCheckpointCacheKib));
  return Connections{std::move(writer), std::move(checkpoints)};
}

}  // namespace

Result<std::unique_ptr<Catalog>> open_sqlite_catalog(const std::filesystem::path& path) {
  EPHFS_TRY(auto lock, lock_catalog(path));
  auto reserve = std::make_unique<DiskReserve>(path.string() + "-reserve");
  auto connections = open_connections(path);
  // Opening writes a little: the log's index, and what a crash left to be recovered.
  if (!connections && connections.error().code == Error::no_space && reserve->release()) {
    connections = open_connections(path);
  }
  if (!connections) return std::move(connections).error();
  reserve->fill();
  auto catalog = std::make_unique<SqliteCatalog>(std::move(lock), std::move(reserve), *std::move(connections));
  // Syncs the directory as well, the first time: a new catalog is there after a loss of power.
  EPHFS_TRY_VOID(catalog->sync());
  return std::unique_ptr<Catalog>(std::move(catalog));
}

bool holds_catalog(const std::filesystem::path& path) {
  std::error_code error;
  // Asked before SQLite is, which throws away the log of a file that is empty.
  if (std::filesystem::file_size(path, error) == 0 || error) return false;
  const auto connection = SqliteConnection::open(path, kCheckpointCacheKib);
  if (!connection) return true;
  const auto entries = (*connection)->first_text(nullptr, "SELECT count(*) FROM sqlite_schema");
  return !entries || *entries != "0";
}

}  // namespace ephfs::meta
