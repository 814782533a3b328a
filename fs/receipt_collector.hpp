// SPDX-License-Identifier: Apache-2.0
// Gathers what nodes sign of the shards they deleted: after each death, with a short delay, and again, more and more
// rarely, until the node gives its receipt; a node that was away is asked when it is back. Also forgets the dead,
// receipts and all, when they have been remembered for long enough. One task; it sleeps while there is nothing to ask
// or forget.
#pragma once

#include <map>
#include <optional>
#include <stop_token>

#include "fs/stripes_state.hpp"

namespace ephfs::fs {

class ReceiptCollector {
 public:
  explicit ReceiptCollector(StripesState& state) : state_(state) {}

  [[nodiscard]] awaitable<void> run(std::stop_token stop);
  /// Something died, or it is time to stop.
  void wake() { wake_.notify(); }

 private:
  using Next = std::optional<core::Boottime>;

  /// Asks one node all that is due; when to come back to it.
  [[nodiscard]] awaitable<Next> ask(std::shared_ptr<net::Peer> peer, std::stop_token stop);
  [[nodiscard]] awaitable<Result<>> ask_about(std::shared_ptr<net::Peer> peer, std::vector<meta::DeadShardRecord> rows,
                                              std::stop_token stop);
  [[nodiscard]] Next forget_old();
  [[nodiscard]] bool is_receipt_of(const core::Receipt& receipt, const meta::DeadShardRecord& row) const;

  StripesState& state_;
  Wake wake_;
  std::map<core::NodeId, core::Boottime> left_alone_;  // of the one task: nodes that could not answer, until when
};

}  // namespace ephfs::fs
