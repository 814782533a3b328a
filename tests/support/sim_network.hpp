// SPDX-License-Identifier: Apache-2.0
// A network in memory on a (virtual) Clock: ordered channels with delay, jitter, bandwidth and a window, like TCP's,
// and the faults a network has, made to order. Equal seeds and equal use give equal traces.
//
// What a fault looks like from the ends:
//   partition  frames on the way and later ones are held, not lost, and arrive after heal(), as TCP sends them again;
//              connecting goes unanswered. Neither end is told anything: that is what deadlines and pings are for.
//   crash      every channel of the host breaks, at once for its own end and a delay later for the other; its listeners
//              are gone; nobody connects from or to it until restart().
//   break      one frame is lost and its channel breaks at both ends.
//
// Hosts are names; an address is "HOST:PORT". Thread-safe, though only one thread makes it repeatable.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/clock.hpp"
#include "net/transport.hpp"

namespace ephfs::testing {

struct SimNetworkOptions {
  core::Nanoseconds delay = std::chrono::microseconds(200);   // one way, at least
  core::Nanoseconds jitter = std::chrono::microseconds(300);  // on top, at most
  std::uint64_t bytes_per_second = 0;                         // of one direction of one channel; 0 is without limit
  std::size_t window = 4U << 20U;                             // bytes sent and not yet received, until a sender waits
};

class SimNetwork {
 public:
  SimNetwork(core::asio::any_io_executor executor, core::Clock& clock, std::uint64_t seed,
             SimNetworkOptions options = {});
  /// Breaks every channel that is left. Run the executor once more afterwards, so that those who waited can end.
  ~SimNetwork();
  SimNetwork(const SimNetwork&) = delete;
  SimNetwork& operator=(const SimNetwork&) = delete;

  /// The transport of the node `id` with `key` on `host`. It may outlive the network, unreachable then. listen() takes
  /// "HOST:PORT" with any host part, port 0 for a free one, and gives an address with this host's name.
  [[nodiscard]] std::unique_ptr<net::Transport> transport_for(const core::NodeId& id, const core::PublicKey& key,
                                                              std::string host);

  void partition(const std::string& a, const std::string& b);
  void heal(const std::string& a, const std::string& b);
  void heal_all();
  void crash(const std::string& host);
  void restart(const std::string& host);
  /// The `nth` frame sent from now on, counted over the whole network from 1, is lost and its channel breaks.
  void break_at_frame(std::uint64_t nth);

  /// Frames sent so far.
  [[nodiscard]] std::uint64_t frames() const;
  /// A hash of everything that has happened: what, when, between whom, how long.
  [[nodiscard]] std::uint64_t trace() const;

 private:
  struct State;
  class SimTransport;
  class SimListener;
  class SimChannel;
  struct Wire;
  std::shared_ptr<State> state_;
};

}  // namespace ephfs::testing
