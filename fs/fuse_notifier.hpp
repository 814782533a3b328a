// SPDX-License-Identifier: Apache-2.0
// Tells the kernel what to forget, through the guard (fuse_guard.hpp), from threads that serve no request and hold no
// lock: an invalidation may wait for a request that is being answered. It also keeps the deadlines of open files and
// drops their pages kLastMoment before each, by the wall clock.
//
// Ten milliseconds are few when thousands of files die together. So when many are watched, pages of those
// that are only read are dropped several times in their last second, each time only where something was read
// since: what is left for the last moment is what was read in the last few milliseconds. Threads that wait
// for deadlines ask the scheduler to run before others; the other notices have a thread of their own, because
// one may wait for a directory that is in use.
//
// Pages of files whose deadlines slide on reading are also dropped now and then while they live (reread_plan.hpp).
// A drop may wait for as long as a read waits for the network, and those before a deadline are not to wait
// behind it: these have a thread of their own too, and leave what is known of the others as it is.
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <limits>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>
#include <vector>

#include "fs/caller_affinity.hpp"
#include "fs/fuse_guard.hpp"
#include "fs/fuse_request.hpp"
#include "fs/reread_plan.hpp"

namespace ephfs::fs {

class FuseNotifier final : public KernelCache {
 public:
  /// All outlive it.
  FuseNotifier(fuse_session* session, const core::Clock& clock, FuseGuard& guard);
  ~FuseNotifier() override;
  FuseNotifier(const FuseNotifier&) = delete;
  FuseNotifier& operator=(const FuseNotifier&) = delete;

  void start();
  /// Joins the threads. The session must not be destroyed before.
  void stop();

  void watch(InodeNumber number, const PageWatch& watch) override;
  void unwatch(InodeNumber number) override;
  void pages_read(InodeNumber number) override;
  void hurry() override { part_from_caller(); }
  void forget_entry(InodeNumber parent, std::string name) override;
  void forget_pages(InodeNumber number) override;
  void clock_changed() override;

 private:
  struct Notice {
    InodeNumber number;  // the parent, when there is a name
    std::string name;    // empty: the inode's pages
  };
  struct Watched {
    Deadline deadline;
    bool is_written = false;  // pages may come without a read
    bool has_pages = true;
    std::size_t step = 0;  // of the drops before its deadline
    core::Instant due{};   // when the step's time comes
    PageLedger::Place place = 0;
  };
  static constexpr core::Instant kNotAsleep{std::numeric_limits<std::int64_t>::max()};
  /// Of a thread that waits for instants.
  struct Sleep {
    core::Instant wakes_at = kNotAsleep;  // by itself; kNotAsleep while it is busy or waits to be told
    bool was_waiting = false;             // its last nap had an end
  };
  void run_deadlines(Sleep& sleep);
  void run_rereads();
  void run_notices();
  void send_drop(InodeNumber number) const;
  void send_reread(InodeNumber number) const;
  void send_notice(const Notice& notice) const;
  // Lock held.
  /// Whether a thread has to be told of it, which the caller does without the lock.
  [[nodiscard]] bool watch_deadline(InodeNumber number, const PageWatch& watch);
  /// Waits until `due`, or to be told.
  void nap(std::unique_lock<std::mutex>& lock, std::condition_variable& told, std::optional<core::Instant> due,
           core::Instant now, Sleep& sleep) const;
  void forget_watched(InodeNumber number);
  void schedule(InodeNumber number, Watched& watched);
  struct Due {
    InodeNumber number;
    std::optional<PageLedger::Place> place;  // the last time: to be given up when its pages have gone
  };
  /// Whether a thread wakes by then without being told.
  [[nodiscard]] bool is_awaited(core::Instant due) const;
  [[nodiscard]] bool is_reread_awaited() const;
  /// The next inode whose pages are to be dropped now, with its plan moved on; none when nothing is due.
  [[nodiscard]] std::optional<Due> take_due(core::Instant now);

  fuse_session* session_;
  const core::Clock& clock_;
  FuseGuard& guard_;
  PageLedger& ledger_;
  std::mutex mutex_;
  std::condition_variable deadlines_changed_, rereads_changed_, notices_changed_;
  bool stopping_ = false;
  std::deque<Notice> notices_;
  std::set<std::pair<core::Instant, InodeNumber>> by_due_;
  std::unordered_map<InodeNumber, Watched> watched_;
  RereadPlan rereads_;
  static constexpr std::size_t kDeadlineThreads = 2;
  std::array<Sleep, kDeadlineThreads> deadline_sleeps_;
  Sleep reread_sleep_;
  std::vector<std::thread> threads_;
};

}  // namespace ephfs::fs
