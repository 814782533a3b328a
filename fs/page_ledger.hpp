// SPDX-License-Identifier: Apache-2.0
// The inodes whose pages the kernel keeps for somebody, in memory that is shared with a process forked later:
// it can read them when this one was killed. So every number is stored by one atomic write, and no order of
// the writes leaves out an inode that is in.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "core/ids.hpp"
#include "core/result.hpp"

namespace ephfs::fs {

class PageLedger {
 public:
  using Place = std::uint32_t;

  /// Room for `places` inodes at once; memory is only taken for as many as there were. io when there is none.
  [[nodiscard]] static core::Result<std::unique_ptr<PageLedger>> make(std::size_t places);
  ~PageLedger();
  PageLedger(const PageLedger&) = delete;
  PageLedger& operator=(const PageLedger&) = delete;

  /// Writes it down; what remove() takes. One thread at a time. When all places are taken, the ledger can no
  /// longer tell which inodes are in, and says so to visit().
  [[nodiscard]] Place add(core::InodeNumber number);
  void remove(Place place);

  /// Every inode that is in. Once places were too few: every number from the root to the highest that was
  /// ever in.
  void visit(const std::function<void(core::InodeNumber)>& see) const;

 private:
  struct Shared {
    std::atomic<std::uint64_t> used{0};     // places that were ever taken
    std::atomic<std::uint64_t> highest{0};  // number that was ever in
    std::atomic<bool> overflowed{false};
  };
  using Number = std::atomic<std::uint64_t>;  // 0: free; the places lie behind what is shared
  static constexpr Place kNowhere = ~Place{0};

  PageLedger(Shared* shared, std::size_t places)
      : shared_(shared), numbers_(reinterpret_cast<Number*>(shared + 1)), places_(places) {}
  static std::size_t size_of(std::size_t places) { return sizeof(Shared) + places * sizeof(Number); }

  Shared* shared_;
  Number* numbers_;
  std::size_t places_;
  std::vector<Place> free_;  // below `used`
};

}  // namespace ephfs::fs
