// SPDX-License-Identifier: Apache-2.0
// One session to a member, made when it is first needed and again when it broke. After a failed attempt, calls fail at
// once until the next attempt is due: 0.1 s, doubled up to 5 s. Thread-safe; attempts are tasks of the group given.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "net/session.hpp"

namespace ephfs::net {

/// What links and remote peers are made from. All of it outlives the group's tasks.
struct LinkContext {
  asio::any_io_executor executor;
  core::Clock& clock;
  Transport& transport;
  Membership& membership;
  core::TaskGroup& tasks;
};

struct LinkLimits {
  // Longest attempt, hellos included. One to a silent node runs to its end, and unmounting, which waits for it, has 5
  // s.
  core::Nanoseconds connect = std::chrono::seconds(3);
  core::Nanoseconds backoff_first = std::chrono::milliseconds(100);
  core::Nanoseconds backoff_max = std::chrono::seconds(5);
  SessionLimits session;
};

class Link : public std::enable_shared_from_this<Link> {
 public:
  Link(LinkContext context, Member member, LinkLimits limits);

  /// The open session, or the outcome of the attempt that runs or is due. unreachable, with what the last attempt met;
  /// timed_out, cancelled.
  [[nodiscard]] awaitable<Result<std::shared_ptr<Session>>> session(CallLimits limits);
  /// False while the last attempt failed and no other is due.
  [[nodiscard]] bool promising() const;
  /// What the last attempt met, when it failed.
  [[nodiscard]] std::optional<core::Failure> last_failure() const;
  /// Ends the session and makes no other. Any thread.
  void close();

 private:
  using Opened = Result<std::shared_ptr<Session>>;
  using Waiter = core::Mailbox<Opened>;

  awaitable<void> attempt();
  awaitable<Opened> connect();
  void settle(Opened outcome);

  const LinkContext context_;
  const Member member_;
  const LinkLimits limits_;

  mutable std::mutex mutex_;  // guards all below
  bool closed_ = false;
  bool attempting_ = false;
  std::shared_ptr<Session> session_;
  std::optional<core::Failure> failure_;  // of the last attempt
  core::Nanoseconds backoff_{0};
  core::Boottime next_attempt_;
  std::vector<Waiter> waiters_;  // for the attempt that runs
};

}  // namespace ephfs::net
