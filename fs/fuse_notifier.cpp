// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse_notifier.hpp"

#include <algorithm>
#include <array>

#include "fs/punctual.hpp"

namespace ephfs::fs {
namespace {

/// A nap's bound while files are watched. When the clock is set, clock_changed() ends it.
constexpr Milliseconds kNapMax{60'000};
/// When pages are dropped, before the deadline. Only the last is a promise.
constexpr std::array kDrops{kDropsBegin,      Milliseconds{500}, Milliseconds{250}, Milliseconds{120},
                            Milliseconds{60}, Milliseconds{30},  kLastMoment};
constexpr std::size_t kLastDrop = kDrops.size() - 1;
/// So many are dropped within the last moment without help.
constexpr std::size_t kFew = 64;

}  // namespace

FuseNotifier::FuseNotifier(fuse_session* session, const core::Clock& clock, FuseGuard& guard)
    : session_(session), clock_(clock), guard_(guard), ledger_(guard.ledger()) {}

FuseNotifier::~FuseNotifier() {
  stop();
}

void FuseNotifier::start() {
  for (core::Instant& wakes_at : wakes_at_) threads_.emplace_back([this, &wakes_at] { run_deadlines(wakes_at); });
  threads_.emplace_back([this] { run_notices(); });
}

void FuseNotifier::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  deadlines_changed_.notify_all();
  notices_changed_.notify_all();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

void FuseNotifier::watch(InodeNumber number, Deadline deadline, bool is_written) {
  {
    const std::lock_guard lock(mutex_);
    const auto known = watched_.find(number);
    if (known != watched_.end() && known->second.deadline == deadline) {
      known->second.is_written = known->second.is_written || is_written;
      known->second.has_pages = true;
      return;
    }
    if (deadline.is_never()) return forget_watched(number);
    // Its new place before the old one is free: in between this process may be killed.
    const PageLedger::Place place = ledger_.add(number);
    forget_watched(number);
    auto& watched = watched_[number];
    watched.place = place;
    watched.deadline = deadline;
    watched.is_written = is_written;
    const core::Instant now = clock_.now();
    while (watched.step < kLastDrop && deadline.passed(now + kDrops[watched.step])) ++watched.step;
    schedule(number, watched);
    if (is_awaited(watched.due)) return;  // nearly always
  }
  deadlines_changed_.notify_one();
}

void FuseNotifier::unwatch(InodeNumber number) {
  const std::lock_guard lock(mutex_);
  forget_watched(number);
}

void FuseNotifier::pages_read(InodeNumber number) {
  const std::lock_guard lock(mutex_);
  const auto known = watched_.find(number);
  if (known != watched_.end()) known->second.has_pages = true;
}

void FuseNotifier::forget_watched(InodeNumber number) {
  const auto known = watched_.find(number);
  if (known == watched_.end()) return;
  ledger_.remove(known->second.place);
  by_due_.erase({known->second.due, number});
  watched_.erase(known);
}

bool FuseNotifier::is_awaited(core::Instant due) const {
  return std::ranges::any_of(wakes_at_, [due](core::Instant at) { return at <= due; });
}

void FuseNotifier::schedule(InodeNumber number, Watched& watched) {
  watched.due = watched.deadline.instant() - kDrops[watched.step];
  by_due_.emplace(watched.due, number);
}

void FuseNotifier::forget_entry(InodeNumber parent, std::string name) {
  {
    const std::lock_guard lock(mutex_);
    notices_.push_back({parent, std::move(name)});
  }
  notices_changed_.notify_one();
}

void FuseNotifier::forget_pages(InodeNumber number) {
  {
    const std::lock_guard lock(mutex_);
    notices_.push_back({number, {}});
  }
  notices_changed_.notify_one();
}

void FuseNotifier::clock_changed() {
  // With the lock no thread is between working out its nap and taking it.
  { const std::lock_guard lock(mutex_); }
  deadlines_changed_.notify_all();
}

std::optional<FuseNotifier::Due> FuseNotifier::take_due(core::Instant now) {
  while (!by_due_.empty() && by_due_.begin()->first <= now) {
    const InodeNumber number = by_due_.begin()->second;
    auto& watched = watched_.at(number);
    if (watched.step == kLastDrop) {
      if (!watched.has_pages) {
        forget_watched(number);
        continue;
      }
      const Due last{number, watched.place};
      by_due_.erase(by_due_.begin());
      watched_.erase(number);
      return last;
    }
    by_due_.erase(by_due_.begin());
    ++watched.step;
    schedule(number, watched);
    if (watched_.size() <= kFew || watched.is_written || !watched.has_pages) continue;
    // What is read from now on is noted again, also while its pages are being dropped.
    watched.has_pages = false;
    return Due{number, std::nullopt};
  }
  return std::nullopt;
}

void FuseNotifier::run_deadlines(core::Instant& wakes_at) {
  ask_for_punctuality();
  // Between short-lived descriptors nothing is watched for moments. A thread stays half asleep for one nap
  // after the last, so that it need not be woken by each.
  bool was_watching = false;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const core::Instant now = clock_.now();
    if (const auto due = take_due(now)) {
      // There may be more than one thread can do, and this one may be held up now.
      if (!by_due_.empty() && !is_awaited(by_due_.begin()->first)) deadlines_changed_.notify_one();
      lock.unlock();
      send_drop(due->number);
      lock.lock();
      if (due->place) ledger_.remove(*due->place);
      continue;
    }
    const bool is_watching = !by_due_.empty();
    if (is_watching || was_watching) {
      const Milliseconds left = is_watching ? by_due_.begin()->first - now : kNapMax;
      const Milliseconds nap = std::clamp(left, Milliseconds{0}, kNapMax);
      wakes_at = now + nap;
      deadlines_changed_.wait_for(lock, nap);
    } else {
      deadlines_changed_.wait(lock);
    }
    wakes_at = kNotAsleep;
    was_watching = is_watching;
  }
}

void FuseNotifier::run_notices() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (notices_.empty()) {
      notices_changed_.wait(lock);
      continue;
    }
    const Notice notice = std::move(notices_.front());
    notices_.pop_front();
    lock.unlock();
    send_notice(notice);
    lock.lock();
  }
}

void FuseNotifier::send_drop(InodeNumber number) const {
  if (guard_.drop_pages(number)) return;
  // Without a guard. A failure means that the kernel remembers nothing of it, or that the mount is going away: both
  // are what is wanted.
  (void)fuse_lowlevel_notify_inval_inode(session_, number.value, 0, 0);
}

void FuseNotifier::send_notice(const Notice& notice) const {
  if (guard_.forget(notice.number, notice.name)) return;
  if (notice.name.empty()) {
    (void)fuse_lowlevel_notify_inval_inode(session_, notice.number.value, 0, 0);
  } else {
    (void)fuse_lowlevel_notify_inval_entry(session_, notice.number.value, notice.name.data(), notice.name.size());
  }
}

}  // namespace ephfs::fs
