// SPDX-License-Identifier: Apache-2.0
// When the kernel's pages of files whose deadlines slide on reading are dropped, so that it asks again and the engine
// hears that they are read. Pages of which nothing was read since the last drop are left alone. Not thread-safe.
#pragma once

#include <optional>
#include <set>
#include <unordered_map>

#include "core/ids.hpp"
#include "core/time.hpp"

namespace ephfs::fs {

class RereadPlan {
 public:
  /// Pages of it may be there, or come: they are dropped within `every`. 0: they may stay, and it is forgotten.
  /// `is_written`: they may come at any time, so they are dropped again and again.
  void watch(core::InodeNumber number, core::Milliseconds every, bool is_written, core::Instant now);
  void pages_read(core::InodeNumber number, core::Instant now);
  void forget(core::InodeNumber number);

  /// The next whose pages are to be dropped now, with its plan moved on; none when nothing is due.
  [[nodiscard]] std::optional<core::InodeNumber> take_due(core::Instant now);
  /// When the next is due.
  [[nodiscard]] std::optional<core::Instant> next() const;

 private:
  struct Watched {
    core::Milliseconds every{0};
    bool is_written = false;
    std::optional<core::Instant> due;  // none: nothing was read since the last drop
  };
  /// Due at `at`, or as it is when that is sooner.
  void schedule(core::InodeNumber number, Watched& watched, core::Instant at);

  std::unordered_map<core::InodeNumber, Watched> watched_;
  std::set<std::pair<core::Instant, core::InodeNumber>> by_due_;
};

}  // namespace ephfs::fs
