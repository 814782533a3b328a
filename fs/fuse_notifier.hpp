// SPDX-License-Identifier: Apache-2.0
// Tells the kernel what to forget, from a thread that serves no request and holds no lock (libfuse: an invalidation made
// while a request is answered may wait for that very request). It also keeps the deadlines of open files and drops their
// pages kLastMoment before each, by the wall clock.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>

#include "fs/fuse_request.hpp"

namespace ephfs::fs {

class FuseNotifier final : public KernelCache {
 public:
  FuseNotifier(fuse_session* session, const core::Clock& clock);
  ~FuseNotifier() override;
  FuseNotifier(const FuseNotifier&) = delete;
  FuseNotifier& operator=(const FuseNotifier&) = delete;

  void start();
  /// Joins the thread. The session must not be destroyed before.
  void stop();

  void watch(InodeNumber number, Deadline deadline) override;
  void unwatch(InodeNumber number) override;
  void forget_entry(InodeNumber parent, std::string name) override;
  void forget_pages(InodeNumber number) override;
  void clock_changed() override;

 private:
  struct Notice {
    InodeNumber number;   // the parent, when there is a name
    std::string name;     // empty: the inode's pages
  };
  void run();
  void send(const Notice& notice) const;
  void forget_watched(InodeNumber number);
  /// Lock held. Moves inodes whose last moment has come to the notices.
  void collect_due();
  [[nodiscard]] Milliseconds until_next() const;

  fuse_session* session_;
  const core::Clock& clock_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::deque<Notice> notices_;
  std::set<std::pair<Deadline, InodeNumber>> by_deadline_;
  std::unordered_map<InodeNumber, Deadline> watched_;
  std::thread thread_;
};

}  // namespace ephfs::fs
