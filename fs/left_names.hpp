// SPDX-License-Identifier: Apache-2.0
// Names that a file with an explicit deadline has just left, by unlink or rename. Programs save in three
// ways: they write into the file, they rename a new one over it, or they take the old one away first and make
// a new one under its name (vim, git checkout). For the third the deadline waits here for a moment. Not
// thread-safe.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "core/time.hpp"
#include "meta/catalog.hpp"

namespace ephfs::fs {

using core::Boottime;
using core::Deadline;
using core::InodeNumber;
using core::Milliseconds;

/// What a file that takes another's place gets of it, when both are the same user's: nobody lets another's file die.
struct CarriedDeadline {
  std::uint32_t owner = 0;
  Deadline deadline;
  Milliseconds ttl{0};
  meta::TtlMode mode = meta::TtlMode::fixed;
  bool is_explicit = false;
};

class LeftNames {
 public:
  /// A program that saves makes the new file at once; who makes one later means another file.
  static constexpr Milliseconds kKept{2000};
  /// At most so many; the oldest is forgotten first.
  static constexpr std::size_t kNamesMax = 1024;

  void leave(InodeNumber parent, const std::string& name, const CarriedDeadline& deadline, Boottime now);
  /// What was left under the name, once, and to its owner.
  [[nodiscard]] std::optional<CarriedDeadline> take(InodeNumber parent, const std::string& name, std::uint32_t owner,
                                                    Boottime now);

 private:
  using Place = std::pair<InodeNumber, std::string>;
  struct Left {
    CarriedDeadline deadline;
    Boottime until;
  };
  void forget_old(Boottime now);

  std::map<Place, Left> left_;
  std::deque<std::pair<Boottime, Place>> by_age_;  // may name what was taken or left anew since
};

}  // namespace ephfs::fs
