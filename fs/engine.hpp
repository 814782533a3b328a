// SPDX-License-Identifier: Apache-2.0
// The volume engine: POSIX files that die on time, without a word of FUSE. fs/fuse_* translates the kernel's requests
// into these calls; tests and the simulation call them directly.
//
// Calls without `awaitable` answer from memory, the catalog and the local disk, on the calling thread. Those that may
// need the network come twice: try_... gives would_block when it would, and the awaitable form then asks the nodes.
// Every operation first checks the deadline: a path that has died is gone (ENOENT), a descriptor stale (ESTALE).
// Permissions are the kernel's business (default_permissions); a Caller only owns what it makes. Thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/async.hpp"
#include "core/clock.hpp"
#include "core/keyring.hpp"
#include "core/signing.hpp"
#include "fs/inode.hpp"
#include "fs/options.hpp"
#include "fs/stripes.hpp"
#include "meta/catalog.hpp"
#include "net/share_link.hpp"

namespace ephfs::fs {

struct Caller {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

/// What stat(2) says, and for how long the kernel may believe it.
struct Attributes {
  InodeNumber number;
  std::uint32_t mode = 0, uid = 0, gid = 0, links = 0;
  std::uint64_t rdev = 0, size = 0, allocated = 0;
  meta::FileTime accessed, modified, changed;
  Milliseconds valid_for{0};  // ends well before the deadline; a day when that is far
};

struct SetAttributes {
  std::optional<std::uint32_t> mode, uid, gid;  // mode: permission bits only
  std::optional<std::uint64_t> size;
  std::optional<meta::FileTime> accessed, modified, changed;
  bool drop_set_id = false;  // as drop_set_id() does, with the rest
};

/// An open descriptor: release() ends it.
struct OpenFile {
  std::shared_ptr<Inode> inode;
  int flags = 0;                              // of open(2)
  std::atomic<std::uint64_t> next_offset{0};  // where a sequential reader will read next
  std::atomic<std::uint32_t> sequential{0};   // reads in a row that went there
  bool keeps_pages = true;                    // what the kernel has cached of the file may go on being read
};

/// A directory being listed: the names it had when it was opened or rewound.
struct OpenDirectory {
  std::shared_ptr<Inode> inode;
  std::mutex mutex;
  std::vector<meta::NameRecord> names;
  bool loaded = false;
};

enum class RenameMode : std::uint8_t { replace, no_replace, exchange };
enum class SeekTo : std::uint8_t { data, hole };
enum class Allocation : std::uint8_t { extend, keep_size, punch_hole, zero_range, zero_range_keep_size };
enum class XattrMode : std::uint8_t { any, create, replace };

/// A file that will die soon, and by which path it is known (one of them; empty for one without a name).
struct DyingFile {
  InodeNumber number;
  std::uint32_t mode = 0;
  std::uint64_t size = 0;
  Deadline deadline;
  std::string path;  // from the root of the volume, with a slash in front
};

/// How a file is to be shared, and with whom the share may lie: best first.
struct ShareHolder {
  std::shared_ptr<net::Peer> peer;
  std::string address;
};
struct ShareWish {
  core::PoolId pool;
  std::string name;                 // what the file is called
  std::optional<Milliseconds> ttl;  // none: until the file dies
  std::uint32_t fetches_max = 0;    // 0: not counted
  std::vector<ShareHolder> holders;
};
struct SharedLink {
  net::ShareLink link;
  bool ends_with_file = false;  // the file dies no later than the ttl that was wished for
};

struct VolumeStatistics {
  std::uint64_t bytes_total = 0, bytes_free = 0;
  std::uint64_t inodes = 0;
};

/// What becomes of the pages that the kernel keeps of an inode.
struct PageWatch {
  Deadline deadline;        // they must be dropped kLastMoment before it
  bool is_written = false;  // it is open for writing, which makes pages that nobody here hears of
  Milliseconds reread{0};   // they are dropped this long after they came, so that reading is heard of; 0: they may stay
};

/// What the engine tells the kernel's caches, through the thread that may do so. Calls return at once and may come with
/// locks held.
class KernelCache {
 public:
  virtual ~KernelCache() = default;
  /// What holds for the pages of an open file; replaces what was said of it before.
  virtual void watch(InodeNumber number, const PageWatch& watch) = 0;
  /// Pages of it were read. Heard of what dies within kDropsBegin, and of each read of what is watched with `reread`.
  virtual void pages_read(InodeNumber number) = 0;
  /// The calling thread reads or writes what dies within kDropsBegin: dropping its pages waits for that.
  virtual void hurry() = 0;
  /// The last descriptor was closed.
  virtual void unwatch(InodeNumber number) = 0;
  virtual void forget_entry(InodeNumber parent, std::string name) = 0;
  virtual void forget_pages(InodeNumber number) = 0;
  /// The time was set: deadlines are nearer or farther than they were.
  virtual void clock_changed() = 0;
};

struct EngineState;  // engine_state.hpp: what the engine's files share

class Engine {
 public:
  struct Context {
    EngineOptions options;
    std::unique_ptr<meta::Catalog> catalog;
    const core::VolumeKeys& keys;
    std::unique_ptr<core::EpochKeys> epoch_keys;
    const net::PeerDirectory& peers;
    core::Clock& clock;
    core::asio::any_io_executor executor;
    std::function<void(std::string)> log;        // one line, for the administrator
    std::unique_ptr<Stripes> stripes = nullptr;  // null: the volume's own are opened
    /// Told of each file once, options.warn before its death; from a background task. Null: nobody is.
    std::function<void(const DyingFile&)> on_warning = nullptr;
    core::asio::any_io_executor background = {};  // for what nobody waits for; none: `executor`
    core::asio::any_io_executor unhurried = {};   // for the same of more than milliseconds; none: `executor`
  };
  /// Opens the volume: makes its root on first use, sweeps what expired, drops what was unlinked and still open when
  /// the last run ended, destroys the keys of all that, and only then is ready to serve.
  [[nodiscard]] static Result<std::unique_ptr<Engine>> open(Context context);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Starts flushing, reaping and compaction. `kernel` may be null (no kernel above) and outlives stop().
  void start(KernelCache* kernel);
  /// Stages all dirty data, syncs, ends the background tasks. Afterwards only destruction is allowed.
  [[nodiscard]] awaitable<Result<>> stop();

  // Names: engine_namespace.cpp. What returns Attributes of a looked-up or made inode has raised its lookup count by
  // one.

  /// Names that will be looked up, one by one, in a moment: what they lead to is read from the catalog at once.
  void expect_lookups(std::span<const meta::NameRecord> names);
  [[nodiscard]] Result<Attributes> lookup(InodeNumber parent, const std::string& name);
  void forget(InodeNumber number, std::uint64_t lookups);
  [[nodiscard]] Result<Attributes> make_node(InodeNumber parent, const std::string& name, std::uint32_t mode,
                                             std::uint64_t rdev, Caller caller);  // mknod and mkdir, by file type
  [[nodiscard]] Result<Attributes> make_symlink(InodeNumber parent, const std::string& name, const std::string& target,
                                                Caller caller);
  [[nodiscard]] Result<Attributes> make_link(InodeNumber number, InodeNumber parent, const std::string& name);
  [[nodiscard]] Result<> unlink(InodeNumber parent, const std::string& name);
  [[nodiscard]] Result<> remove_directory(InodeNumber parent, const std::string& name);
  [[nodiscard]] Result<> rename(InodeNumber parent, const std::string& name, InodeNumber new_parent,
                                const std::string& new_name, RenameMode mode);
  [[nodiscard]] Result<std::string> read_link(InodeNumber number);
  [[nodiscard]] Result<std::shared_ptr<OpenDirectory>> open_directory(InodeNumber number);
  /// Loads the names again (rewinddir).
  [[nodiscard]] Result<> rewind(OpenDirectory& directory);

  // Attributes and TTLs: engine_attributes.cpp, engine_xattrs.cpp.
  /// `by_descriptor` says which error a dead file gives: stale or gone.
  [[nodiscard]] Result<Attributes> attributes(InodeNumber number, bool by_descriptor);
  [[nodiscard]] Result<Attributes> set_attributes(InodeNumber number, const SetAttributes& set, bool by_descriptor);
  /// Takes what the kernel tells of times that it keeps itself, when that need not be committed by itself: the times of
  /// a file that is open for writing (`by_writer`) go with its bytes, by close(2) at the latest; of a change that the
  /// engine has stamped too, both stamps are as good. False: it is to be set as any other attribute.
  [[nodiscard]] bool note_kernel_times(InodeNumber number, meta::FileTime modified, meta::FileTime changed,
                                       bool by_writer);
  /// Takes set-user-ID from a file's mode, and set-group-ID where its group may execute it: what a change of its bytes
  /// by somebody without CAP_FSETID does. Committed when it returns.
  [[nodiscard]] Result<> drop_set_id(InodeNumber number);
  [[nodiscard]] Result<core::Bytes> xattr(InodeNumber number, const std::string& name);
  [[nodiscard]] Result<> set_xattr(InodeNumber number, const std::string& name, core::ByteView value, XattrMode mode);
  [[nodiscard]] Result<> remove_xattr(InodeNumber number, const std::string& name);
  [[nodiscard]] Result<std::vector<std::string>> list_xattrs(InodeNumber number);
  [[nodiscard]] Result<VolumeStatistics> statistics() const;

  // Files: engine_files.cpp, engine_read.cpp, engine_write.cpp.
  [[nodiscard]] Result<std::pair<Attributes, std::shared_ptr<OpenFile>>> create(InodeNumber parent,
                                                                                const std::string& name,
                                                                                std::uint32_t mode, int flags,
                                                                                Caller caller);
  /// A file in `parent` that has no name (O_TMPFILE). It is gone after its last close, unless make_link gave it one.
  [[nodiscard]] Result<std::pair<Attributes, std::shared_ptr<OpenFile>>> create_unnamed(InodeNumber parent,
                                                                                        std::uint32_t mode, int flags,
                                                                                        Caller caller);
  /// O_TRUNC among the flags truncates.
  [[nodiscard]] Result<std::shared_ptr<OpenFile>> open_file(InodeNumber number, int flags);
  void release(const std::shared_ptr<OpenFile>& file);
  /// Bytes read: fewer than out.size() only at the end of the file.
  [[nodiscard]] Result<std::size_t> try_read(OpenFile& file, std::uint64_t offset, core::MutableByteView out);
  [[nodiscard]] awaitable<Result<std::size_t>> read(std::shared_ptr<OpenFile> file, std::uint64_t offset,
                                                    core::MutableByteView out, std::stop_token stop);
  /// All of `bytes` or a failure. Past the bounds of memory or staging: would_block.
  [[nodiscard]] Result<> try_write(OpenFile& file, std::uint64_t offset, core::ByteView bytes);
  [[nodiscard]] awaitable<Result<>> write(std::shared_ptr<OpenFile> file, std::uint64_t offset, core::Bytes bytes,
                                          std::stop_token stop);
  /// close(2): dirty ranges are staged and committed, so that they survive kill -9. would_block when staging is full.
  [[nodiscard]] Result<> try_flush(OpenFile& file);
  [[nodiscard]] awaitable<Result<>> flush(std::shared_ptr<OpenFile> file);
  /// fsync(2) with local durability, on the caller's thread, which waits for the disk. would_block when fsync() has to
  /// do it: staging is full, a stripe went away meanwhile, or nodes are to be waited for.
  [[nodiscard]] Result<> try_fsync(OpenFile& file);
  /// fsync(2): as safe as options.durability says.
  [[nodiscard]] awaitable<Result<>> fsync(std::shared_ptr<OpenFile> file);
  [[nodiscard]] Result<> sync_directory(InodeNumber number);
  [[nodiscard]] Result<> allocate(OpenFile& file, Allocation how, std::uint64_t offset, std::uint64_t length);
  /// lseek(2) with SEEK_DATA or SEEK_HOLE; not_found when `from` is at or past the end, or no data follows it.
  [[nodiscard]] Result<std::uint64_t> seek(OpenFile& file, SeekTo what, std::uint64_t from);
  [[nodiscard]] awaitable<Result<std::size_t>> copy_range(std::shared_ptr<OpenFile> from, std::uint64_t from_offset,
                                                          std::shared_ptr<OpenFile> to, std::uint64_t to_offset,
                                                          std::size_t length);

  /// The clock was set, held or confirmed, or the machine slept: everything that waits for a deadline looks again, and
  /// the kernel forgets what is dead now. After start(), before stop(); any thread.
  void clock_changed();

  // Sharing: engine_shares.cpp.
  /// Places the file's data, seals its manifest and key under a new link's secret, and gives that to a node that is to
  /// hold it: one of a counted share, up to three of another. invalid_argument for what is no regular file, never dies
  /// and is given no ttl, or has no holder; io when the data could not be placed or no holder took it in peer_timeout;
  /// quota_exceeded past kSharesKeptMax; cancelled by refuse_shares().
  [[nodiscard]] awaitable<Result<SharedLink>> share(InodeNumber number, ShareWish wish);
  /// Before stop(), at least a second: those who share are sent away.
  void refuse_shares();

  /// What dies before `until`, a page at a time, behind `after` (Catalog::expiring_list). `next` is what the next page
  /// goes on behind; none when this was the last one. Names are those of this moment.
  struct ExpiringPage {
    std::vector<DyingFile> files;
    std::optional<meta::ExpiringRecord> next;
  };
  [[nodiscard]] Result<ExpiringPage> expiring(const meta::ExpiringRecord& after, core::Instant until,
                                              std::size_t limit) const;

  /// The proof of a file (meta/proof.hpp), as JSON text: of a living one by its inode, of one that died by its file id.
  [[nodiscard]] Result<std::string> proof(InodeNumber number) const;
  [[nodiscard]] Result<std::string> proof_of_dead(const core::FileId& file) const;
  /// Audits by pages, as JSON text, each page within `limits` (engine_audits.cpp). Of up to kAuditStripes stripes from
  /// the first above `after`, placements by a few leaves: one a stripe, or all.
  [[nodiscard]] awaitable<Result<std::string>> audit(StripeNumber after, bool all, net::CallLimits limits);
  /// Of a file's stripes above `after`, a few at once: every byte of every shard.
  [[nodiscard]] awaitable<Result<std::string>> verify(InodeNumber number, StripeNumber after, net::CallLimits limits);
  /// The TTL audit: of the volume itself, and of one node.
  [[nodiscard]] Result<std::string> audit_ttl();
  [[nodiscard]] awaitable<Result<std::string>> audit_ttl(core::NodeId node, net::CallLimits limits);
  /// What `ephfs status` shows, as JSON text.
  [[nodiscard]] std::string status_json() const;
  [[nodiscard]] const EngineOptions& options() const;
  [[nodiscard]] core::Clock& clock() const;
  [[nodiscard]] core::asio::any_io_executor executor() const;

 private:
  explicit Engine(std::unique_ptr<EngineState> state);
  std::unique_ptr<EngineState> state_;
};

}  // namespace ephfs::fs
