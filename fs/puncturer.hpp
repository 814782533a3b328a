// SPDX-License-Identifier: Apache-2.0
// Destroys epoch keys when their minutes end, by confirmed time: what the reaper has removed from the catalog
// can then not be opened with anything that is left on this machine, nor with its passphrase.
#pragma once

#include <atomic>

#include "core/async.hpp"
#include "fs/engine_state.hpp"
#include "fs/wake.hpp"

namespace ephfs::fs {

class Puncturer {
 public:
  explicit Puncturer(EngineState& state) : state_(state) {}

  void start();
  [[nodiscard]] awaitable<void> stop();
  /// The time was set or confirmed. Any thread.
  void look_again() { wake_.notify(); }

 private:
  awaitable<void> run();
  /// Destroys what is due; when to look again.
  [[nodiscard]] core::Boottime puncture();

  EngineState& state_;
  Wake wake_;
  core::TaskGroup tasks_;
  std::atomic<bool> stopping_{false};
  bool failed_ = false;  // the last time; the task's own
};

}  // namespace ephfs::fs
