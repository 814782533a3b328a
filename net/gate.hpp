// SPDX-License-Identifier: Apache-2.0
// A bound that callers wait at: so many calls, so many bytes, at once. First come, first served. Every wait ends by its
// limits or when the gate closes. Thread-safe; it outlives its passes and the coroutines that wait at it.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <variant>

#include "core/async.hpp"
#include "net/peer.hpp"

namespace ephfs::net {

class Gate {
 public:
  /// Room for `amount`, given back when it is destroyed.
  class Pass {
   public:
    Pass() = default;
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)), amount_(other.amount_) {}
    Pass& operator=(Pass&& other) noexcept {
      if (this != &other) {
        reset();
        gate_ = std::exchange(other.gate_, nullptr);
        amount_ = other.amount_;
      }
      return *this;
    }
    ~Pass() { reset(); }
    void reset() {
      if (gate_ != nullptr) std::exchange(gate_, nullptr)->leave(amount_);
    }

   private:
    friend class Gate;
    Pass(Gate* gate, std::size_t amount) : gate_(gate), amount_(amount) {}
    Gate* gate_ = nullptr;
    std::size_t amount_ = 0;
  };

  /// Lets in `room` at once and keeps at most `waiters_max` waiting.
  Gate(std::size_t room, std::size_t waiters_max) : room_(room), free_(room), waiters_max_(waiters_max) {}

  /// None when there is no room now, somebody waits already, or the gate is closed.
  [[nodiscard]] std::optional<Pass> try_enter(std::size_t amount);
  /// `amount` is at most the room. busy when too many wait, unreachable when the gate closes, timed_out, cancelled.
  [[nodiscard]] awaitable<Result<Pass>> enter(std::size_t amount, core::Clock& clock, CallLimits limits);
  /// The same without a limit: until the gate closes.
  [[nodiscard]] awaitable<Result<Pass>> enter(std::size_t amount);
  /// Turns away all who wait and all who come.
  void close();

 private:
  using Turn = core::Mailbox<Result<>>;
  struct Waiter {
    std::size_t amount = 0;
    Turn turn;
  };
  struct Place {
    std::uint64_t number = 0;
    Turn turn;
  };

  std::variant<Pass, core::Failure, Place> arrive(std::size_t amount);
  core::Failure give_up(const Place& place, std::size_t amount, core::Failure why);
  void leave(std::size_t amount);
  void admit_next();  // with mutex_ held

  std::mutex mutex_;
  const std::size_t room_;
  std::size_t free_;
  const std::size_t waiters_max_;
  bool closed_ = false;
  std::uint64_t next_number_ = 1;
  std::map<std::uint64_t, Waiter> waiters_;  // by number, which is the order of arrival
};

}  // namespace ephfs::net
