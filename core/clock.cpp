// SPDX-License-Identifier: Apache-2.0
#include "core/clock.hpp"

#include <ctime>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "core/check.hpp"

namespace ephfs::core {
namespace {

std::int64_t read_clock_ns(clockid_t id) {
  timespec at{};
  EPHFS_CHECK(clock_gettime(id, &at) == 0, "the kernel has this clock");
  return at.tv_sec * std::int64_t{1'000'000'000} + at.tv_nsec;
}

class SystemTimer final : public Timer {
 public:
  SystemTimer(boost::asio::any_io_executor executor, Nanoseconds wait, std::function<void()> handler)
      : state_(std::make_shared<State>(std::move(executor))) {
    state_->timer.expires_after(wait);
    state_->timer.async_wait([state = state_, run = std::move(handler)](boost::system::error_code error) {
      if (!error && !state->cancelled.exchange(true)) run();
    });
  }
  ~SystemTimer() override { cancel(); }
  SystemTimer(const SystemTimer&) = delete;
  SystemTimer& operator=(const SystemTimer&) = delete;

  void cancel() override {
    if (state_->cancelled.exchange(true)) return;
    // An Asio timer is not thread-safe; its executor's thread is where it may be touched.
    boost::asio::post(state_->timer.get_executor(), [state = state_] { state->timer.cancel(); });
  }

 private:
  struct State {
    explicit State(const boost::asio::any_io_executor& executor) : timer(executor) {}
    boost::asio::steady_timer timer;
    std::atomic<bool> cancelled{false};
  };
  std::shared_ptr<State> state_;
};

}  // namespace

Instant SystemClock::now() const {
  return {read_clock_ns(CLOCK_REALTIME) / 1'000'000};
}

std::int64_t SystemClock::file_time_ns() const {
  return read_clock_ns(CLOCK_REALTIME_COARSE);
}

Boottime SystemClock::boot_now() const {
  return {read_clock_ns(CLOCK_BOOTTIME)};
}

std::unique_ptr<Timer> SystemClock::call_at(boost::asio::any_io_executor executor, Boottime when,
                                            std::function<void()> handler) {
  const Nanoseconds wait = std::max(when - boot_now(), Nanoseconds{0});
  return std::make_unique<SystemTimer>(executor, wait, std::move(handler));
}

}  // namespace ephfs::core
