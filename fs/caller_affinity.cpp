// SPDX-License-Identifier: Apache-2.0
#include "fs/caller_affinity.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "core/files.hpp"
#include "core/idle_policy.hpp"

namespace ephfs::fs {
namespace {

thread_local CallerAffinity* of_this_thread = nullptr;

/// Of a thread, by its number: the field "processor" of proc_pid_stat(5).
std::optional<unsigned> processor_of(pid_t thread) {
  const auto file = core::open_file("/proc/" + std::to_string(thread) + "/stat", O_RDONLY);
  if (!file) return std::nullopt;
  std::array<char, 1024> room{};
  const ssize_t got = ::read(file->get(), room.data(), room.size());
  if (got <= 0) return std::nullopt;
  std::string_view text(room.data(), static_cast<std::size_t>(got));
  // The name, in brackets, may have spaces and brackets; the state after it is the third field.
  const auto name_end = text.rfind(") ");
  if (name_end == std::string_view::npos) return std::nullopt;
  text.remove_prefix(name_end + 2);
  for (int field = 3; field < 39; ++field) {
    const auto space = text.find(' ');
    if (space == std::string_view::npos) return std::nullopt;
    text.remove_prefix(space + 1);
  }
  unsigned processor = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), processor).ec != std::errc{}) return std::nullopt;
  return processor;
}

}  // namespace

SchedulerSeat::SchedulerSeat(int requests) : requests_(requests), thread_(::gettid()) {
  static const bool may_leave = core::may_leave_idle();
  is_possible_ = may_leave && ::sched_getscheduler(0) == SCHED_OTHER &&
                 ::sched_getaffinity(0, sizeof allowed_, &allowed_) == 0 && CPU_COUNT(&allowed_) > 1;
}

bool SchedulerSeat::has_request() {
  pollfd one{requests_, POLLIN, 0};
  return ::poll(&one, 1, 0) != 0;
}

Seat::Joined SchedulerSeat::join(pid_t caller) {
  if (!is_possible_) return Joined::impossible;
  const auto processor = processor_of(caller);
  if (!processor || *processor >= CPU_SETSIZE || !CPU_ISSET(*processor, &allowed_)) return Joined::impossible;
  if (joined_ == processor) return Joined::was_there;
  cpu_set_t one{};
  CPU_SET(*processor, &one);
  if (::sched_setaffinity(0, sizeof one, &one) != 0) return Joined::impossible;
  joined_ = processor;
  if (core::set_idle(true)) return Joined::moved;
  part();
  return Joined::impossible;
}

void SchedulerSeat::part() {
  core::set_idle(false, thread_);
  (void)::sched_setaffinity(thread_, sizeof allowed_, &allowed_);
  joined_.reset();
}

CallerAffinity::CallerAffinity(Seat& seat) : seat_(seat) {
  of_this_thread = this;
}

CallerAffinity::~CallerAffinity() {
  part();
  of_this_thread = nullptr;
}

void part_from_caller() {
  if (of_this_thread != nullptr) of_this_thread->part();
}

void CallerAffinity::await() {
  if (respite_ > 0) return;
  if (!seat_.has_request()) had_to_wait_ = true;
}

void CallerAffinity::took(pid_t caller, bool is_short, Clock::time_point now) {
  const auto away = now - std::exchange(last_, now);
  if (caller == 0 && is_short) return;
  if (caller != caller_ || !is_short) {
    part();
    caller_ = caller;
    respite_ = 0;
    had_to_wait_ = false;
    begin_window();
    return;
  }
  if (respite_ > 0) {
    --respite_;
    return;
  }
  ++asked_;
  const bool had_to_wait = std::exchange(had_to_wait_, false);
  waits_in_row_ = had_to_wait ? waits_in_row_ + 1 : 0;
  if (had_to_wait) ++waits_;
  if (!has_joined_ || away <= kAwayMax) {
    consider();
  } else if (had_to_wait) {
    waits_in_row_ = look_after_;
    consider();
  } else {
    give_up();
  }
}

void CallerAffinity::consider() {
  if (has_joined_ && waits_in_row_ >= look_after_ && follows_ < kFollowsMax) join();
  if (asked_ < kWindow) return;
  const bool mostly_waited = waits_ * 2 >= asked_;
  if (has_joined_ && mostly_waited && follows_ == kFollowsMax) {
    give_up();
  } else if (!has_joined_ && mostly_waited) {
    join();
  }
  begin_window();
}

void CallerAffinity::join() {
  waits_in_row_ = 0;
  std::unique_lock lock(mutex_);
  switch (seat_.join(caller_)) {
    case Seat::Joined::moved:
      if (has_joined_.exchange(true)) ++follows_;
      look_after_ = kLookAfter;
      break;
    case Seat::Joined::was_there:
      look_after_ = std::min(2 * look_after_, kLookAfterMost);
      break;
    case Seat::Joined::impossible:
      lock.unlock();
      give_up();
  }
}

void CallerAffinity::give_up() {
  part();
  respite_ = kRespite;
  begin_window();
}

void CallerAffinity::part() {
  if (!has_joined_) return;
  const std::lock_guard lock(mutex_);
  if (has_joined_.exchange(false)) seat_.part();
}

void CallerAffinity::begin_window() {
  asked_ = waits_ = follows_ = 0;
}

}  // namespace ephfs::fs
