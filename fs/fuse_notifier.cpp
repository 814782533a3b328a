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
  for (Sleep& sleep : deadline_sleeps_) threads_.emplace_back([this, &sleep] { run_deadlines(sleep); });
  threads_.emplace_back([this] { run_rereads(); });
  threads_.emplace_back([this] { run_notices(); });
}

void FuseNotifier::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  deadlines_changed_.notify_all();
  rereads_changed_.notify_all();
  notices_changed_.notify_all();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

void FuseNotifier::watch(InodeNumber number, const PageWatch& watch) {
  bool tells_deadlines = false;
  bool tells_rereads = false;
  {
    const std::lock_guard lock(mutex_);
    tells_deadlines = watch_deadline(number, watch);
    rereads_.watch(number, watch.reread, watch.is_written, clock_.now());
    tells_rereads = !is_reread_awaited();
  }
  // Nearly never.
  if (tells_deadlines) deadlines_changed_.notify_one();
  if (tells_rereads) rereads_changed_.notify_one();
}

bool FuseNotifier::watch_deadline(InodeNumber number, const PageWatch& watch) {
  const auto known = watched_.find(number);
  if (known != watched_.end() && known->second.deadline == watch.deadline) {
    known->second.is_written = known->second.is_written || watch.is_written;
    known->second.has_pages = true;
    return false;
  }
  if (watch.deadline.is_never()) {
    forget_watched(number);
    return false;
  }
  // Its new place before the old one is free: in between this process may be killed.
  const PageLedger::Place place = ledger_.add(number);
  forget_watched(number);
  auto& watched = watched_[number];
  watched.place = place;
  watched.deadline = watch.deadline;
  watched.is_written = watch.is_written;
  const core::Instant now = clock_.now();
  while (watched.step < kLastDrop && watch.deadline.passed(now + kDrops[watched.step])) ++watched.step;
  schedule(number, watched);
  return !is_awaited(watched.due);
}

void FuseNotifier::unwatch(InodeNumber number) {
  const std::lock_guard lock(mutex_);
  forget_watched(number);
  rereads_.forget(number);
}

void FuseNotifier::pages_read(InodeNumber number) {
  {
    const std::lock_guard lock(mutex_);
    const auto known = watched_.find(number);
    if (known != watched_.end()) known->second.has_pages = true;
    rereads_.pages_read(number, clock_.now());
    if (is_reread_awaited()) return;
  }
  rereads_changed_.notify_one();
}

void FuseNotifier::forget_watched(InodeNumber number) {
  const auto known = watched_.find(number);
  if (known == watched_.end()) return;
  ledger_.remove(known->second.place);
  by_due_.erase({known->second.due, number});
  watched_.erase(known);
}

bool FuseNotifier::is_awaited(core::Instant due) const {
  return std::ranges::any_of(deadline_sleeps_, [due](const Sleep& sleep) { return sleep.wakes_at <= due; });
}

bool FuseNotifier::is_reread_awaited() const {
  const auto next = rereads_.next();
  return !next || reread_sleep_.wakes_at <= *next;
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
  rereads_changed_.notify_all();
}

std::optional<FuseNotifier::Due> FuseNotifier::take_due(core::Instant now) {
  while (!by_due_.empty() && by_due_.begin()->first <= now) {
    const InodeNumber number = by_due_.begin()->second;
    auto& watched = watched_.at(number);
    if (watched.step == kLastDrop) {
      rereads_.forget(number);
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

void FuseNotifier::nap(std::unique_lock<std::mutex>& lock, std::condition_variable& told,
                       std::optional<core::Instant> due, core::Instant now, Sleep& sleep) const {
  // Between short-lived descriptors nothing is watched for moments. A thread stays half asleep for one nap
  // after the last, so that it need not be woken by each.
  if (due || sleep.was_waiting) {
    const Milliseconds left = due ? *due - now : kNapMax;
    const Milliseconds span = std::clamp(left, Milliseconds{0}, kNapMax);
    sleep.wakes_at = now + span;
    told.wait_for(lock, span);
  } else {
    told.wait(lock);
  }
  sleep = {.was_waiting = due.has_value()};
}

void FuseNotifier::run_deadlines(Sleep& sleep) {
  ask_for_punctuality();
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
    std::optional<core::Instant> due;
    if (!by_due_.empty()) due = by_due_.begin()->first;
    nap(lock, deadlines_changed_, due, now, sleep);
  }
}

void FuseNotifier::run_rereads() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const core::Instant now = clock_.now();
    const auto number = rereads_.take_due(now);
    if (!number) {
      nap(lock, rereads_changed_, rereads_.next(), now, reread_sleep_);
      continue;
    }
    lock.unlock();
    send_reread(*number);
    lock.lock();
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

void FuseNotifier::send_reread(InodeNumber number) const {
  if (guard_.drop_read_pages(number)) return;
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
