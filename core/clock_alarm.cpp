// SPDX-License-Identifier: Apache-2.0
#include "core/clock_alarm.hpp"

#include <array>
#include <cerrno>
#include <ctime>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

namespace ephfs::core {
namespace {

constexpr std::time_t kFar = std::time_t{10} * 365 * 24 * 3600;  // seconds: the timer's own end is of no interest

}  // namespace

Result<std::unique_ptr<ClockAlarm>> ClockAlarm::start(std::function<void()> on_set) {
  FileDescriptor timer(::timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK));
  if (timer.get() < 0) return fail_errno("a timer of the wall clock");
  FileDescriptor end(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (end.get() < 0) return fail_errno("an event for the wall clock's thread");
  return std::unique_ptr<ClockAlarm>(new ClockAlarm(std::move(timer), std::move(end), std::move(on_set)));
}

ClockAlarm::ClockAlarm(FileDescriptor timer, FileDescriptor end, std::function<void()> on_set)
    : timer_(std::move(timer)), end_(std::move(end)), on_set_(std::move(on_set)) {
  arm();
  thread_ = std::thread([this] { run(); });
}

ClockAlarm::~ClockAlarm() {
  const std::uint64_t one = 1;
  EPHFS_CHECK(::write(end_.get(), &one, sizeof one) == sizeof one, "an eventfd takes its first event");
  thread_.join();
}

void ClockAlarm::arm() const {
  itimerspec when{};
  when.it_value.tv_sec = std::time(nullptr) + kFar;
  EPHFS_CHECK(::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &when, nullptr) == 0,
              "the wall clock's timer can be set");
}

void ClockAlarm::run() {
  for (;;) {
    std::array<pollfd, 2> watched{{{timer_.get(), POLLIN, 0}, {end_.get(), POLLIN, 0}}};
    if (::poll(watched.data(), watched.size(), -1) < 0 && errno == EINTR) continue;
    if (watched[1].revents != 0) return;
    std::uint64_t expirations = 0;
    const bool was_set = ::read(timer_.get(), &expirations, sizeof expirations) < 0 && errno == ECANCELED;
    // Armed first: what is set from here on is told again.
    arm();
    if (was_set) on_set_();
  }
}

}  // namespace ephfs::core
