// SPDX-License-Identifier: Apache-2.0
// The timers of the machine's clock: a list in order of time, and a thread that sleeps until the first of them. Most
// timers are limits that are never reached. Setting one that is not the first, and cancelling any, wakes nobody.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "core/clock.hpp"

namespace ephfs::core {

class TimerThread {
 public:
  TimerThread() = default;
  ~TimerThread();
  TimerThread(const TimerThread&) = delete;
  TimerThread& operator=(const TimerThread&) = delete;

  /// As Clock::call_at. Thread-safe; the first starts the thread. The timer may outlive the clock.
  [[nodiscard]] static std::unique_ptr<Timer> set(const std::shared_ptr<TimerThread>& timers,
                                                  boost::asio::any_io_executor executor, Boottime when,
                                                  std::function<void()> handler);
  /// No timer runs from now on. Ends the thread.
  void stop();

 private:
  struct Entry;
  class SetTimer;
  struct Place {
    Boottime when;
    std::uint64_t number;  // the order of setting
    friend auto operator<=>(const Place&, const Place&) = default;
  };

  void run();
  void remove(const Place& place);

  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::map<Place, std::shared_ptr<Entry>> entries_;
  std::uint64_t next_number_ = 0;
  Boottime sleeps_until_;  // the thread
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace ephfs::core
