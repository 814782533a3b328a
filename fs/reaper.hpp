// SPDX-License-Identifier: Apache-2.0
// Destroys what died, at its deadline: a task that sleeps until the catalog's next deadline. Until it comes
// round, the checks in every operation have already refused what is dead; the reaper makes it true on disk.
#pragma once

#include <atomic>

#include "core/async.hpp"
#include "fs/engine_state.hpp"
#include "fs/wake.hpp"

namespace ephfs::fs {

class Reaper {
 public:
  explicit Reaper(EngineState& state) : state_(state) {}

  void start();
  [[nodiscard]] awaitable<void> stop();
  /// Something has this deadline now. Any thread, any lock held.
  void notify(Deadline deadline);
  /// The clock was set, or is confirmed. Any thread.
  void look_again();

 private:
  awaitable<void> run();
  /// Reaps all that is due, a batch at a time; when to look again.
  [[nodiscard]] core::Boottime reap_due();

  EngineState& state_;
  Wake wake_;
  core::TaskGroup tasks_;
  std::atomic<bool> stopping_{false};
  static constexpr std::int64_t kLooksSoon = std::numeric_limits<std::int64_t>::min();
  std::atomic<std::int64_t> planned_{kLooksSoon};  // the deadline slept for, raw
};

}  // namespace ephfs::fs
