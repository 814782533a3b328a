// SPDX-License-Identifier: Apache-2.0
#include "net/gate.hpp"

namespace ephfs::net {

using core::Error;
using core::fail;

std::optional<Gate::Pass> Gate::try_enter(std::size_t amount) {
  const std::lock_guard lock(mutex_);
  if (closed_ || !waiters_.empty() || amount > free_) return std::nullopt;
  free_ -= amount;
  return Pass(this, amount);
}

std::variant<Gate::Pass, core::Failure, Gate::Place> Gate::arrive(std::size_t amount) {
  EPHFS_CHECK(amount <= room_, "what enters a gate fits through it");
  const std::lock_guard lock(mutex_);
  if (closed_) return fail(Error::unreachable, "the session has ended");
  if (waiters_.empty() && amount <= free_) {
    free_ -= amount;
    return Pass(this, amount);
  }
  if (waiters_.size() >= waiters_max_) return fail(Error::busy, "too many calls wait for this peer");
  Place place;
  place.number = next_number_++;
  waiters_.emplace(place.number, Waiter{amount, place.turn});
  return place;
}

awaitable<Result<Gate::Pass>> Gate::enter(std::size_t amount, core::Clock& clock, CallLimits limits) {
  auto arrival = arrive(amount);
  if (auto* pass = std::get_if<Pass>(&arrival)) co_return std::move(*pass);
  if (auto* refusal = std::get_if<core::Failure>(&arrival)) co_return std::move(*refusal);
  const Place place = std::get<Place>(arrival);
  const std::stop_callback on_stop(limits.stop, [turn = place.turn] { turn.post(fail(Error::cancelled)); });
  auto letter = co_await place.turn.receive_until(clock, limits.until);
  if (!letter) co_return give_up(place, amount, fail(Error::timed_out, "waiting for a turn"));
  if (!*letter) co_return give_up(place, amount, std::move(*letter).error());
  co_return Pass(this, amount);
}

awaitable<Result<Gate::Pass>> Gate::enter(std::size_t amount) {
  auto arrival = arrive(amount);
  if (auto* pass = std::get_if<Pass>(&arrival)) co_return std::move(*pass);
  if (auto* refusal = std::get_if<core::Failure>(&arrival)) co_return std::move(*refusal);
  const Place place = std::get<Place>(arrival);
  auto letter = co_await place.turn.receive();
  if (!letter) co_return std::move(letter).error();
  co_return Pass(this, amount);
}

core::Failure Gate::give_up(const Place& place, std::size_t amount, core::Failure why) {
  {
    const std::lock_guard lock(mutex_);
    // Whoever waited behind may fit where this one did not.
    if (waiters_.erase(place.number) > 0) admit_next();
  }
  // The turn may have come in the same moment: it is given back.
  while (const auto letter = place.turn.try_receive()) {
    if (*letter) leave(amount);
  }
  return why;
}

void Gate::leave(std::size_t amount) {
  const std::lock_guard lock(mutex_);
  free_ += amount;
  admit_next();
}

void Gate::admit_next() {
  while (!waiters_.empty() && waiters_.begin()->second.amount <= free_) {
    const auto first = waiters_.extract(waiters_.begin());
    free_ -= first.mapped().amount;
    first.mapped().turn.post({});
  }
}

void Gate::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  for (const auto& [number, waiter] : waiters_) waiter.turn.post(fail(Error::unreachable, "the session has ended"));
  waiters_.clear();
}

}  // namespace ephfs::net
