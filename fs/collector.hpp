// SPDX-License-Identifier: Apache-2.0
// Deletes what died: stripes in which nothing lives or whose deadline has passed, their files here and, by orders that
// the owner signs, their shards on the nodes. An order is repeated until the node says the shard is gone or its lease
// is over. Local files go at the stripe's deadline, whether or not anybody asks.
#pragma once

#include <map>
#include <mutex>
#include <optional>

#include "fs/shard_delivery.hpp"
#include "fs/stripes_state.hpp"

namespace ephfs::fs {

class Collector {
 public:
  explicit Collector(StripesState& state) : state_(state) {}

  /// There may be something to delete: a moment from now, since where one file is deleted others follow.
  void soon();
  void within(core::Nanoseconds span);
  [[nodiscard]] awaitable<void> run(std::stop_token stop);
  void wake() { wake_.notify(); }

 private:
  /// When to look again at the latest; none: when told.
  using Next = std::optional<core::Boottime>;

  [[nodiscard]] Next collect_stripes();
  [[nodiscard]] Result<> sync_successors(const std::vector<meta::StripeRecord>& dead, core::Instant now);
  [[nodiscard]] bool collect(const meta::StripeRecord& record);
  [[nodiscard]] awaitable<Next> send_removals(std::stop_token stop);
  [[nodiscard]] awaitable<void> send_to(core::NodeId node, std::vector<meta::RemovalRecord> removals,
                                        std::stop_token stop);
  [[nodiscard]] Next boottime_of(core::Deadline deadline, core::Instant now) const;

  StripesState& state_;
  Wake wake_;
  std::mutex mutex_;
  Next due_;                         // guarded by mutex_
  std::size_t stripes_skipped_ = 0;  // of the one task, as is what follows
  std::size_t removals_limit_ = 0;
};

}  // namespace ephfs::fs
