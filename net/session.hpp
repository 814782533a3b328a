// SPDX-License-Identifier: Apache-2.0
// Many requests at once over one channel, in both directions. A session opens with a hello from each end; then calls go
// out with an id and a budget of time, and requests that come in are served by a handler, each a task of its own. Every
// queue has a bound: calls outstanding, bytes to send, requests and payload being served; past the last two the session
// stops reading. A silent channel is pinged, and given up when nothing comes back.
//
// Thread-safe. Its tasks hold it alive and belong to the TaskGroup it was made with, whose owner closes the session and
// joins the group before the clock, the handler's objects or the executor go away.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <stop_token>
#include <unordered_map>

#include "core/async.hpp"
#include "net/gate.hpp"
#include "net/message.hpp"
#include "net/transport.hpp"
#include "net/wire.hpp"

namespace ephfs::net {

namespace asio = boost::asio;

struct SessionLimits {
  std::size_t calls_max = 256;                               // outstanding; more wait
  std::size_t calls_waiting_max = 4096;                      // more than these are busy
  std::size_t send_bytes_max = 32U << 20U;                   // queued to be sent
  std::size_t requests_max = 64;                             // being served
  std::size_t request_bytes_max = 64U << 20U;                // payload of requests being served
  core::Nanoseconds idle = std::chrono::seconds(15);         // without a frame, until a ping
  core::Nanoseconds ping_answer = std::chrono::seconds(10);  // then until the channel counts as dead
  core::Nanoseconds farewell = std::chrono::seconds(2);      // to send what is queued when a session ends in order
  core::Nanoseconds budget_max = std::chrono::minutes(10);   // longest time a request is served for
};

/// What a caller hears who cannot reach a peer, for whatever reason: unreachable, and the reason in words.
[[nodiscard]] core::Failure as_unreachable(const core::Failure& reason);

class Session : public std::enable_shared_from_this<Session> {
  struct MakeOnly {};

 public:
  /// Answers a request that came in. It ends by its limits; the token says that the caller gave up or the session
  /// broke.
  using Handler = std::function<awaitable<Result<Message>>(Message request, CallLimits limits)>;
  /// Looks at the other end's hello before anything else is taken from it; a failure ends the session.
  using Greet = std::function<Result<>(const Hello& theirs)>;

  struct Setup {
    Hello hello;
    Greet greet;
    Handler handler;
    SessionLimits limits;
  };

  [[nodiscard]] static std::shared_ptr<Session> make(asio::any_io_executor executor, core::Clock& clock,
                                                     core::TaskGroup& tasks, std::unique_ptr<Channel> channel,
                                                     Setup setup);
  Session(MakeOnly, asio::any_io_executor executor, core::Clock& clock, core::TaskGroup& tasks,
          std::unique_ptr<Channel> channel, Setup setup);

  /// Exchanges hellos; once, before any call. version when the other end speaks another; what greet said; timed_out at
  /// `until`; unreachable. After a failure the session is closed.
  [[nodiscard]] awaitable<Result<Hello>> open(core::Boottime until);

  /// Sends a request and waits for its answer. timed_out exactly at limits.until; cancelled when the token asks; busy
  /// when too many wait; unreachable when the session ends; else the peer's own failure. A call given up is cancelled
  /// at the other end too, where it may have had its effect.
  [[nodiscard]] awaitable<Result<Message>> call(Message request, CallLimits limits);

  /// Ends the session now: calls outstanding get unreachable, requests being served are stopped. Idempotent.
  void close(core::Failure reason = core::fail(core::Error::unreachable, "the session was closed"));
  [[nodiscard]] bool is_open() const;
  /// Resumes when the session has ended, with the reason. One waiter.
  [[nodiscard]] awaitable<core::Failure> ended();

  [[nodiscard]] core::NodeId peer_id() const { return peer_id_; }
  [[nodiscard]] const std::string& peer_address() const { return peer_address_; }

 private:
  struct Outgoing {
    Frame frame;
    std::uint64_t call = 0;  // of a request: not sent once nobody waits for it
    Gate::Pass bytes;
    bool farewell = false;  // nothing comes behind it
  };
  struct Served {
    std::uint64_t id = 0;
    Message request;
    core::Boottime until;
    std::stop_source stop;
    Gate::Pass place;
    Gate::Pass bytes;
  };
  using Answer = core::Mailbox<Result<Message>>;

  awaitable<void> read_frames();
  awaitable<void> write_frames();
  awaitable<void> watch_silence();
  awaitable<void> serve(std::shared_ptr<Served> served);
  Result<> take_hello(Packet packet, core::SharedBytes payload);
  awaitable<Result<>> take(Packet packet, core::SharedBytes payload);
  awaitable<Result<>> take_request(Packet packet, core::SharedBytes payload);
  void take_cancel(std::uint64_t id);
  void deliver(std::uint64_t id, Result<Message> answer);

  std::uint64_t add_call(const Answer& answer);  // 0 when the session has ended
  bool forget_call(std::uint64_t id);            // false when it was answered already
  bool is_waited_for(std::uint64_t id) const;
  void send_control(MessageKind kind, std::uint64_t id);
  void finish(core::Failure reason);
  core::Failure ended_failure() const;

  const asio::any_io_executor executor_;
  core::Clock& clock_;
  core::TaskGroup& tasks_;
  const std::unique_ptr<Channel> channel_;
  const Setup setup_;
  const core::NodeId peer_id_;
  const std::string peer_address_;

  Gate calls_;
  Gate send_bytes_;
  Gate requests_;
  Gate request_bytes_;
  const core::Mailbox<Outgoing> outbox_;  // bounded by send_bytes_
  const core::Mailbox<Result<Hello>> greeting_;
  const core::Mailbox<char> silence_stop_;
  const core::Mailbox<core::Failure> ended_;
  std::atomic<std::int64_t> heard_ns_;  // boot time of the last frame received

  mutable std::mutex mutex_;  // guards all below
  bool closed_ = false;
  bool finishing_ = false;
  core::Failure reason_;
  std::uint64_t next_call_ = 1;
  std::unordered_map<std::uint64_t, Answer> waiting_;
  std::unordered_map<std::uint64_t, std::stop_source> serving_;
  std::unique_ptr<core::Timer> farewell_timer_;
};

}  // namespace ephfs::net
