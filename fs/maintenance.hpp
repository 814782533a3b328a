// SPDX-License-Identifier: Apache-2.0
// What keeps a volume's files in good order behind its users: dirty data is flushed by age; extents move to
// stripes that die when their file does, after its deadline changed; mostly dead stripes are emptied, so that
// their room comes back. Nothing here wakes while there is nothing to do, and nothing is lost when any of it
// fails: it is tried again later.
#pragma once

#include <map>
#include <set>
#include <stop_token>

#include "fs/engine_state.hpp"
#include "fs/wake.hpp"

namespace ephfs::fs {

class Relocation;

class Maintenance {
 public:
  explicit Maintenance(EngineState& state) : state_(state) {}

  void start();
  /// Ends the tasks, soon: what they wait for is cancelled.
  [[nodiscard]] awaitable<void> stop();

  // From any thread, with locks held or not.
  /// The list of what is dirty is no longer empty; it is to be flushed at `due`.
  void something_is_dirty(core::Boottime due) { flusher_.notify_by(due); }
  /// The file's extents move, when their stripes die at another time than the file does now.
  void deadline_changed(const std::shared_ptr<Inode>& inode);
  /// Something was deleted or overwritten: look for mostly dead stripes, some time later.
  void compact_soon();

 private:
  /// Things whose turn failed, by when they get the next.
  struct Retry {
    core::Boottime due;
    unsigned failures = 0;
  };

  awaitable<void> run_flusher();
  [[nodiscard]] bool nothing_is_dirty() const;
  awaitable<void> flush_due(core::Boottime now);
  void postpone_flush(Inode& inode, const core::Failure& failure);

  awaitable<void> run_restager();
  [[nodiscard]] std::vector<InodeNumber> take_restages();
  [[nodiscard]] std::optional<core::Boottime> next_restage();
  void note_restage(InodeNumber number, const Result<>& outcome);
  awaitable<Result<>> restage(InodeNumber number, Relocation* relocation);
  awaitable<Result<>> restage_stripe(std::shared_ptr<Inode> inode, StripeNumber stripe, Relocation* relocation);

  awaitable<void> run_compactor();
  awaitable<Result<>> compact_sparse(std::set<StripeNumber>* looked_at);
  awaitable<Result<>> compact(StripeNumber stripe);

  EngineState& state_;
  core::TaskGroup tasks_;
  std::stop_source stop_;
  Wake flusher_, restager_, compactor_;
  std::atomic<bool> wants_compaction_{false};
  std::map<InodeNumber, unsigned> unflushed_;  // failures in a row; the flusher's own

  std::mutex mutex_;  // guards what follows
  std::map<InodeNumber, Retry> to_restage_;
};

}  // namespace ephfs::fs
