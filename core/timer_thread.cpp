// SPDX-License-Identifier: Apache-2.0
#include "core/timer_thread.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>

#include "core/check.hpp"
#include "core/kernel_time.hpp"

namespace ephfs::core {
namespace {

/// The longest sleep: what the thread sleeps by does not go on while the machine is suspended.
constexpr Nanoseconds kSleepMax = std::chrono::hours(1);

}  // namespace

/// One timer: in the list until it is due or cancelled. Whichever comes first has the handler.
struct TimerThread::Entry {
  Place place;
  boost::asio::any_io_executor executor;  // counts as work of its context while the timer is in the list
  std::function<void()> handler;
  std::atomic<bool> over{false};
};

class TimerThread::SetTimer final : public Timer {
 public:
  SetTimer(std::shared_ptr<TimerThread> timers, std::shared_ptr<Entry> entry)
      : timers_(std::move(timers)), entry_(std::move(entry)) {}
  ~SetTimer() override { SetTimer::cancel(); }
  SetTimer(const SetTimer&) = delete;
  SetTimer& operator=(const SetTimer&) = delete;

  void cancel() override {
    if (entry_->over.exchange(true)) return;
    timers_->remove(entry_->place);
    entry_->handler = nullptr;
    entry_->executor = nullptr;
  }

 private:
  const std::shared_ptr<TimerThread> timers_;
  const std::shared_ptr<Entry> entry_;
};

std::unique_ptr<Timer> TimerThread::set(const std::shared_ptr<TimerThread>& timers,
                                        boost::asio::any_io_executor executor, Boottime when,
                                        std::function<void()> handler) {
  const auto entry = std::make_shared<Entry>();
  entry->executor = boost::asio::prefer(executor, boost::asio::execution::outstanding_work.tracked);
  entry->handler = std::move(handler);
  {
    const std::lock_guard lock(timers->mutex_);
    EPHFS_CHECK(!timers->stopping_, "a clock outlives its use");
    entry->place = {when, timers->next_number_++};
    timers->entries_.emplace(entry->place, entry);
    if (!timers->thread_.joinable()) {
      timers->thread_ = std::thread([raw = timers.get()] { raw->run(); });
    } else if (when < timers->sleeps_until_) {
      timers->changed_.notify_one();
    }
  }
  return std::make_unique<SetTimer>(timers, entry);
}

void TimerThread::remove(const Place& place) {
  std::shared_ptr<Entry> removed;  // destroyed without the lock
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(place);
  if (found == entries_.end()) return;
  removed = std::move(found->second);
  entries_.erase(found);
}

void TimerThread::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const Boottime now{read_kernel_clock_ns(CLOCK_BOOTTIME)};
    while (!entries_.empty() && entries_.begin()->first.when <= now) {
      const auto due = entries_.extract(entries_.begin()).mapped();
      // Under the lock: once a timer is cancelled, its executor may go away.
      boost::asio::post(std::exchange(due->executor, nullptr), [due] {
        if (!due->over.exchange(true)) std::exchange(due->handler, nullptr)();
      });
    }
    // A timer that is cancelled leaves the thread's sleep as it is.
    sleeps_until_ = now + kSleepMax;
    if (!entries_.empty()) sleeps_until_ = std::min(sleeps_until_, entries_.begin()->first.when);
    changed_.wait_for(lock, sleeps_until_ - now);
  }
}

void TimerThread::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

TimerThread::~TimerThread() {
  EPHFS_CHECK(!thread_.joinable(), "a clock stops its timers");
}

}  // namespace ephfs::core
