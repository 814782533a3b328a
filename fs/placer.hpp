// SPDX-License-Identifier: Apache-2.0
// Brings sealed stripes to nodes, oldest first, a few at a time: code, choose k + m different nodes, send to all at
// once, check receipts, commit. What nobody waits for - no fsync, no writer for whom staging is full - is coded where
// it is in nobody's way. A node that fails is replaced by another while there is one; what is then still missing of a
// placed stripe is owed, and the Repairer's.
//
// Which node gets which shard, and under which serial, is committed before anything is sent: so whatever a crash leaves
// on a node is known, and removed with the stripe. Thread-safe.
#pragma once

#include <map>
#include <mutex>
#include <optional>

#include "fs/stripes_state.hpp"

namespace ephfs::fs {

class Placer {
 public:
  explicit Placer(StripesState& state) : state_(state) {}

  void enqueue(StripeNumber number);
  /// Somebody waits for it: it is tried now, whatever the last attempt gave.
  void hurry(StripeNumber number);
  void forget(StripeNumber number);
  [[nodiscard]] awaitable<void> run(std::stop_token stop);
  void wake() { wake_.notify(); }

  struct Status {
    std::uint64_t attempts = 0;
    std::optional<core::Failure> failure;  // of the last attempt
    bool certain = false;                  // another attempt will fail likewise until somebody changes the pool
  };
  /// Of a stripe in the queue; nothing tried for any other.
  [[nodiscard]] Status status(StripeNumber number) const;
  /// Of the last attempt at any stripe; empty when it went well.
  [[nodiscard]] std::string last_error() const;

 private:
  struct Outcome {
    Result<> result;
    bool certain = false;
    bool over = false;  // nothing more to be done, though it is not placed
  };
  struct Job {
    bool placing = false;
    bool hurried = false;
    core::Boottime not_before;
    Status status;
  };

  [[nodiscard]] awaitable<void> place(StripeNumber number, bool hurried);
  void finish(StripeNumber number, Outcome outcome);

  StripesState& state_;
  Wake wake_;
  mutable std::mutex mutex_;          // guards what follows
  std::map<StripeNumber, Job> jobs_;  // a number is as old as it is small
  std::size_t placing_ = 0;
  std::string last_error_;
};

}  // namespace ephfs::fs
