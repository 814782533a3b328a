// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse_notifier.hpp"

namespace ephfs::fs {
namespace {

/// A nap's bound while files are watched. When the clock is set, clock_changed() ends it.
constexpr Milliseconds kNapMax{60'000};

}  // namespace

FuseNotifier::FuseNotifier(fuse_session* session, const core::Clock& clock) : session_(session), clock_(clock) {}

FuseNotifier::~FuseNotifier() { stop(); }

void FuseNotifier::start() {
  thread_ = std::thread([this] { run(); });
}

void FuseNotifier::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void FuseNotifier::watch(InodeNumber number, Deadline deadline) {
  {
    const std::lock_guard lock(mutex_);
    const auto known = watched_.find(number);
    if (known != watched_.end() && known->second == deadline) return;
    forget_watched(number);
    if (deadline.is_never()) return;
    watched_[number] = deadline;
    by_deadline_.emplace(deadline, number);
    if (by_deadline_.begin()->second != number) return;  // the thread wakes for an earlier one
  }
  changed_.notify_one();
}

void FuseNotifier::unwatch(InodeNumber number) {
  const std::lock_guard lock(mutex_);
  forget_watched(number);
}

void FuseNotifier::forget_watched(InodeNumber number) {
  const auto known = watched_.find(number);
  if (known == watched_.end()) return;
  by_deadline_.erase({known->second, number});
  watched_.erase(known);
}

void FuseNotifier::forget_entry(InodeNumber parent, std::string name) {
  {
    const std::lock_guard lock(mutex_);
    notices_.push_back({parent, std::move(name)});
  }
  changed_.notify_one();
}

void FuseNotifier::forget_pages(InodeNumber number) {
  {
    const std::lock_guard lock(mutex_);
    notices_.push_back({number, {}});
  }
  changed_.notify_one();
}

void FuseNotifier::clock_changed() {
  // With the lock the thread is not between working out its nap and taking it.
  { const std::lock_guard lock(mutex_); }
  changed_.notify_one();
}

void FuseNotifier::collect_due() {
  const core::Instant now = clock_.now();
  while (!by_deadline_.empty() && by_deadline_.begin()->first.passed(now + kLastMoment)) {
    const InodeNumber number = by_deadline_.begin()->second;
    notices_.push_front({number, {}});
    forget_watched(number);
  }
}

Milliseconds FuseNotifier::until_next() const {
  const Milliseconds left = by_deadline_.begin()->first.instant() - kLastMoment - clock_.now();
  return std::clamp(left, Milliseconds{0}, kNapMax);
}

void FuseNotifier::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    collect_due();
    if (!notices_.empty()) {
      const Notice notice = std::move(notices_.front());
      notices_.pop_front();
      lock.unlock();
      send(notice);
      lock.lock();
    } else if (by_deadline_.empty()) {
      changed_.wait(lock);
    } else {
      changed_.wait_for(lock, until_next());
    }
  }
}

void FuseNotifier::send(const Notice& notice) const {
  // A failure means that the kernel remembers nothing of it, or that the mount is going away: both are what is wanted.
  if (notice.name.empty()) {
    (void)fuse_lowlevel_notify_inval_inode(session_, notice.number.value, 0, 0);
  } else {
    (void)fuse_lowlevel_notify_inval_entry(session_, notice.number.value, notice.name.data(), notice.name.size());
  }
}

}  // namespace ephfs::fs
