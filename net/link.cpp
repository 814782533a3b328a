// SPDX-License-Identifier: Apache-2.0
#include "net/link.hpp"

#include <algorithm>

namespace ephfs::net {

using core::Error;
using core::fail;
using core::Failure;

namespace {

Result<> greet(Membership& membership, const Member& member, const Hello& theirs) {
  if (theirs.pool.is_zero()) {
    return fail(Error::not_permitted,
                "node " + member.id.hex() + " at " + member.address + " does not count this machine among its pool");
  }
  if (theirs.pool != membership.pool()) {
    return fail(Error::not_permitted, "node " + member.id.hex() + " at " + member.address + " belongs to another pool");
  }
  membership.learn(theirs.members);
  return {};
}

awaitable<Result<Message>> serve(Membership& membership, Message request) {
  if (request.kind != MessageKind::members) {
    co_return fail(Error::not_supported, "this end of the connection keeps no shards");
  }
  EPHFS_CO_TRY(const auto members, unpack_members(request));
  membership.learn(members);
  co_return Message{};
}

}  // namespace

Link::Link(LinkContext context, Member member, LinkLimits limits)
    : context_(std::move(context)),
      member_(std::move(member)),
      limits_(limits),
      next_attempt_(context_.clock.boot_now()) {}

awaitable<Link::Opened> Link::session(CallLimits limits) {
  const auto self = shared_from_this();
  if (limits.stop.stop_requested()) co_return fail(Error::cancelled);
  const core::Boottime now = context_.clock.boot_now();
  if (now >= limits.until) co_return fail(Error::timed_out, "no time left to call " + member_.address);
  const Waiter waiter;
  bool begin = false;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) co_return fail(Error::unreachable, "the connection to " + member_.address + " was closed");
    if (!attempting_) {
      if (session_ && session_->is_open()) co_return session_;
      session_.reset();
      if (now < next_attempt_) co_return *failure_;
      attempting_ = begin = true;
    }
    waiters_.push_back(waiter);
  }
  if (begin) context_.tasks.spawn(context_.executor, [self] { return self->attempt(); });
  const std::stop_callback on_stop(limits.stop, [waiter] { waiter.post(fail(Error::cancelled)); });
  auto outcome = co_await waiter.receive_until(context_.clock, limits.until);
  if (!outcome) co_return fail(Error::timed_out, "connecting to " + member_.address);
  co_return std::move(*outcome);
}

awaitable<void> Link::attempt() {
  settle(co_await connect());
}

awaitable<Link::Opened> Link::connect() {
  if (member_.address.empty()) co_return fail(Error::unreachable, "node " + member_.id.hex() + " does not listen");
  const core::Boottime until = context_.clock.boot_now() + limits_.connect;
  EPHFS_CO_TRY(auto channel, co_await context_.transport.connect(member_.address, member_.id, until));
  Session::Setup setup;
  setup.hello = {kProtocolVersion, context_.membership.pool(), std::string(kAgent), context_.membership.members()};
  setup.greet = [&membership = context_.membership, member = member_](const Hello& theirs) {
    return greet(membership, member, theirs);
  };
  setup.handler = [&membership = context_.membership](Message request, CallLimits) {
    return serve(membership, std::move(request));
  };
  setup.limits = limits_.session;
  auto session = Session::make(context_.executor, context_.clock, context_.tasks, std::move(channel), std::move(setup));
  {
    // From here on close() ends the session too.
    const std::lock_guard lock(mutex_);
    session_ = session;
    if (closed_) session->close();
  }
  EPHFS_CO_TRY_VOID(co_await session->open(until));
  co_return session;
}

void Link::settle(Opened outcome) {
  std::vector<Waiter> waiters;
  {
    const std::lock_guard lock(mutex_);
    attempting_ = false;
    waiters.swap(waiters_);
    if (outcome) {
      failure_.reset();
      backoff_ = core::Nanoseconds{0};
    } else {
      outcome = as_unreachable(outcome.error());
      session_.reset();
      failure_ = outcome.error();
      backoff_ = std::clamp(backoff_ * 2, limits_.backoff_first, limits_.backoff_max);
      next_attempt_ = context_.clock.boot_now() + backoff_;
    }
  }
  for (const auto& waiter : waiters) waiter.post(outcome);
}

bool Link::promising() const {
  const std::lock_guard lock(mutex_);
  if (closed_) return false;
  if (!failure_) return true;
  return !attempting_ && context_.clock.boot_now() >= next_attempt_;
}

std::optional<Failure> Link::last_failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void Link::close() {
  std::shared_ptr<Session> session;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    session = session_;
  }
  if (session) session->close();
}

}  // namespace ephfs::net
