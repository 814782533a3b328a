// SPDX-License-Identifier: Apache-2.0
// The end of the network where channels come in: members of the pool are served by this machine's own Peer, strangers
// may ask to join and nothing else. Thread-safe; stop() before it is destroyed.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "net/membership.hpp"
#include "net/peer.hpp"
#include "net/rate_limited_log.hpp"
#include "net/session.hpp"

namespace ephfs::net {

struct PeerServerLimits {
  std::size_t sessions_max = 256;                         // members' sessions; more are closed at once
  std::size_t strangers_max = 8;                          // strangers' sessions
  core::Nanoseconds hello = std::chrono::seconds(10);     // until a hello must be here
  core::Nanoseconds stranger = std::chrono::seconds(10);  // longest session with a stranger
  core::Nanoseconds news = std::chrono::seconds(5);       // longest wait for news of members to be taken
  SessionLimits session;
};

class PeerServer {
 public:
  /// All references are used until stop() has been awaited. `log` takes what a person should know of callers that were
  /// turned away, one line a minute at most.
  PeerServer(asio::any_io_executor executor, core::Clock& clock, std::unique_ptr<Listener> listener, Peer& local,
             Membership& membership, LogLine log = {}, PeerServerLimits limits = {});
  ~PeerServer();
  PeerServer(const PeerServer&) = delete;
  PeerServer& operator=(const PeerServer&) = delete;

  /// Where members reach this server.
  [[nodiscard]] std::string address() const { return listener_->address(); }
  /// Accepts from now on. Once.
  void start();
  /// Sends the member list to every session that is open.
  void push_members();
  /// Closes the listener and every session, and resumes when nothing runs any more.
  [[nodiscard]] awaitable<void> stop();
  [[nodiscard]] std::size_t session_count() const;

 private:
  awaitable<void> accept_channels();
  void take_channel(std::unique_ptr<Channel> channel);
  awaitable<void> run_session(std::uint64_t number, std::shared_ptr<Session> session, bool stranger);
  awaitable<Result<Message>> handle(core::NodeId peer, Message request, CallLimits limits);
  Result<Message> handle_join(const core::NodeId& peer, const Message& request);
  Result<> greet(const core::NodeId& peer, const Hello& theirs);
  awaitable<void> send_members(std::shared_ptr<Session> session);

  struct Entry {
    std::shared_ptr<Session> session;
    bool stranger = false;
  };

  const asio::any_io_executor executor_;
  core::Clock& clock_;
  const std::unique_ptr<Listener> listener_;
  Peer& local_;
  Membership& membership_;
  RateLimitedLog log_;
  const PeerServerLimits limits_;

  mutable std::mutex mutex_;  // guards all below
  bool stopping_ = false;
  std::uint64_t next_number_ = 1;
  std::map<std::uint64_t, Entry> sessions_;
  std::size_t strangers_ = 0;  // of sessions_

  core::TaskGroup tasks_;
};

/// Asks the node `expected` at `address` to take `self` into its pool, showing an invitation's secret. not_permitted
/// when the secret is wrong, used up or expired, or somebody else answers; version; unreachable; timed_out at `until`.
[[nodiscard]] awaitable<Result<JoinReply>> join_pool(Transport& transport, std::string address, core::NodeId expected,
                                                     core::Bytes secret, Member self, core::Clock& clock,
                                                     core::Boottime until);

}  // namespace ephfs::net
