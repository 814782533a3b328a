// SPDX-License-Identifier: Apache-2.0
// Tells of files that will die soon: once for each file and deadline, options.warn before it. It walks the catalog's
// list by deadline as time goes on, so it costs by what comes near its death, not by what is stored.
//
// Invariants. Everything in the catalog that died or dies by `horizon_` has been told of, or is in the queue. The
// horizon is committed before anybody hears what it took in: after a crash nothing is told twice. A deadline that is
// moved behind the horizon is met there again; one that is moved, or made, before it comes through notify().
#pragma once

#include <atomic>
#include <deque>
#include <mutex>

#include "core/async.hpp"
#include "fs/engine_state.hpp"
#include "fs/wake.hpp"

namespace ephfs::fs {

class Warner {
 public:
  explicit Warner(EngineState& state) : state_(state) {}

  /// Goes on where the volume's last run stopped; with another span, or for the first time, from now on. Once, before
  /// start().
  [[nodiscard]] Result<> resume();
  void start();
  [[nodiscard]] awaitable<void> stop();
  /// The inode has its deadline from now on, or its record has been committed. Any thread; no lock of the inode needed.
  void notify(const std::shared_ptr<Inode>& inode);
  /// The time has changed. Any thread.
  void look_again() { wake_.notify(); }

 private:
  using Warnings = std::vector<DyingFile>;

  [[nodiscard]] bool is_on() const { return state_.options.warn.count() > 0 && state_.on_warning != nullptr; }
  awaitable<void> run();
  /// Tells of a batch of what is due; when to look again.
  [[nodiscard]] core::Boottime warn_due();
  [[nodiscard]] Result<bool> collect_listed(core::Instant horizon, Warnings& warnings);
  void collect_queued(core::Instant horizon, Warnings& warnings);
  [[nodiscard]] Result<core::Boottime> plan_nap();
  [[nodiscard]] Result<> commit_horizon();

  EngineState& state_;
  Wake wake_;
  core::TaskGroup tasks_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::int64_t> horizon_{0};                                         // ms: told of up to here, inclusive
  std::atomic<std::int64_t> planned_{std::numeric_limits<std::int64_t>::min()};  // the deadline slept for, raw
  meta::ExpiringRecord cursor_;                                                  // of the one task
  std::mutex mutex_;                                                             // guards what follows
  std::deque<std::shared_ptr<Inode>> queue_;
  bool overflowed_ = false;
};

}  // namespace ephfs::fs
