// SPDX-License-Identifier: Apache-2.0
#include "net/peer_server.hpp"

#include "net/peer_service.hpp"

namespace ephfs::net {

using core::Error;
using core::fail;
using core::Failure;

PeerServer::PeerServer(asio::any_io_executor executor, core::Clock& clock, std::unique_ptr<Listener> listener,
                       Peer& local, Membership& membership, LogLine log, PeerServerLimits limits)
    : executor_(std::move(executor)),
      clock_(clock),
      listener_(std::move(listener)),
      local_(local),
      membership_(membership),
      log_(clock, std::move(log)),
      limits_(limits) {}

PeerServer::~PeerServer() {
  listener_->close();
}

void PeerServer::start() {
  tasks_.spawn(executor_, [this] { return accept_channels(); });
}

awaitable<void> PeerServer::accept_channels() {
  for (;;) {
    auto channel = co_await listener_->accept();
    if (!channel) co_return;
    take_channel(std::move(*channel));
  }
}

void PeerServer::take_channel(std::unique_ptr<Channel> channel) {
  const core::NodeId peer = channel->peer_id();
  const std::string address = channel->peer_address();
  const bool stranger = !membership_.admits(peer);
  Session::Setup setup;
  setup.hello.agent = kAgent;
  if (!stranger) {
    setup.hello.pool = membership_.pool();
    setup.hello.members = membership_.members();
  }
  setup.greet = [this, peer](const Hello& theirs) { return greet(peer, theirs); };
  setup.handler = [this, peer](Message request, CallLimits limits) {
    return handle(peer, std::move(request), std::move(limits));
  };
  setup.limits = limits_.session;

  std::shared_ptr<Session> session;
  std::uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    const bool full =
        stranger ? strangers_ >= limits_.strangers_max : sessions_.size() - strangers_ >= limits_.sessions_max;
    if (!full && !stopping_) {
      session = Session::make(executor_, clock_, tasks_, std::move(channel), std::move(setup));
      number = next_number_++;
      sessions_.emplace(number, Entry{session, stranger});
      if (stranger) ++strangers_;
    }
  }
  if (!session) {
    channel->close();  // NOLINT(bugprone-use-after-move): it was moved only where there is a session
    log_.say("turned " + address + " away: too many connections");
    return;
  }
  tasks_.spawn(executor_, [this, number, session, stranger] { return run_session(number, session, stranger); });
}

awaitable<void> PeerServer::run_session(std::uint64_t number, std::shared_ptr<Session> session, bool stranger) {
  const core::Boottime now = clock_.boot_now();
  std::unique_ptr<core::Timer> end;
  if (stranger) {
    std::function<void()> close = [session] { session->close(fail(Error::timed_out, "strangers stay only briefly")); };
    end = clock_.call_at(executor_, now + limits_.stranger, std::move(close));
  }
  (void)co_await session->open(now + limits_.hello);
  const Failure reason = co_await session->ended();
  if (reason.code == Error::protocol || reason.code == Error::version || reason.code == Error::not_permitted) {
    log_.say("closed the connection from " + session->peer_address() + ": " + reason.message());
  }
  const std::lock_guard lock(mutex_);
  sessions_.erase(number);
  if (stranger) --strangers_;
}

Result<> PeerServer::greet(const core::NodeId& peer, const Hello& theirs) {
  // Somebody who is joining does not claim a pool yet.
  if (theirs.pool.is_zero() || !membership_.admits(peer)) return {};
  if (theirs.pool != membership_.pool()) {
    return fail(Error::not_permitted, "node " + peer.hex() + " belongs to another pool");
  }
  membership_.learn(theirs.members);
  return {};
}

awaitable<Result<Message>> PeerServer::handle(core::NodeId peer, Message request, CallLimits limits) {
  if (request.kind == MessageKind::join) co_return handle_join(peer, request);
  if (!membership_.admits(peer)) {
    co_return fail(Error::not_permitted, "node " + peer.hex() + " is not a member of this pool");
  }
  if (request.kind == MessageKind::members) {
    EPHFS_CO_TRY(const auto members, unpack_members(request));
    membership_.learn(members);
    co_return Message{};
  }
  co_return co_await serve_peer(local_, std::move(request), std::move(limits));
}

Result<Message> PeerServer::handle_join(const core::NodeId& peer, const Message& request) {
  EPHFS_TRY(const auto join, unpack_join(request));
  const Member member{peer, join.address};
  if (membership_.admits(peer)) {
    // It asks again because our answer was lost; its secret is used up already.
    membership_.learn({member});
  } else {
    EPHFS_TRY_VOID(membership_.admit(member, join.secret));
  }
  push_members();
  Message reply = pack_join_reply({membership_.pool(), membership_.members()});
  reply.last = true;
  return reply;
}

void PeerServer::push_members() {
  const std::lock_guard lock(mutex_);
  for (const auto& [number, entry] : sessions_) {
    if (entry.stranger || !entry.session->is_open()) continue;
    tasks_.spawn(executor_, [this, session = entry.session] { return send_members(session); });
  }
}

awaitable<void> PeerServer::send_members(std::shared_ptr<Session> session) {
  Message news = pack_members(membership_.members());
  CallLimits limits{clock_.boot_now() + limits_.news, {}};
  (void)co_await session->call(std::move(news), std::move(limits));
}

std::size_t PeerServer::session_count() const {
  const std::lock_guard lock(mutex_);
  return sessions_.size();
}

awaitable<void> PeerServer::stop() {
  listener_->close();
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const auto& [number, entry] : sessions_)
      entry.session->close(fail(Error::unreachable, "the node is stopping"));
  }
  co_await tasks_.join();
}

awaitable<Result<JoinReply>> join_pool(Transport& transport, std::string address, core::NodeId expected,
                                       core::Bytes secret, Member self, core::Clock& clock, core::Boottime until) {
  EPHFS_CO_TRY(auto channel, co_await transport.connect(std::move(address), expected, until));
  Session::Setup setup;
  setup.hello.agent = kAgent;
  setup.handler = [](Message, CallLimits) -> awaitable<Result<Message>> {
    co_return fail(Error::not_supported, "this machine is only joining");
  };
  core::TaskGroup tasks;
  const auto executor = co_await asio::this_coro::executor;
  const auto session = Session::make(executor, clock, tasks, std::move(channel), std::move(setup));
  Result<JoinReply> joined = fail(Error::unreachable);
  if (const auto hello = co_await session->open(until); !hello) {
    joined = hello.error();
  } else {
    Message request = pack_join({std::move(secret), self.address});
    CallLimits limits{until, {}};
    const auto reply = co_await session->call(std::move(request), std::move(limits));
    if (reply) {
      joined = unpack_join_reply(*reply);
    } else {
      joined = reply.error();
    }
  }
  session->close();
  co_await tasks.join();
  co_return joined;
}

}  // namespace ephfs::net
