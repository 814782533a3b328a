// SPDX-License-Identifier: Apache-2.0
// Has the catalog overwrite what it dropped: soon after a wrapped key was dropped or replaced, once for all
// that were dropped meanwhile, and never for more than a small part of the time.
#pragma once

#include <atomic>

#include "core/async.hpp"
#include "fs/engine_state.hpp"
#include "fs/wake.hpp"

namespace ephfs::fs {

class Scrubber {
 public:
  /// How long what was dropped waits for company.
  static constexpr Milliseconds kDelay{2000};

  explicit Scrubber(EngineState& state) : state_(state) {}

  void start();
  [[nodiscard]] awaitable<void> stop();
  /// A wrapped key was dropped or replaced, in a commit that has returned. Any thread, any lock held.
  void notify();

 private:
  awaitable<void> run();
  /// The pause that the time it took asks for, before the next one.
  [[nodiscard]] core::Nanoseconds scrub();

  EngineState& state_;
  Wake wake_;
  core::TaskGroup tasks_;
  std::atomic<bool> wanted_{false};
  std::atomic<bool> stopping_{false};
  bool failed_ = false;  // the last time; the task's own
};

}  // namespace ephfs::fs
