// SPDX-License-Identifier: Apache-2.0
// Pays what is owed to nodes of placed stripes: shards that did not reach their node or were lost there, leases whose
// deadline the node has not agreed to. A node that holds the shard is asked to renew; else the shard is made again
// (from the cache, or from k others, checked against their names) and stored, on another node when its own was given
// up.
#pragma once

#include <atomic>
#include <map>

#include "fs/shard_delivery.hpp"
#include "fs/stripes_state.hpp"

namespace ephfs::fs {

class Repairer {
 public:
  explicit Repairer(StripesState& state) : state_(state) {}

  /// Something is owed, or somebody waits for it.
  void soon() { wake_.notify(); }
  [[nodiscard]] awaitable<void> run(std::stop_token stop);

 private:
  using PeerPtr = std::shared_ptr<net::Peer>;
  struct Debt {
    meta::PlacementRecord row;
    PeerPtr peer;
    bool renew = false;
  };

  enum class Repair : std::uint8_t {
    paid,  // nothing is owed of the stripe any more
    left,  // some is, and it is to be tried again
    none,  // not this task's: not placed yet, dead, gone
  };

  /// Pays what can be paid now; whether anything is left.
  [[nodiscard]] awaitable<bool> pass(std::stop_token stop);
  [[nodiscard]] awaitable<void> renew(StripeNumber number, std::stop_token stop);
  [[nodiscard]] awaitable<Repair> repair(StripeNumber number, std::stop_token stop);
  enum class Wanted : char { renewals, shards };
  [[nodiscard]] Result<std::vector<Debt>> choose(const StripeRows& rows, Wanted wanted);
  [[nodiscard]] awaitable<Result<std::vector<CodedShard>>> make_shards(std::shared_ptr<const StripeRows> rows,
                                                                       std::stop_token stop);
  /// The node says that it no longer has a shard: it is to be made again.
  [[nodiscard]] Result<> note_lost(const meta::PlacementRecord& lost);
  [[nodiscard]] Result<> commit_paid(const meta::PlacementRecord& paid);

  StripesState& state_;
  Wake wake_;
  std::atomic<std::size_t> renewals_running_{0};
  /// Stripes of which nothing was owed any more, and when: one that is owed again at once, since a node says that it
  /// has what it has not, waits. Of the one task.
  std::map<StripeNumber, core::Boottime> paid_;
  std::size_t limit_ = 0;  // how many debts to look at: more when the first ones cannot be paid. Of the one task
};

}  // namespace ephfs::fs
