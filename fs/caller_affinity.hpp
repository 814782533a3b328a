// SPDX-License-Identifier: Apache-2.0
// On whose processor a thread serves.
//
// A program that asks one thing after another, and waits for each answer, gains nothing from a second processor: while
// one of the two works the other waits. Yet the kernel wakes each of them on a processor that is free, so that with
// every request and every answer a processor has to be woken, which takes longer than most requests
// (docs/performance.md). On the program's own processor the two only take turns.
//
// So a thread that finds itself waiting for the same caller again and again joins it: it moves to the caller's
// processor and takes idle priority (SCHED_IDLE). To the kernel a processor on which only idle threads run is a free
// one, and so the caller stays there when it is answered; it runs at once, and the thread goes on, without having
// slept, when the caller has asked for the next thing. The thread parts from its caller, and is as before, when anybody
// else asks, when much is asked for, and for a while when it was kept from running or gained nothing. When nothing is
// asked, another thread has to part it (FuseLoop's lookout): a timer for each wait would cost more than the wait.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>

#include <sched.h>
#include <sys/types.h>

namespace ephfs::fs {

/// What the calling thread waits for and where it runs; a seam for tests.
class Seat {
 public:
  virtual ~Seat() = default;
  /// Whether a request is there. A failure counts as one: reading it will fail, too.
  [[nodiscard]] virtual bool has_request() = 0;
  enum class Joined : std::uint8_t {
    moved,
    was_there,
    impossible,  // and nothing has changed
  };
  /// Moves to the processor on which this thread of another program ran last, unless it has joined there already, and
  /// takes idle priority.
  [[nodiscard]] virtual Joined join(pid_t caller) = 0;
  /// Any processor and the ordinary priority again. By any thread.
  virtual void part() = 0;
};

/// The kernel's scheduler, and a descriptor from which requests are read. Of the thread that makes it; calls of join()
/// and part() exclude each other.
class SchedulerSeat final : public Seat {
 public:
  explicit SchedulerSeat(int requests);
  bool has_request() override;
  Joined join(pid_t caller) override;
  void part() override;

 private:
  const int requests_;
  const pid_t thread_;
  cpu_set_t allowed_{};
  bool is_possible_ = false;
  std::optional<unsigned> joined_;  // the processor
};

/// Of one thread that serves.
class CallerAffinity {
 public:
  using Clock = std::chrono::steady_clock;
  /// Requests after which it is looked whether to join, or whether that was of use.
  static constexpr int kWindow = 16;
  /// Two requests further apart than this: something else had the processor.
  static constexpr std::chrono::milliseconds kAwayMax{1};
  /// Requests of the same caller before one that was of no use is tried again.
  static constexpr int kRespite = 256;
  /// It looks for a caller who has not asked at once so many times in a row: he may have gone to another processor.
  /// Twice as many when he is found where he was, up to the second: who shares a processor need not be run at once when
  /// he is answered, either.
  static constexpr int kLookAfter = 2, kLookAfterMost = 16;
  static constexpr int kFollowsMax = 4;  // in a window

  explicit CallerAffinity(Seat& seat);
  CallerAffinity(const CallerAffinity&) = delete;
  CallerAffinity& operator=(const CallerAffinity&) = delete;
  ~CallerAffinity();

  /// Before the thread waits for a request: looks whether one is there.
  void await();
  /// When it has read one. `caller` is 0 when nobody waits for the answer.
  void took(pid_t caller, bool is_short, Clock::time_point now);
  /// Before the thread does anything else than serving; or by another thread, when this one waits in vain or is stuck.
  void part();

 private:
  void begin_window();
  void join();
  void consider();
  void give_up();

  Seat& seat_;
  std::mutex mutex_;  // held to join and to part
  std::atomic<bool> has_joined_{false};
  // The rest is the thread's own.
  pid_t caller_ = 0;
  bool had_to_wait_ = false;  // since the caller's last request; what nobody waits for may have come between
  Clock::time_point last_{};
  int respite_ = 0;
  int asked_ = 0, waits_ = 0, follows_ = 0;  // in this window
  int waits_in_row_ = 0, look_after_ = kLookAfter;
};

/// By a thread that serves, with a request in hand that must not be kept waiting, whoever else wants the processor.
void part_from_caller();

}  // namespace ephfs::fs
