// SPDX-License-Identifier: Apache-2.0
// Work that nobody waits for runs on processors that nobody else wants.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>

#include "core/files.hpp"

namespace ephfs::core {

/// Of the thread that makes it and uses it, until that thread's end: idle priority (SCHED_IDLE, sched(7)), so that
/// whoever wakes up runs at once and is not kept waiting by it. On a machine whose processors are all busy such a
/// thread hardly runs, and what it holds is held as long; so one that had to wait takes its turn like others for a
/// while. Where a thread may not come back from idle priority (RLIMIT_NICE), or the kernel does not say how long it
/// waited, it stays as it was.
class BackgroundPriority {
 public:
  struct Limits {
    std::chrono::nanoseconds wait_max;  // as long as it may wait for a processor in one piece of work,
    int turns;                          // and for how many more it then takes its turn
  };
  /// Of small pieces, some of which are due.
  static constexpr Limits kPunctual{std::chrono::milliseconds(20), 1024};

  /// Makes itself idle. `statistics` is for tests: proc_pid_schedstat(5) of this thread.
  explicit BackgroundPriority(Limits limits = kPunctual,
                              const std::filesystem::path& statistics = "/proc/thread-self/schedstat");
  BackgroundPriority(const BackgroundPriority&) = delete;
  BackgroundPriority& operator=(const BackgroundPriority&) = delete;

  /// After each piece of work.
  void look();

 private:
  /// Nanoseconds that this thread was ready to run and did not.
  [[nodiscard]] std::optional<std::int64_t> waited_ns() const;

  const Limits limits_;
  FileDescriptor statistics_;
  std::int64_t waited_ns_ = 0;
  int turns_ = 0;  // before it is idle again
  bool is_idle_ = false;
};

}  // namespace ephfs::core
