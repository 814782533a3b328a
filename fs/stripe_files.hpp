// SPDX-License-Identifier: Apache-2.0
// Stripes on this disk: DIR/staging/N-ID.stripe holds ciphertext not yet on the nodes, DIR/cache/N-ID.stripe a copy of
// what is, DIR/cache/N-ID.part a copy with gaps. A whole file is the stripe padded to k shards (docs/formats.md,
// "Stripe files").
//
// Invariants. What is staged is never evicted and counts for nothing here. A cached file whose inode a shard of the
// local node shares costs no space: it is not counted and not evicted. What a .part file holds is known in memory only,
// so they are deleted at the next start. A descriptor that was handed out stays good after its file is gone.
//
// Threads. Any; `mutex_` guards the index and is held for cheap system calls (open, rename, unlink), not for data.
#pragma once

#include <filesystem>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/files.hpp"
#include "core/ids.hpp"
#include "core/result.hpp"
#include "core/time.hpp"

namespace ephfs::fs {

using core::Result;
using core::StripeNumber;

using SharedFile = std::shared_ptr<const core::FileDescriptor>;

/// What a stripe's files are called by.
struct StripeName {
  StripeNumber number;
  core::StripeId id;
  friend auto operator<=>(const StripeName&, const StripeName&) = default;
};

class StripeFiles {
 public:
  /// Makes the directories when there are none, and deletes what no run can use (.part files, names that are none).
  [[nodiscard]] static Result<std::unique_ptr<StripeFiles>> open(const std::filesystem::path& volume,
                                                                 std::uint64_t cache_bytes);

  /// What was found on opening: for recovery, which then says keep_cached() or remove() of each.
  struct Found {
    std::vector<StripeName> staged;
    std::vector<StripeName> cached;
  };
  [[nodiscard]] const Found& found() const { return found_; }
  /// Takes a cached file that was found into account; false (and deleted) when it is shorter than `bytes`.
  bool keep_cached(const StripeName& name, std::uint64_t bytes, core::Deadline deadline);
  /// Deletes a cached file that was found.
  void drop_found(const StripeName& name);

  // --- staging
  [[nodiscard]] Result<SharedFile> create_staged(const StripeName& name);
  [[nodiscard]] Result<SharedFile> open_staged(const StripeName& name);
  [[nodiscard]] std::filesystem::path staged_path(const StripeName& name) const;
  /// Makes the names of staged files survive loss of power; cheap when none is new.
  [[nodiscard]] Result<> sync_staging();
  /// The staged file, `bytes` long, becomes a cached one: by rename, so descriptors stay good.
  [[nodiscard]] Result<> adopt(const StripeName& name, std::uint64_t bytes, core::Deadline deadline);
  void remove_staged(const StripeName& name);

  // --- cache
  /// The stripe's file when all of it is cached. Counts as a use.
  [[nodiscard]] SharedFile cached(const StripeName& name);
  /// The stripe's file when bytes [offset, offset + length) of it are cached, whole or not.
  [[nodiscard]] SharedFile cached_range(const StripeName& name, std::uint64_t offset, std::uint64_t length);
  [[nodiscard]] bool holds(const StripeName& name) const;
  /// Caches a whole stripe, its parts laid end to end. Failing to is no failure: the bytes are elsewhere.
  void put_whole(const StripeName& name, const std::vector<core::SharedBytes>& parts, core::Deadline deadline);
  /// Caches part of a stripe of `total` bytes. Remembered by whole chunks of kChunkBytes.
  void put_range(const StripeName& name, std::uint64_t total, std::uint64_t offset, core::ByteView bytes,
                 core::Deadline deadline);
  void remove_cached(const StripeName& name);
  void set_deadline(const StripeName& name, core::Deadline deadline);
  /// Deletes cached files whose deadline has passed at `now`; the earliest deadline left.
  core::Deadline remove_expired(core::Instant now);
  [[nodiscard]] std::uint64_t cached_bytes() const;

  static constexpr std::uint64_t kChunkBytes = 4U << 10U;

 private:
  struct Entry {
    StripeName name;
    std::uint64_t bytes = 0;  // counted against the limit
    bool shared = false;      // with a shard of the local node
    core::Deadline deadline;
    SharedFile file;           // open; null when it was closed to bound descriptors
    std::vector<bool> chunks;  // present ones; empty for a whole file
    std::uint64_t total = 0;
    std::list<StripeName>::iterator used;  // in by_use_
  };

  StripeFiles(std::filesystem::path volume, std::uint64_t cache_bytes);
  [[nodiscard]] std::filesystem::path cached_path(const StripeName& name, bool whole) const;
  [[nodiscard]] Result<> scan();
  Entry& insert_locked(const StripeName& name, core::Deadline deadline);
  [[nodiscard]] SharedFile file_locked(Entry& entry);
  void touch_locked(Entry& entry);
  void count_locked(Entry& entry, std::uint64_t bytes);
  void evict_locked();
  void erase_locked(std::map<StripeName, Entry>::iterator at);
  void bound_descriptors_locked();

  const std::filesystem::path staging_;
  const std::filesystem::path cache_;
  const std::uint64_t cache_bytes_;
  Found found_;

  std::mutex sync_mutex_;     // before mutex_: held while the staging directory is synced
  mutable std::mutex mutex_;  // guards what follows
  std::map<StripeName, Entry> cached_;
  std::list<StripeName> by_use_;  // least recently used first
  std::set<std::pair<core::Deadline, StripeName>> by_deadline_;
  std::list<StripeName> open_files_;  // cached ones with a descriptor, oldest first
  std::uint64_t counted_ = 0;
  bool staging_changed_ = true;  // a name there is not synced yet
};

}  // namespace ephfs::fs
