// SPDX-License-Identifier: Apache-2.0
// What the data path has learnt of each node: how full it is, whether it failed to answer lately and when to ask again,
// whether it was caught giving bytes that are not the shard's. Memory only; rebuilt by use. Thread-safe.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/clock.hpp"
#include "net/peer.hpp"

namespace ephfs::fs {

class NodeBook {
 public:
  using PeerPtr = std::shared_ptr<net::Peer>;

  explicit NodeBook(core::Clock& clock) : clock_(clock) {}

  /// `peers`, best first for a shard of `stripe`: those that answer before those that do not, those with room before
  /// full ones, emptier before fuller (by sixteenths), and among equals an order that depends on the stripe, so that
  /// shards spread. The same for the same facts.
  [[nodiscard]] std::vector<PeerPtr> rank(std::vector<PeerPtr> peers, const core::StripeId& stripe) const;
  /// The same for reading: who answers, is in this process, and has not lied.
  [[nodiscard]] unsigned reading_cost(const net::Peer& peer) const;
  static constexpr unsigned kSilentCost = 4;  // from here on no answer is expected

  /// Whether a call now is worth it: not while the node is being left alone after a failure.
  [[nodiscard]] bool ready(const core::NodeId& node) const;
  /// ready(), and likely to answer.
  [[nodiscard]] bool trusted(const net::Peer& peer) const;
  /// Whether it has failed often enough in a row, or said no, that another should hold its shards.
  [[nodiscard]] bool given_up(const core::NodeId& node) const;
  [[nodiscard]] bool lied(const core::NodeId& node) const;
  /// Whether it has failed to answer for less than this: it may only be starting again.
  [[nodiscard]] bool may_return(const core::NodeId& node, core::Nanoseconds within) const;
  /// When the first of the nodes left alone is to be asked again.
  [[nodiscard]] std::optional<core::Boottime> next_ready() const;

  void answered(const core::NodeId& node, std::uint64_t stored_bytes = 0);
  /// By the kind of failure: an unanswered call is repeated after 0.5 s, doubling to 30 s; a full node after 30 s.
  void failed(const core::NodeId& node, core::Error code);
  /// It had not answered when others had been asked in its place. Three times in a row is a failure.
  void was_late(const core::NodeId& node);
  void caught_lying(const core::NodeId& node);
  /// Somebody waits: everybody may be asked again now.
  void forgive();

  void learn(const net::NodeStatus& status);
  /// Peers whose status is older than a minute; each is given once, then counts as asked.
  [[nodiscard]] std::vector<PeerPtr> to_be_asked(const std::vector<PeerPtr>& peers);

 private:
  struct Facts {
    std::uint64_t capacity = 0;
    std::uint64_t used = 0;
    unsigned failures = 0;  // in a row
    unsigned late = 0;      // in a row
    bool full = false;
    bool refused = false;
    bool liar = false;
    core::Boottime failing_since;  // when failures > 0
    core::Boottime not_before;
    std::optional<core::Boottime> status_asked;
  };
  [[nodiscard]] const Facts* find_locked(const core::NodeId& node) const;

  core::Clock& clock_;
  mutable std::mutex mutex_;
  std::map<core::NodeId, Facts> nodes_;
};

}  // namespace ephfs::fs
