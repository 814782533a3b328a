// SPDX-License-Identifier: Apache-2.0
#include "fs/page_ledger.hpp"

#include <new>

#include <sys/mman.h>

namespace ephfs::fs {

core::Result<std::unique_ptr<PageLedger>> PageLedger::make(std::size_t places) {
  void* memory =
      ::mmap(nullptr, size_of(places), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return core::fail_errno("memory for the inodes with pages");
  // Fresh pages are zero, which is what a free place holds.
  return std::unique_ptr<PageLedger>(new PageLedger(new (memory) Shared, places));
}

PageLedger::~PageLedger() {
  (void)::munmap(shared_, size_of(places_));
}

PageLedger::Place PageLedger::add(core::InodeNumber number) {
  if (number.value > shared_->highest) shared_->highest = number.value;
  Place place = 0;
  if (!free_.empty()) {
    place = free_.back();
    free_.pop_back();
  } else if (shared_->used < places_) {
    place = static_cast<Place>(shared_->used++);
  } else {
    shared_->overflowed = true;
    return kNowhere;
  }
  numbers_[place] = number.value;
  return place;
}

void PageLedger::remove(Place place) {
  if (place == kNowhere) return;
  numbers_[place] = 0;
  free_.push_back(place);
}

void PageLedger::visit(const std::function<void(core::InodeNumber)>& see) const {
  if (shared_->overflowed) {
    for (std::uint64_t number = core::kRootInode.value; number <= shared_->highest; ++number) see({number});
    return;
  }
  for (std::uint64_t place = 0; place < shared_->used; ++place) {
    if (const std::uint64_t number = numbers_[place]; number != 0) see({number});
  }
}

}  // namespace ephfs::fs
