// SPDX-License-Identifier: Apache-2.0
// The Catalog seam: what a volume knows. Records are read one by one; they are changed only by commit(), which takes a
// list of changes and makes all of them true or none. A commit that returned survives kill -9; sync() makes everything
// committed survive loss of power. SqliteCatalog keeps it, and JournaledCatalog may stand in front of it. Thread-safe:
// readers are never blocked by the writer and see whole commits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/block_format.hpp"
#include "core/bytes.hpp"
#include "core/erasure.hpp"
#include "core/ids.hpp"
#include "core/result.hpp"
#include "core/time.hpp"
#include "meta/death_records.hpp"

namespace ephfs::meta {

using core::Result;

/// A file system time: nanoseconds since the epoch.
struct FileTime {
  std::int64_t ns = 0;
  friend constexpr auto operator<=>(const FileTime&, const FileTime&) = default;
};

enum class TtlMode : std::uint8_t { fixed = 0, modified = 1, accessed = 2 };

struct InodeRecord {
  InodeNumber number;
  std::uint32_t mode = 0;  // file type and permissions, as in stat(2)
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint64_t rdev = 0;
  std::uint32_t links = 0;  // 0: open-unlinked, removed at the last close or the next mount
  std::uint64_t size = 0;
  FileTime accessed, modified, changed;
  core::FileId file;               // regular files; zero otherwise
  core::Bytes wrapped_key;         // the file key under its epoch key; regular files
  std::string target;              // symbolic links
  Deadline deadline;               // when it dies; never for directories
  core::Milliseconds ttl{0};       // the span the deadline came from (sliding modes slide by it); for a directory the
                                   // default of what is created in it; 0: inherited, or none set
  Deadline default_deadline;       // a directory's default as an instant; never: none set
  bool deadline_explicit = false;  // set by somebody, not inherited
  TtlMode ttl_mode = TtlMode::fixed;
  std::optional<core::Profile> profile;  // a directory's or file's own; none: inherited when created, or the volume's

  friend bool operator==(const InodeRecord&, const InodeRecord&) = default;
};

/// One name in a directory, with what a listing needs of the inode behind it.
struct NameRecord {
  std::string name;
  InodeNumber inode;
  std::uint32_t mode = 0;
  Deadline deadline;
};

enum class StripeState : std::uint8_t {
  open = 0,    // extents are being appended; in staging
  sealed = 1,  // complete; in staging, not yet on enough nodes
  placed = 2,  // on all its nodes, or on enough of them with shards still owed
};

struct StripeRecord {
  StripeNumber number;
  core::StripeId id;
  StripeState state = StripeState::open;
  core::BlockFormat format = core::BlockFormat::aes_256_gcm_4k;
  core::Profile profile;
  std::uint64_t length = 0;  // bytes of ciphertext, padding not counted
  std::uint64_t live = 0;    // bytes of extents that still count; kept by the catalog, ignored when put
  Deadline deadline;         // the last deadline in it: its lease's end
  core::Instant created;
};

/// One shard of a stripe, where it is or should be.
struct PlacementRecord {
  StripeNumber stripe;
  std::uint8_t index = 0;
  core::ShardId shard;
  core::NodeId node;
  bool stored = false;  // the node's receipt is here; else the shard is owed
  std::uint64_t shard_bytes = 0;
  std::uint64_t lease_serial = 0;
  Deadline lease_deadline;  // what the node last agreed to
  core::Bytes receipt;      // envelope; empty when not stored
};

/// A shard a node should no longer hold, until it says so or its lease is over.
struct RemovalRecord {
  core::ShardId shard;
  core::NodeId node;
  std::uint64_t serial = 0;
  Deadline lease_deadline;
};

// The changes. "Put" makes or replaces; dropping what is not there is no failure.
struct PutInode {
  InodeRecord inode;
};
struct DropInode {
  InodeNumber inode;
};  // with its xattrs and extents
struct PutName {
  InodeNumber parent;
  std::string name;
  InodeNumber inode;
};
struct DropName {
  InodeNumber parent;
  std::string name;
};
struct PutXattr {
  InodeNumber inode;
  std::string name;
  core::Bytes value;
};
struct DropXattr {
  InodeNumber inode;
  std::string name;
};
struct PutExtent {
  ExtentRecord extent;
};  // replaces one at the same offset, trims nothing else
struct DropExtent {
  InodeNumber inode;
  std::uint64_t offset = 0;
};
struct PutStripe {
  StripeRecord stripe;
};
struct DropStripe {
  StripeNumber stripe;
};  // with its placements; it must have no extents
struct PutPlacement {
  PlacementRecord placement;
};
struct PutRemoval {
  RemovalRecord removal;
};
struct DropRemoval {
  core::ShardId shard;
  core::NodeId node;
};
struct PutValue {
  std::string key;
  core::Bytes value;
};  // the volume's own settings

struct PutDeadFile {
  DeadFileRecord file;
};
struct DropDeadFile {
  InodeNumber number;
};
struct PutDeadStripe {
  DeadStripeRecord stripe;
};
struct DropDeadStripe {
  StripeNumber number;
};  // with its shards
struct PutDeadShard {
  DeadShardRecord shard;
};  // of a dead stripe, or moved from its node while the stripe lived
struct PutAudit {
  AuditRecord audit;
};  // of a stripe that is there; goes with it

using Change = std::variant<PutInode, DropInode, PutName, DropName, PutXattr, DropXattr, PutExtent, DropExtent,
                            PutStripe, DropStripe, PutPlacement, PutRemoval, DropRemoval, PutValue, PutDeadFile,
                            DropDeadFile, PutDeadStripe, DropDeadStripe, PutDeadShard, PutAudit>;
using Changes = std::vector<Change>;

/// What statfs and status say; kept up to date by the catalog, so that reading costs the same however many files live.
struct CatalogTotals {
  std::uint64_t inodes = 0;
  std::uint64_t bytes = 0;  // sum of live bytes of all stripes
  std::uint64_t stripes = 0;
};

struct ExpiringTotals {
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;  // sum of sizes
};

/// What dies, as a list by deadline has it. A list goes on behind the last one it gave.
struct ExpiringRecord {
  Deadline deadline;
  std::uint64_t size = 0;
  InodeNumber inode;
  std::uint32_t mode = 0;

  /// What stands in front of everything that dies at `from` or later.
  [[nodiscard]] static ExpiringRecord before(core::Instant from) { return {Deadline(from), 0, {}, 0}; }
  friend bool operator==(const ExpiringRecord&, const ExpiringRecord&) = default;
};

/// An inode that died, and what names and holds it.
struct ExpiredInode {
  InodeRecord record;
  std::vector<std::pair<InodeNumber, std::string>> names;  // parent and name
  std::vector<ExtentRecord> extents;
  friend bool operator==(const ExpiredInode&, const ExpiredInode&) = default;
};

/// What goes with an inode or keeps it from being dropped.
struct InodeTies {
  bool is_there = false;
  bool has_names = false;                                  // in it
  std::vector<std::pair<InodeNumber, std::string>> names;  // that lead to it
  std::vector<ExtentRecord> extents;
};

/// Bytes that were written to a file in the volume's directory `staging`, and not synced.
struct StagedBytes {
  StripeNumber stripe;
  std::string file;  // its name
  std::uint64_t offset = 0;
  core::Bytes bytes;
};

class Catalog {
 public:
  virtual ~Catalog() = default;

  [[nodiscard]] virtual Result<> commit(const Changes& changes) = 0;
  /// As commit(). True when sync() makes these bytes safe as well: a copy is kept with the changes until their file has
  /// been synced, and written to it when the catalog is opened. False when they are not kept, and their file has to be
  /// synced before the changes are safe.
  [[nodiscard]] virtual Result<bool> commit_keeping(const Changes& changes, const std::vector<StagedBytes>& staged) {
    (void)staged;
    EPHFS_TRY_VOID(commit(changes));
    return false;
  }
  [[nodiscard]] virtual Result<> sync() = 0;
  /// Early death: when it returns, no file of the catalog's holds any byte of a record that a commit which returned
  /// before the call dropped or replaced, unless another record has the same bytes: not where the record was, not in a
  /// copy that moving it left behind, not in a log. What held it has been overwritten in place and synced before it was
  /// given back to the file system. Costs by what was committed since the last call, and nothing when nothing was.
  /// Commits wait while the end of it runs. busy while somebody reads an old snapshot, after a short wait, and any
  /// other failure as it is: the promise then holds for nothing yet, to be called again.
  [[nodiscard]] virtual Result<> scrub() = 0;

  [[nodiscard]] virtual Result<std::optional<core::Bytes>> value(const std::string& key) const = 0;

  [[nodiscard]] virtual Result<std::optional<InodeRecord>> inode(InodeNumber number) const = 0;
  /// Those of these that are there, in any order; of one moment.
  [[nodiscard]] virtual Result<std::vector<InodeRecord>> inodes(const std::vector<InodeNumber>& numbers) const = 0;
  /// The largest inode number ever committed, and stripe number: new ones count on from there.
  [[nodiscard]] virtual Result<InodeNumber> last_inode() const = 0;
  [[nodiscard]] virtual Result<StripeNumber> last_stripe() const = 0;
  /// The inode a name leads to, in one step; none when there is no such name.
  [[nodiscard]] virtual Result<std::optional<InodeRecord>> lookup(InodeNumber parent,
                                                                  const std::string& name) const = 0;
  /// Names of a directory in byte order after `after` ("" from the start), at most `limit`.
  [[nodiscard]] virtual Result<std::vector<NameRecord>> names(InodeNumber parent, const std::string& after,
                                                              std::size_t limit) const = 0;
  /// A directory and name that lead to the inode; none for an unlinked one. For a directory, its only parent.
  [[nodiscard]] virtual Result<std::optional<std::pair<InodeNumber, std::string>>> parent_of(
      InodeNumber number) const = 0;
  /// All names that lead to the inode.
  [[nodiscard]] virtual Result<std::vector<std::pair<InodeNumber, std::string>>> names_of(InodeNumber number) const = 0;
  /// All that is tied to the inode, of one moment; empty when it is not there.
  [[nodiscard]] virtual Result<InodeTies> ties(InodeNumber number) const = 0;
  [[nodiscard]] virtual Result<std::optional<core::Bytes>> xattr(InodeNumber number, const std::string& name) const = 0;
  [[nodiscard]] virtual Result<std::vector<std::string>> xattr_names(InodeNumber number) const = 0;

  /// A file's extents by offset. They never overlap.
  [[nodiscard]] virtual Result<std::vector<ExtentRecord>> extents(InodeNumber number) const = 0;
  /// Those that begin at one of these offsets, which rise; of one moment.
  [[nodiscard]] virtual Result<std::vector<ExtentRecord>> extents_at(
      InodeNumber number, const std::vector<std::uint64_t>& offsets) const = 0;
  /// Extents that lie in a stripe.
  [[nodiscard]] virtual Result<std::vector<ExtentRecord>> extents_in(StripeNumber stripe) const = 0;

  [[nodiscard]] virtual Result<std::optional<StripeRecord>> stripe(StripeNumber number) const = 0;
  [[nodiscard]] virtual Result<std::vector<StripeRecord>> stripes_in_state(StripeState state,
                                                                           std::size_t limit) const = 0;
  /// Stripes that are not open and hold no live byte, or whose deadline has passed at `now`: to be deleted.
  [[nodiscard]] virtual Result<std::vector<StripeRecord>> dead_stripes(core::Instant now, std::size_t limit) const = 0;
  /// Placed stripes with live bytes of at most `permille` thousandths of their length, whose deadline is after `later`.
  [[nodiscard]] virtual Result<std::vector<StripeRecord>> sparse_stripes(unsigned permille, core::Instant later,
                                                                         std::size_t limit) const = 0;
  [[nodiscard]] virtual Result<std::vector<PlacementRecord>> placements(StripeNumber stripe) const = 0;
  /// Placements of shards still owed to a node.
  [[nodiscard]] virtual Result<std::vector<PlacementRecord>> owed(std::size_t limit) const = 0;
  [[nodiscard]] virtual Result<std::vector<RemovalRecord>> removals(std::size_t limit) const = 0;

  /// Inodes whose deadline has passed at `now`, earliest first. Costs by what it returns.
  [[nodiscard]] virtual Result<std::vector<InodeNumber>> expired(core::Instant now, std::size_t limit) const = 0;
  /// The same with all that goes with each, of one moment.
  [[nodiscard]] virtual Result<std::vector<ExpiredInode>> expired_inodes(core::Instant now,
                                                                         std::size_t limit) const = 0;
  [[nodiscard]] virtual Result<Deadline> next_deadline() const = 0;
  /// Inodes with no link left: open-unlinked when the last run ended.
  [[nodiscard]] virtual Result<std::vector<InodeNumber>> orphans(std::size_t limit) const = 0;
  /// Files that die at or after `from` and before `until`.
  [[nodiscard]] virtual Result<ExpiringTotals> expiring(core::Instant from, core::Instant until) const = 0;
  /// Inodes that die before `until`, by deadline, size and number, behind `after`. Costs by what it returns.
  [[nodiscard]] virtual Result<std::vector<ExpiringRecord>> expiring_list(const ExpiringRecord& after,
                                                                          core::Instant until,
                                                                          std::size_t limit) const = 0;
  [[nodiscard]] virtual Result<CatalogTotals> totals() const = 0;

  /// Stripes in any state by rising number, above `after`.
  [[nodiscard]] virtual Result<std::vector<StripeRecord>> stripes_after(StripeNumber after,
                                                                        std::size_t limit) const = 0;
  /// By index: the last audit of each of the stripe's placements that had one.
  [[nodiscard]] virtual Result<std::vector<AuditRecord>> audits(StripeNumber stripe) const = 0;

  // The dead: death_records.hpp.
  /// Costs by how many dead files are remembered.
  [[nodiscard]] virtual Result<std::optional<DeadFileRecord>> dead_file(const core::FileId& file) const = 0;
  [[nodiscard]] virtual Result<std::optional<DeadStripeRecord>> dead_stripe(StripeNumber number) const = 0;
  /// By index, then node.
  [[nodiscard]] virtual Result<std::vector<DeadShardRecord>> dead_shards(StripeNumber stripe) const = 0;
  /// Shards of which the node is to be asked at `now` whether it deleted them, longest due first.
  [[nodiscard]] virtual Result<std::vector<DeadShardRecord>> unproven(const core::NodeId& node, core::Instant now,
                                                                      std::size_t limit) const = 0;
  /// When the node is to be asked next; none: never.
  [[nodiscard]] virtual Result<std::optional<core::Instant>> next_unproven(const core::NodeId& node) const = 0;
  /// What died before an instant, at most `limit` of each kind.
  [[nodiscard]] virtual Result<DeadNumbers> dead_before(core::Instant instant, std::size_t limit) const = 0;

  /// Every invariant of the records against one another; one line for each that is broken. For fsck and tests.
  [[nodiscard]] virtual Result<std::vector<std::string>> check() const = 0;
};

}  // namespace ephfs::meta
