// SPDX-License-Identifier: Apache-2.0
// The writing half of the journaled catalog: the journal, the overlays of what is in it and not below, and
// the thread that gives them to the catalog below. Thread-safe. One mutex guards all, shared by readers. It is held
// alone for moments only: not while a commit is checked and appended, nor while the catalog below commits a batch or
// syncs. Private to meta/.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <thread>

#include "meta/catalog_layers.hpp"
#include "meta/journal_file.hpp"
#include "meta/kept_files.hpp"

namespace ephfs::meta {

class CatalogJournal {
 public:
  CatalogJournal(Catalog& below, JournalFile file)
      : below_(below), file_(std::move(file)), kept_(file_.path().parent_path() / "staging") {}
  /// Gives everything to the catalog below, where that is possible; what is not stays in the journal.
  ~CatalogJournal();
  CatalogJournal(const CatalogJournal&) = delete;
  CatalogJournal& operator=(const CatalogJournal&) = delete;

  /// Gives what the journal held to the catalog below and begins. Once, before anything else.
  [[nodiscard]] Result<> start();

  /// Whether `staged` is in the journal.
  [[nodiscard]] Result<bool> commit(const Changes& changes, const std::vector<StagedBytes>& staged);
  [[nodiscard]] Result<> sync();
  /// Returns when the catalog below has everything that was committed before the call; or why it has not.
  [[nodiscard]] Result<> drain();
  /// As drain(), and nothing of it is in the journal any more.
  [[nodiscard]] Result<> scrub();

  /// Calls `read` with the layers as they are, nothing changing meanwhile.
  template <class Read>
  auto with_layers(Read read) {
    const std::shared_lock lock(mutex_);
    return read(layers());
  }
  [[nodiscard]] InodeNumber last_inode();
  [[nodiscard]] StripeNumber last_stripe();
  [[nodiscard]] bool has_dead_files();
  [[nodiscard]] bool has_placements();
  [[nodiscard]] bool has_removals();

 private:
  using Lock = std::unique_lock<std::shared_mutex>;
  using SteadyTime = std::chrono::steady_clock::time_point;
  class Pause;
  class Claim;

  [[nodiscard]] CatalogLayers layers() const;
  [[nodiscard]] Result<> replay();
  [[nodiscard]] core::Failure damaged(const std::string& how) const;
  [[nodiscard]] Result<> write_kept(const std::vector<StagedBytes>& staged);
  [[nodiscard]] Result<CatalogOverlay> append(std::uint64_t generation, std::uint64_t synced, core::ByteView payload,
                                              const Changes& changes);
  [[nodiscard]] Result<> commit_below(Lock& lock, const Changes& changes);
  [[nodiscard]] Result<> commit_numbered(const Changes& changes, std::uint64_t generation);
  [[nodiscard]] Result<> make_room(Lock& lock, std::uint64_t bytes, std::uint64_t bound);
  [[nodiscard]] Result<> drain(Lock& lock);
  [[nodiscard]] Result<> clear(Lock& lock);
  [[nodiscard]] bool is_drained() const { return active_.empty() && !frozen_; }
  [[nodiscard]] bool is_idle() const { return !paused_ && !appending_; }
  void demand(std::uint64_t generation);
  void apply_batch(Lock& lock);
  void run();

  Catalog& below_;
  std::shared_mutex mutex_;
  std::condition_variable_any wake_;     // of the thread
  std::condition_variable_any changed_;  // of everybody else
  JournalFile file_;
  KeptFiles kept_;                        // what the journal keeps bytes of; by whom the turn to append or to clear is
  CatalogOverlay active_;                 // generation_'s; whoever is appending adds to it
  std::optional<CatalogOverlay> frozen_;  // generation_ - 1, being given to the catalog below
  InodeNumber last_below_;                // no inode above it is below, or in frozen_
  std::uint64_t active_bytes_ = 0;
  SteadyTime due_;  // when the thread gives on what it has, however little that is
  std::uint64_t generation_ = 1;
  std::uint64_t applied_ = 0;
  std::uint64_t demanded_ = 0;   // the generation that somebody waits for
  std::uint64_t failures_ = 0;   // of the catalog below to take a batch
  core::Failure failure_;        // the last of them
  bool paused_ = false;          // commits wait
  bool appending_ = false;       // a commit is being checked and appended
  unsigned claims_ = 0;          // others than commits that wait for their turn, and go first
  bool below_unsynced_ = false;  // a commit went below beside the journal
  bool stopping_ = false;
  std::mutex sync_mutex_;  // before mutex_: who syncs does it for all that wait
  std::uint64_t clearings_ = 0;
  std::uint64_t appended_ = 0;    // where the journal's last record ends, since it was cleared
  std::uint64_t synced_end_ = 0;  // up to where it has been synced since then
  std::thread thread_;
};

}  // namespace ephfs::meta
