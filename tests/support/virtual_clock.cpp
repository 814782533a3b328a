// SPDX-License-Identifier: Apache-2.0
#include "tests/support/virtual_clock.hpp"

#include <atomic>
#include <map>
#include <mutex>

#include <boost/asio/post.hpp>

namespace ephfs::testing {
namespace {

// No test takes so many steps at one moment: who gets here is called again and again without time going on.
constexpr std::size_t kStepsAtOneMomentMax = 10'000'000;

}  // namespace

// The timers and the time; shared with the timers, which may outlive the clock.
struct VirtualClock::Queue {
  struct Entry {
    boost::asio::any_io_executor executor;
    std::function<void()> handler;
    std::shared_ptr<std::atomic<bool>> over;  // fired or cancelled
  };
  using Key = std::pair<core::Boottime, std::uint64_t>;

  mutable std::mutex mutex;
  core::Boottime boot;
  core::Instant wall;  // at `wall_boot`
  core::Boottime wall_boot;
  std::uint64_t next_number = 0;
  std::map<Key, Entry> timers;
  std::size_t fired_at_this_moment = 0;
};

class VirtualClock::QueuedTimer final : public core::Timer {
 public:
  QueuedTimer(std::weak_ptr<Queue> queue, Queue::Key key, std::shared_ptr<std::atomic<bool>> over)
      : queue_(std::move(queue)), key_(key), over_(std::move(over)) {}
  ~QueuedTimer() override { cancel(); }
  QueuedTimer(const QueuedTimer&) = delete;
  QueuedTimer& operator=(const QueuedTimer&) = delete;

  void cancel() override {
    if (over_->exchange(true)) return;
    if (const auto queue = queue_.lock()) {
      // Destroyed after the lock is released: a handler may own other timers.
      std::map<Queue::Key, Queue::Entry>::node_type dropped;
      const std::lock_guard lock(queue->mutex);
      dropped = queue->timers.extract(key_);
    }
  }

 private:
  std::weak_ptr<Queue> queue_;
  Queue::Key key_;
  std::shared_ptr<std::atomic<bool>> over_;
};

VirtualClock::VirtualClock(boost::asio::io_context& context, core::Instant wall, core::Boottime boot)
    : context_(context), queue_(std::make_shared<Queue>()) {
  queue_->boot = queue_->wall_boot = boot;
  queue_->wall = wall;
}

VirtualClock::~VirtualClock() = default;

core::Instant VirtualClock::now() const {
  const std::lock_guard lock(queue_->mutex);
  return queue_->wall + std::chrono::floor<core::Milliseconds>(queue_->boot - queue_->wall_boot);
}

core::Boottime VirtualClock::boot_now() const {
  const std::lock_guard lock(queue_->mutex);
  return queue_->boot;
}

std::unique_ptr<core::Timer> VirtualClock::call_at(boost::asio::any_io_executor executor, core::Boottime when,
                                                   std::function<void()> handler) {
  auto over = std::make_shared<std::atomic<bool>>(false);
  const std::lock_guard lock(queue_->mutex);
  const Queue::Key key{when, queue_->next_number++};
  queue_->timers.emplace(key, Queue::Entry{std::move(executor), std::move(handler), over});
  return std::make_unique<QueuedTimer>(queue_, key, std::move(over));
}

void VirtualClock::set_wall(core::Instant wall) {
  const std::lock_guard lock(queue_->mutex);
  queue_->wall = wall;
  queue_->wall_boot = queue_->boot;
}

void VirtualClock::settle() {
  // A context that once ran out of work stays stopped until it is told otherwise.
  context_.restart();
  std::size_t steps = 0;
  while (context_.poll_one() > 0) {
    EPHFS_CHECK(++steps < kStepsAtOneMomentMax, "what runs at one moment of virtual time comes to an end");
  }
}

bool VirtualClock::fire_next(core::Boottime limit) {
  std::map<Queue::Key, Queue::Entry>::node_type timer;
  {
    const std::lock_guard lock(queue_->mutex);
    if (queue_->timers.empty()) return false;
    const core::Boottime when = queue_->timers.begin()->first.first;
    if (when > limit) return false;
    timer = queue_->timers.extract(queue_->timers.begin());
    if (when > queue_->boot) {
      queue_->boot = when;
      queue_->fired_at_this_moment = 0;
    }
    EPHFS_CHECK(++queue_->fired_at_this_moment < kStepsAtOneMomentMax, "timers let virtual time pass");
  }
  Queue::Entry& entry = timer.mapped();
  boost::asio::post(entry.executor, [over = std::move(entry.over), handler = std::move(entry.handler)] {
    if (!over->exchange(true)) handler();
  });
  return true;
}

void VirtualClock::run_until(core::Boottime until) {
  settle();
  while (fire_next(until)) settle();
  const std::lock_guard lock(queue_->mutex);
  if (queue_->boot < until) {
    queue_->boot = until;
    queue_->fired_at_this_moment = 0;
  }
}

bool VirtualClock::run_until_idle(core::Nanoseconds at_most) {
  const core::Boottime limit = boot_now() + at_most;
  settle();
  while (fire_next(limit)) settle();
  const std::lock_guard lock(queue_->mutex);
  return queue_->timers.empty();
}

bool VirtualClock::run_while_not(const std::function<bool()>& done, core::Nanoseconds at_most) {
  const core::Boottime limit = boot_now() + at_most;
  settle();
  while (!done()) {
    if (!fire_next(limit)) return false;
    settle();
  }
  return true;
}

}  // namespace ephfs::testing
