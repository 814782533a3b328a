// SPDX-License-Identifier: Apache-2.0
#include "fs/left_names.hpp"

namespace ephfs::fs {

void LeftNames::leave(InodeNumber parent, const std::string& name, const CarriedDeadline& deadline, Boottime now) {
  forget_old(now);
  const Boottime until = now + kKept;
  left_[{parent, name}] = {deadline, until};
  by_age_.push_back({until, {parent, name}});
}

std::optional<CarriedDeadline> LeftNames::take(InodeNumber parent, const std::string& name, std::uint32_t owner,
                                               Boottime now) {
  forget_old(now);
  if (left_.empty()) return std::nullopt;  // nearly always: no name is copied to look for it
  const auto found = left_.find({parent, name});
  if (found == left_.end()) return std::nullopt;
  const CarriedDeadline deadline = found->second.deadline;
  left_.erase(found);
  if (deadline.owner != owner) return std::nullopt;
  return deadline;
}

void LeftNames::forget_old(Boottime now) {
  while (!by_age_.empty() && (by_age_.front().first <= now || by_age_.size() >= kNamesMax)) {
    const auto found = left_.find(by_age_.front().second);
    if (found != left_.end() && found->second.until == by_age_.front().first) left_.erase(found);
    by_age_.pop_front();
  }
}

}  // namespace ephfs::fs
