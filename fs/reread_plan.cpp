// SPDX-License-Identifier: Apache-2.0
#include "fs/reread_plan.hpp"

namespace ephfs::fs {

void RereadPlan::schedule(core::InodeNumber number, Watched& watched, core::Instant at) {
  if (watched.due && *watched.due <= at) return;
  if (watched.due) by_due_.erase({*watched.due, number});
  watched.due = at;
  by_due_.emplace(at, number);
}

void RereadPlan::watch(core::InodeNumber number, core::Milliseconds every, bool is_written, core::Instant now) {
  if (every.count() == 0) return forget(number);
  auto& watched = watched_[number];
  watched.every = every;
  watched.is_written = watched.is_written || is_written;
  // Who slides all the time is watched anew all the time: what was due before stays due.
  schedule(number, watched, now + every);
}

void RereadPlan::pages_read(core::InodeNumber number, core::Instant now) {
  const auto known = watched_.find(number);
  if (known != watched_.end()) schedule(number, known->second, now + known->second.every);
}

void RereadPlan::forget(core::InodeNumber number) {
  const auto known = watched_.find(number);
  if (known == watched_.end()) return;
  if (known->second.due) by_due_.erase({*known->second.due, number});
  watched_.erase(known);
}

std::optional<core::InodeNumber> RereadPlan::take_due(core::Instant now) {
  if (by_due_.empty() || now < by_due_.begin()->first) return std::nullopt;
  const core::InodeNumber number = by_due_.begin()->second;
  auto& watched = watched_.at(number);
  by_due_.erase(by_due_.begin());
  // What is read from now on is noted again, also while its pages are being dropped.
  watched.due.reset();
  if (watched.is_written) schedule(number, watched, now + watched.every);
  return number;
}

std::optional<core::Instant> RereadPlan::next() const {
  if (by_due_.empty()) return std::nullopt;
  return by_due_.begin()->first;
}

}  // namespace ephfs::fs
