// SPDX-License-Identifier: Apache-2.0
// Tells at once when somebody sets the wall clock, or the machine resumes: timerfd_create(2), TFD_TIMER_CANCEL_ON_SET.
#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "core/files.hpp"
#include "core/result.hpp"

namespace ephfs::core {

class ClockAlarm {
 public:
  /// Calls `on_set` on a thread of its own, each time, until destroyed. io when the kernel gives no timer.
  [[nodiscard]] static Result<std::unique_ptr<ClockAlarm>> start(std::function<void()> on_set);
  ~ClockAlarm();
  ClockAlarm(const ClockAlarm&) = delete;
  ClockAlarm& operator=(const ClockAlarm&) = delete;

 private:
  ClockAlarm(FileDescriptor timer, FileDescriptor end, std::function<void()> on_set);
  void run();
  void arm() const;

  const FileDescriptor timer_;
  const FileDescriptor end_;  // an eventfd, readable once the thread is to end
  const std::function<void()> on_set_;
  std::thread thread_;
};

}  // namespace ephfs::core
