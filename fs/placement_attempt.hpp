// SPDX-License-Identifier: Apache-2.0
// One attempt to bring a sealed stripe's shards to k + m nodes. Made, run once and destroyed by the Placer, which holds
// the claim on the stripe meanwhile.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fs/shard_delivery.hpp"
#include "fs/stripes_state.hpp"

namespace ephfs::fs {

class PlacementAttempt {
 public:
  /// The stripe is coded on `coding`.
  PlacementAttempt(StripesState& state, StripeNumber number, core::asio::any_io_executor coding)
      : state_(state), number_(number), coding_(std::move(coding)) {}

  struct Outcome {
    Result<> result;       // success: the stripe is placed
    bool certain = false;  // the failure is not one that passes by itself
    bool over = false;     // the stripe is gone or dead: nothing to place
  };
  [[nodiscard]] awaitable<Outcome> run();

 private:
  using PeerPtr = std::shared_ptr<net::Peer>;
  struct Shard {
    meta::PlacementRecord row;
    PeerPtr peer;            // of the node it is given to; null when there is none left
    bool held_back = false;  // not sent: the node is not likely to answer, and is not needed
    bool stored = false;
    bool sending = false;
    bool changed = false;  // stored since the last commit
  };
  struct Answer {
    unsigned index = 0;
    bool over = false;  // no answer: time to look at the clock, or told to stop
    Result<meta::PlacementRecord> row = meta::PlacementRecord();
  };

  [[nodiscard]] awaitable<Result<>> prepare(StagedView staged);
  [[nodiscard]] Result<> choose_nodes();
  [[nodiscard]] PeerPtr take_candidate(bool trusted_only, const core::NodeId& favourite);
  [[nodiscard]] Result<> commit_assigned(const std::vector<unsigned>& indexes);
  void send(unsigned index);
  void send_held_back();
  [[nodiscard]] awaitable<void> send_all();
  [[nodiscard]] Result<> take(Answer answer);
  [[nodiscard]] Result<> commit_stored();
  void keep(Result<> outcome);
  [[nodiscard]] bool quorum(bool hopefully) const;
  [[nodiscard]] std::size_t sending() const;
  [[nodiscard]] Outcome failed() const;
  void ask_statuses(const std::vector<PeerPtr>& peers);

  StripesState& state_;
  const StripeNumber number_;
  const core::asio::any_io_executor coding_;
  meta::StripeRecord record_;
  std::vector<CodedShard> coded_;
  std::filesystem::path file_;       // when the staged file is the first shard
  std::vector<Shard> shards_;        // by index
  std::vector<PeerPtr> candidates_;  // best first; not used by this stripe
  std::stop_source stop_;
  core::Mailbox<Answer> answers_;
  bool placed_ = false;
  bool full_ = false, refused_ = false, silent_ = false;  // why nodes did not take a shard
  std::optional<core::Failure> last_failure_;
  std::optional<core::Failure> broken_;  // the catalog or disk fails
};

}  // namespace ephfs::fs
