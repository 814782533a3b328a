// SPDX-License-Identifier: Apache-2.0
// What the engine's files share, and the internal calls between them. Private to fs/engine*, reaper, maintenance.
#pragma once

#include <set>
#include <unordered_set>

#include "fs/engine.hpp"
#include "fs/left_names.hpp"

namespace ephfs::fs {

class Reaper;       // reaper.hpp: destroys what died
class Puncturer;    // puncturer.hpp: destroys the epoch keys of what died
class Scrubber;     // scrubber.hpp: has dropped keys overwritten
class ShareBook;    // share_book.hpp: which shares were given to nodes
class Warner;       // warner.hpp: tells of files that will die soon
class Maintenance;  // maintenance.hpp: flushes by age, moves extents to where they die on time, compacts

struct EngineState {
  explicit EngineState(Engine::Context context);
  ~EngineState();

  EngineOptions options;
  std::unique_ptr<meta::Catalog> catalog;
  const core::VolumeKeys& keys;
  std::unique_ptr<core::EpochKeys> epoch_keys;
  const net::PeerDirectory& peers;
  core::Clock& clock;
  core::asio::any_io_executor executor;
  core::asio::any_io_executor background;
  core::asio::any_io_executor unhurried;
  std::function<void(std::string)> log;
  core::Signer owner;
  std::unique_ptr<Stripes> stripes;
  InodeTable inodes;
  std::shared_ptr<Inode> root;  // always held
  KernelCache* kernel = nullptr;

  /// Guards the shape of the tree: held over look-up-then-commit of anything that makes, removes or moves a name.
  std::mutex namespace_mutex;
  std::atomic<std::uint64_t> next_inode{2};

  /// Inodes with dirty ranges or a dirty record, oldest first, and how much plaintext they hold. Own lock, taken last.
  struct DirtyList {
    std::mutex mutex;
    std::map<std::pair<core::Boottime, InodeNumber>, std::shared_ptr<Inode>> by_age;
    std::unordered_map<InodeNumber, core::Boottime> since;
    std::atomic<std::uint64_t> bytes{0};
  } dirty;

  /// Guarded by namespace_mutex.
  LeftNames left_names;
  /// When the log may next say that an inherited ttl was clamped, in ns of boot time.
  mutable std::atomic<std::int64_t> next_clamp_warning{std::numeric_limits<std::int64_t>::min()};

  std::function<void(const DyingFile&)> on_warning;
  std::unique_ptr<Reaper> reaper;
  std::unique_ptr<Puncturer> puncturer;
  std::unique_ptr<Scrubber> scrubber;
  std::unique_ptr<Warner> warner;
  std::unique_ptr<Maintenance> maintenance;
  std::unique_ptr<ShareBook> shares;
};

// --- inode_rules.cpp: what holds for any inode -----------------------------------------------------------------------
[[nodiscard]] meta::FileTime file_time_now(const core::Clock& clock);
/// gone or stale (by_descriptor) from kLastMoment before the deadline on.
[[nodiscard]] Result<> check_alive(const EngineState& state, const Inode& inode, bool by_descriptor);
/// The earlier of `until` and the moment from which the file is refused. No wait of an answer about it may be
/// longer: the kernel holds the pages that are being read or written meanwhile, and could not drop them.
[[nodiscard]] core::Boottime while_alive(const EngineState& state, const Inode& inode, core::Boottime until);
/// Shared lock held.
[[nodiscard]] Attributes attributes_of(const EngineState& state, Inode& inode);
/// The inode, alive.
[[nodiscard]] Result<std::shared_ptr<Inode>> live_inode(EngineState& state, InodeNumber number,
                                                        bool by_descriptor = false);
/// A file key, wrapped for the record's file and deadline; and back again.
[[nodiscard]] Result<core::Bytes> wrap_file_key(const EngineState& state, const meta::InodeRecord& record,
                                                const core::Key& key);
[[nodiscard]] Result<core::Key> unwrap_file_key(const EngineState& state, const meta::InodeRecord& record);

// --- ttl_rules.cpp: deadlines ----------------------------------------------------------------------------------------

struct InheritedTtl {
  Deadline deadline;
  Milliseconds ttl{0};
  meta::TtlMode mode = meta::TtlMode::fixed;
};
/// What a file made now in `parent` gets: the directory's default, else the volume's, clamped to the bounds.
[[nodiscard]] InheritedTtl inherited_ttl(const EngineState& state, const meta::InodeRecord& parent);

/// A ttl or deadline as somebody writes it: "2h", "+2h" (an extension), RFC 3339 or "@MS", "never".
struct TtlWish {
  enum class Kind : std::uint8_t { span, extension, instant, never };
  Kind kind = Kind::span;
  Milliseconds span{0};  // span, extension
  core::Instant at;      // instant
};
[[nodiscard]] Result<TtlWish> parse_ttl_wish(std::string_view text);
struct ChosenDeadline {
  Deadline deadline;
  Milliseconds ttl{0};
};
/// The deadline of a file that is wished for; invalid_argument when it is past or outside the volume's bounds.
[[nodiscard]] Result<ChosenDeadline> choose_deadline(const EngineState& state, const TtlWish& wish, Deadline present);
/// Makes the wish a directory's default: a span where a span is asked for, an instant where one is.
[[nodiscard]] Result<> set_directory_default(const EngineState& state, const TtlWish& wish, bool as_instant,
                                             meta::InodeRecord& directory);

/// Gives a file's record another deadline and wraps its key for it. When the record has been committed: store it in the
/// inode with publish_ttl(), let the lock go, and call deadline_changed().
[[nodiscard]] Result<> change_deadline(const EngineState& state, meta::InodeRecord& record, Deadline deadline,
                                       Milliseconds ttl, bool is_explicit);
/// What a file that takes another's place gets of its deadline. A save is a write, which a sliding deadline
/// follows.
[[nodiscard]] CarriedDeadline carried_deadline(const EngineState& state, const meta::InodeRecord& replaced);
/// No lock held. The deadline is nearer than the kernel was told: it believes nothing of what it knows any
/// longer.
void deadline_shortened(EngineState& state, const Inode& inode);
/// What the inode says of it (Inode::reread), where reading may slide a deadline at all.
[[nodiscard]] Milliseconds reread_after(const EngineState& state, const Inode& inode);
/// What the kernel's watcher is told of an inode now.
[[nodiscard]] PageWatch page_watch(const EngineState& state, const Inode& inode);
/// Tells the kernel's watcher of an inode that somebody has open, after what page_watch() says of it has changed.
void watch_pages(EngineState& state, const Inode& inode);
/// No lock held: tells the kernel's watcher and the reaper, and has the extents moved when their stripes die at another
/// time than the file.
void deadline_changed(EngineState& state, const std::shared_ptr<Inode>& inode);
/// Exclusive lock held: slides the deadline of a file whose mode says so, at most once per 1/64 of its ttl, in memory.
/// Whether it did: then mark_dirty() it, and call deadline_changed() without the lock.
[[nodiscard]] bool slide_deadline(EngineState& state, Inode& inode, bool written);
/// Whether the file dies within kDropsBegin; then nothing keeps this thread from serving others.
bool hurry_near_death(const EngineState& state, const Inode& inode, core::Instant now);

// --- file_content.cpp: bytes of a file; exclusive lock of the inode held unless said otherwise
// -------------------------
/// Makes inode.data: unwraps the key and loads the extent map, once.
[[nodiscard]] Result<> load_data(EngineState& state, Inode& inode);
/// Stages all dirty ranges and commits them with the record and `with`. would_block when staging is full, any other
/// failure as it is: what was staged before it is committed, the rest stays dirty, `with` is not committed. When the
/// commit itself fails, nothing has changed.
[[nodiscard]] Result<> flush_inode(EngineState& state, const std::shared_ptr<Inode>& inode, meta::Changes with = {});
/// The same for somebody who syncs stripes and catalog next, and saves the first where there is little to stage.
[[nodiscard]] Result<> flush_to_sync(EngineState& state, const std::shared_ptr<Inode>& inode);
/// The same for full runs only, when there are any: what follows in a sequential stream has still to fill a stripe.
[[nodiscard]] Result<> flush_whole_runs(EngineState& state, const std::shared_ptr<Inode>& inode);
/// Exclusive lock: commits bytes [from, to) of the file that were staged without having been dirty, with the record
/// when it is; what was dirty there is forgotten. On failure nothing has changed.
[[nodiscard]] Result<> commit_staged(EngineState& state, const std::shared_ptr<Inode>& inode, Staged staged,
                                     std::uint64_t from, std::uint64_t to);

/// What stages runs of a file for its present key and deadline. Lock held.
[[nodiscard]] StageRequest stage_request(const EngineState& state, const Inode& inode, std::vector<PlainRun> runs);

/// Bytes of one file on their way into stripes. Nothing in memory changes before commit() has succeeded; destroying it
/// without commit() leaves the file as it was. Exclusive lock held from commit()'s call to its return.
class StagedContent {
 public:
  StagedContent(EngineState& state, Inode& inode, bool synced_soon = false)
      : state_(state), inode_(inode), synced_soon_(synced_soon) {}
  /// Encrypts and stages for the file's present deadline; failures as Stripes::stage().
  [[nodiscard]] Result<> stage(std::vector<PlainRun> runs);
  /// What was staged elsewhere for this file as it is now.
  void add(Staged staged);
  /// Lays the extents over the file's map and commits them with `with`, then lets go of the stripes.
  [[nodiscard]] Result<> commit(meta::Changes with);
  [[nodiscard]] bool empty() const { return extents_.empty(); }
  /// Where the bytes went.
  [[nodiscard]] std::vector<StripeNumber> stripes() const;

 private:
  [[nodiscard]] core::Profile profile();

  EngineState& state_;
  Inode& inode_;
  const bool synced_soon_;
  std::optional<core::Profile> profile_;
  std::vector<meta::ExtentRecord> extents_;
  std::vector<meta::StagedBytes> ciphertext_;  // of those that the catalog is to keep
  meta::Changes changes_;
  std::unordered_set<StripeNumber> stripes_noted_;
  StripePins pins_;
};

/// What a change to a file's content took away, to be put back when its commit fails.
struct ContentUndo {
  std::uint64_t size = 0;
  std::shared_ptr<const core::Key> key;  // the file key, where there is a new one
  ExtentMap::Saved extents;
  DirtyRanges dirty;
};
/// Changes the size; what is cut off is erased, what is added is a hole. Record, dirty ranges and extents in memory are
/// changed and the catalog's changes (PutInode among them) added; the caller commits, and calls undo_content() when
/// that fails. A file that is emptied gets a new key, so that nothing opens what it held: when that is committed, the
/// caller tells with content_committed().
[[nodiscard]] Result<ContentUndo> resize(EngineState& state, Inode& inode, std::uint64_t size, meta::Changes& changes);
/// Makes [from, to) a hole, in the same way; the size stays.
[[nodiscard]] Result<ContentUndo> punch(EngineState& state, Inode& inode, std::uint64_t from, std::uint64_t to,
                                        meta::Changes& changes);
/// Puts back what the change took from memory. The record is the caller's to put back.
void undo_content(EngineState& state, Inode& inode, ContentUndo undo);
void content_committed(EngineState& state, const ContentUndo& done);
/// Notes that ranges (by how many bytes they grew or shrank) or record are dirty.
void mark_dirty(EngineState& state, const std::shared_ptr<Inode>& inode, std::int64_t bytes_added);
/// Forgets everything dirty of an inode that is removed, and its key.
void discard_data(EngineState& state, Inode& inode);
/// no_space when `adding` more bytes would pass options.capacity. No lock needed.
[[nodiscard]] Result<> check_capacity(const EngineState& state, std::uint64_t adding);
/// Waits for room in staging, until `until` at the latest; interrupted soon after `stop` was asked for.
[[nodiscard]] awaitable<Result<>> wait_for_room(EngineState& state, core::Boottime until, std::stop_token stop = {});
/// No lock held. flush_inode(), waiting for room in staging.
[[nodiscard]] awaitable<Result<>> flush_waiting(EngineState& state, std::shared_ptr<Inode> inode, core::Boottime until);
/// No lock held. Flushes all that is dirty now, what is dirty for longest first. The first failure, after all were
/// tried.
[[nodiscard]] awaitable<Result<>> flush_all(EngineState& state, core::Boottime until);

// --- engine_files.cpp ------------------------------------------------------------------------------------------------
/// No lock held. A descriptor for a live regular file; O_TRUNC among the flags truncates.
[[nodiscard]] Result<std::shared_ptr<OpenFile>> open_inode(EngineState& state, std::shared_ptr<Inode> inode, int flags);

// --- engine_namespace.cpp --------------------------------------------------------------------------------------------
/// Makes an inode of the mode's type and its name, in one commit; nobody's lookup count is raised. exists when the name
/// is there and alive.
[[nodiscard]] Result<std::shared_ptr<Inode>> make_inode(EngineState& state, InodeNumber parent, const std::string& name,
                                                        std::uint32_t mode, std::uint64_t rdev,
                                                        const std::string& target, Caller caller);

// --- engine_expiring.cpp ---------------------------------------------------------------------------------------------
/// Paths of inodes, as the catalog has them now. Directories are looked up once for each object.
class PathFinder {
 public:
  explicit PathFinder(const meta::Catalog& catalog) : catalog_(catalog) {}
  /// One path from the root; empty for what has no name, or whose directories are changing right now.
  [[nodiscard]] Result<std::string> path_of(InodeNumber number);

 private:
  const meta::Catalog& catalog_;
  std::unordered_map<InodeNumber, std::string> directories_;
};

// --- engine_deaths.cpp -----------------------------------------------------------------------------------------------
/// No lock held. After the last descriptor was closed: an inode without names goes.
void close_inode(EngineState& state, const std::shared_ptr<Inode>& inode);
/// No lock held. Destroys inodes whose deadline has passed: names, extents and keys in one commit a batch. How many.
[[nodiscard]] Result<std::size_t> reap(EngineState& state, core::Instant now, std::size_t limit);
/// Removes what was unlinked and still open when the last run ended.
[[nodiscard]] Result<> remove_orphans(EngineState& state);

}  // namespace ephfs::fs
