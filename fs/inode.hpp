// SPDX-License-Identifier: Apache-2.0
// An inode in memory: its record, and for a regular file its bytes. The catalog's row is never newer than this.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include <sys/stat.h>

#include "core/clock.hpp"
#include "core/keyring.hpp"
#include "fs/file_data.hpp"
#include "fs/name_cache.hpp"
#include "meta/catalog.hpp"

namespace ephfs::fs {

class Inode {
 public:
  explicit Inode(meta::InodeRecord loaded);

  const InodeNumber number;
  const std::uint32_t type;  // the file type bits of its mode, which never change

  [[nodiscard]] bool is_directory() const { return S_ISDIR(type); }
  [[nodiscard]] bool is_regular() const { return S_ISREG(type); }

  /// Guards all below it. Held for memory, local disk and catalog work, never across a co_await. Order: the namespace
  /// mutex, then inodes by rising number, then nothing of the engine's.
  std::shared_mutex mutex;
  meta::InodeRecord record;
  bool record_dirty = false;       // times or size differ from the catalog's row
  bool removed = false;            // the row is gone: died, or unlinked and closed
  std::unique_ptr<FileData> data;  // regular files, once first needed
  /// All extents, where there are few, of a file whose `data` was let go of; none: the catalog knows.
  std::optional<std::vector<meta::ExtentRecord>> extents_kept;
  static constexpr std::uint64_t kAllocatedUnknown = ~std::uint64_t{0};
  /// Bytes that its extents take up, for stat(2) while `data` is not here. Set with the lock held, also shared.
  std::atomic<std::uint64_t> allocated{kAllocatedUnknown};

  /// The record's deadline, for checks without the lock.
  [[nodiscard]] Deadline deadline() const { return Deadline::from_raw(deadline_.load(std::memory_order_acquire)); }
  /// How long the kernel may answer reads from its pages before it has to ask again, so that a deadline that slides on
  /// reading hears of them; 0: until the deadline.
  [[nodiscard]] Milliseconds reread() const { return Milliseconds(reread_.load(std::memory_order_acquire)); }
  /// Call with the lock held, after the record's deadline, ttl or ttl_mode changed.
  void publish_ttl();
  /// Whether nobody may read it any more: from kLastMoment before its deadline on.
  [[nodiscard]] bool is_gone(core::Instant now) const { return deadline().passed(now + kLastMoment); }

  /// The deadline that was warned of last, raw: see warner.hpp.
  std::atomic<std::int64_t> warned{0};
  std::atomic<std::uint64_t> lookups{0};  // what the kernel remembers of it
  std::atomic<std::uint32_t> handles{0};  // open descriptors; raised with the lock held, while not `removed`
  std::atomic<bool> is_written{false};    // one of them was for writing; until the last is closed
  /// The catalog was asked for security.capability and had none: the kernel asks before every write.
  std::atomic<bool> no_capability{false};

 private:
  std::atomic<std::int64_t> deadline_;
  std::atomic<std::int64_t> reread_;
};

/// Every inode that somebody holds, and those held last: one object a number. Thread-safe.
///
/// What only the kernel remembers it may remember by the million. Past `kept_max` objects, those that nobody works with
/// are let go, and of each that the kernel remembers stays what it was told: how often it looked it up, and the
/// deadline.
class InodeTable {
 public:
  InodeTable(const meta::Catalog& catalog, std::size_t kept_max) : catalog_(catalog), kept_max_(kept_max) {}

  /// The inode, loaded when it is not here. not_found when there is none.
  [[nodiscard]] Result<std::shared_ptr<Inode>> get(InodeNumber number);
  /// The inode a name leads to; not_found when there is no such name.
  [[nodiscard]] Result<std::shared_ptr<Inode>> lookup(InodeNumber parent, const std::string& name);
  /// Names of a directory in byte order after `after`, at most `limit`; they are known from then on.
  [[nodiscard]] Result<std::vector<meta::NameRecord>> list(InodeNumber parent, const std::string& after,
                                                           std::size_t limit);
  /// Those of `numbers` that are in the catalog and not here, read at once; so that get() finds them. It leaves out
  /// what changes meanwhile.
  void load_all(const std::vector<InodeNumber>& numbers);
  /// A commit that may have changed names has succeeded. Called before anybody is told of it.
  void names_changed(const meta::Changes& changes) { names_.committed(changes); }
  /// The object for an inode just made.
  [[nodiscard]] std::shared_ptr<Inode> adopt(meta::InodeRecord record);
  [[nodiscard]] std::shared_ptr<Inode> find(InodeNumber number) const;
  /// Whether the kernel remembers it.
  [[nodiscard]] bool is_known(InodeNumber number) const;
  /// The kernel has forgotten this many lookups. The file type bits of the object, when it is here and the kernel knows
  /// nothing of it any more.
  std::optional<std::uint32_t> forget(InodeNumber number, std::uint64_t lookups);
  /// Lets an inode go that was removed and that the kernel, descriptors and tasks no longer hold. A no-op for another.
  void release(InodeNumber number);
  [[nodiscard]] std::vector<std::shared_ptr<Inode>> all() const;
  /// Of those that have no object and that the kernel remembers: who is refused at `now`.
  [[nodiscard]] std::vector<InodeNumber> remembered_gone(core::Instant now) const;
  /// Objects.
  [[nodiscard]] std::size_t size() const;

 private:
  struct Remembered {
    std::uint64_t lookups = 0;
    Deadline deadline;
  };

  /// The inode that `read` finds in the catalog. A record read before another thread changed and released that inode
  /// would be older than the row, so it is read again when anything was released meanwhile.
  template <class Read>
  Result<std::shared_ptr<Inode>> load(Read read);
  /// Makes the object, with what is remembered of it.
  std::shared_ptr<Inode> insert_locked(meta::InodeRecord record);
  /// Lets a few objects go while there are more than kept_max_.
  void trim_locked();
  using Objects = std::unordered_map<InodeNumber, std::shared_ptr<Inode>>;
  /// Takes the object out when it was removed and nobody holds it any more, so that it is destroyed without the lock.
  std::shared_ptr<Inode> take_removed_locked(Objects::iterator at);

  const meta::Catalog& catalog_;
  const std::size_t kept_max_;
  NameCache names_;
  mutable std::mutex mutex_;
  Objects inodes_;
  std::unordered_map<InodeNumber, Remembered> remembered_;  // none of them in inodes_
  std::size_t hand_ = 0;                                    // the bucket of inodes_ that trim_locked() looks at next
  std::uint64_t releases_ = 0;
};

}  // namespace ephfs::fs
