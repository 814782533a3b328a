// SPDX-License-Identifier: Apache-2.0
// Getting the same range of some data shards of one stripe from its nodes: those shards first; when one is missing or
// late, as many others as it takes to restore it. The loser of a hedge is cancelled. Nobody is believed to have a whole
// shard only because of a connection: with `verified` every range comes with a Merkle proof and is checked.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/async.hpp"
#include "fs/node_book.hpp"
#include "fs/stripe_table.hpp"

namespace ephfs::fs {

using core::awaitable;

struct GatherRequest {
  std::shared_ptr<const StripeRows> rows;
  std::uint64_t offset = 0;  // in each shard
  std::uint64_t length = 0;
  std::vector<unsigned> wanted;  // data shards, each once
  bool verified = false;
};

enum class ShardFault : std::uint8_t {
  lost,  // the node says it does not have it, or that it is damaged
  lied,  // what came is not the shard's
};

struct Gathered {
  Result<std::vector<core::SharedBytes>> ranges;  // in the order wanted
  struct Fault {
    unsigned index;
    core::NodeId node;
    ShardFault fault;
    std::string detail;
  };
  std::vector<Fault> faults;
};

class ShardGatherer {
 public:
  struct Context {
    const net::PeerDirectory& peers;
    NodeBook& nodes;
    core::Clock& clock;
    core::asio::any_io_executor executor;
    core::TaskGroup& tasks;  // calls that lost a hedge end in it
    core::Nanoseconds hedge_delay;
    std::stop_token stop;  // ends all gathering
  };
  explicit ShardGatherer(Context context) : context_(std::move(context)) {}

  /// io when fewer than k shards can be had, as soon as that is certain and at limits.until at the latest. A node that
  /// was lost less than the time given ago may only be starting again, and is asked again until then. cancelled.
  [[nodiscard]] awaitable<Gathered> gather(GatherRequest request, net::CallLimits limits);

 private:
  class Attempt;
  const Context context_;
};

}  // namespace ephfs::fs
