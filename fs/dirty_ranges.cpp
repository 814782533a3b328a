// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "fs/file_data.hpp"

namespace ephfs::fs {
namespace {

/// The kernel writes a stream back in requests of up to 1 MiB, on several threads at once, so that they come out of
/// order: with pieces from this size on it is looked whether they have become a whole stripe.
constexpr std::size_t kJoinedAtOnce = 64U << 10U;

bool begins_stripe(std::uint64_t offset) {
  return offset % kRunBytesMax == 0;
}

/// Room is doubled, not more: while staging is full a stream's pieces become many runs, and of memory that was used
/// before all counts, also what is never written.
void append(PlainBytes& run, core::ByteView bytes) {
  const std::size_t needed = run.size() + bytes.size();
  if (needed > run.capacity()) run.reserve(std::min<std::size_t>(std::max(needed, 2 * run.size()), kRunBytesMax));
  run.append(bytes);
}

}  // namespace

DirtyRanges::Runs::const_iterator DirtyRanges::first_after(std::uint64_t offset) const {
  auto run = runs_.upper_bound(offset);
  if (run != runs_.begin()) {
    const auto before = std::prev(run);
    if (before->first + before->second.size() > offset) return before;
  }
  return run;
}

void DirtyRanges::write(std::uint64_t offset, core::ByteView bytes) {
  while (!bytes.empty()) {
    const auto next = runs_.upper_bound(offset);
    // Nothing is written into the next run here: it gets its part of the bytes in its own turn.
    std::uint64_t room =
        next == runs_.end() ? bytes.size() : std::min<std::uint64_t>(bytes.size(), next->first - offset);
    // Nor across a multiple of kRunBytesMax: pieces of a stream that come out of order then meet in the same runs.
    room = std::min(room, kRunBytesMax - offset % kRunBytesMax);
    const auto at = next == runs_.begin() ? runs_.end() : std::prev(next);
    const std::uint64_t in_run = at == runs_.end() ? 0 : offset - at->first;
    const bool overlaps = at != runs_.end() && in_run < at->second.size();
    const bool goes_on =
        at != runs_.end() && in_run == at->second.size() && in_run < kRunBytesMax && !begins_stripe(offset);
    if (overlaps || goes_on) {
      auto& run = at->second;
      room = std::min(room, kRunBytesMax - in_run);
      const std::size_t replaced = std::min<std::size_t>(room, run.size() - in_run);
      std::ranges::copy(bytes.first(replaced), run.mutable_view().subspan(in_run).begin());
      const bool was_full = run.size() == kRunBytesMax;
      append(run, bytes.subspan(replaced, room - replaced));
      bytes_ += room - replaced;
      if (!was_full && run.size() == kRunBytesMax) ++full_;
      if (run.size() >= kJoinedAtOnce) join_stripe(offset);
    } else {
      append(runs_.emplace_hint(next, offset, PlainBytes())->second, bytes.first(room));
      bytes_ += room;
      if (room == kRunBytesMax) ++full_;
      if (room >= kJoinedAtOnce) join_stripe(offset);
    }
    offset += room;
    bytes = bytes.subspan(room);
  }
}

/// Makes one run of the stripe around `offset` when its pieces are all there.
void DirtyRanges::join_stripe(std::uint64_t offset) {
  const std::uint64_t begin = offset - offset % kRunBytesMax;
  const auto first = runs_.find(begin);
  if (first == runs_.end() || first->second.size() == kRunBytesMax) return;
  std::uint64_t end = begin;
  auto last = first;
  for (; last != runs_.end() && last->first == end && end < begin + kRunBytesMax; ++last) end += last->second.size();
  if (end != begin + kRunBytesMax) return;
  first->second.reserve(kRunBytesMax);
  for (auto run = std::next(first); run != last; run = runs_.erase(run)) append(first->second, run->second.view());
  ++full_;
}

void DirtyRanges::erase(std::uint64_t from, std::uint64_t to) {
  for (auto found = first_after(from); found != runs_.end() && found->first < to; found = first_after(from)) {
    const std::uint64_t start = found->first;
    auto node = runs_.extract(found);
    auto& run = node.mapped();
    const std::uint64_t end = start + run.size();
    if (run.size() == kRunBytesMax) --full_;
    if (end > to) {
      runs_.emplace(to, PlainBytes(run.view().subspan(to - start)));
    }
    bytes_ -= std::min(end, to) - std::max(start, from);
    if (start < from) {
      run.shrink(from - start);
      runs_.insert(std::move(node));
    }
  }
}

DirtyRanges DirtyRanges::take(std::uint64_t from, std::uint64_t to) {
  DirtyRanges taken;
  for (const Run& run : overlapping(from, to)) taken.write(run.offset, run.bytes);
  erase(from, to);
  return taken;
}

void DirtyRanges::join_neighbours() {
  auto first = runs_.begin();
  while (first != runs_.end()) {
    std::uint64_t end = first->first + first->second.size();
    auto last = std::next(first);
    while (last != runs_.end() && last->first == end && end + last->second.size() - first->first <= kRunBytesMax) {
      end += last->second.size();
      ++last;
    }
    if (last != std::next(first) && end - first->first == kRunBytesMax) ++full_;
    first->second.reserve(end - first->first);
    for (auto run = std::next(first); run != last; run = runs_.erase(run)) {
      first->second.append(run->second.view());
    }
    first = last;
  }
}

std::uint64_t DirtyRanges::memory() const {
  std::uint64_t sum = 0;
  for (const auto& [offset, bytes] : runs_) sum += bytes.capacity();
  return sum;
}

std::vector<DirtyRanges::Run> DirtyRanges::overlapping(std::uint64_t from, std::uint64_t to) const {
  std::vector<Run> found;
  for (auto run = first_after(from); run != runs_.end() && run->first < to; ++run) {
    const std::uint64_t start = std::max(from, run->first);
    const std::uint64_t end = std::min(to, run->first + run->second.size());
    found.push_back({start, run->second.view().subspan(start - run->first, end - start)});
  }
  return found;
}

std::vector<DirtyRanges::Run> DirtyRanges::all() const {
  std::vector<Run> list;
  list.reserve(runs_.size());
  for (const auto& [offset, bytes] : runs_) list.push_back({offset, bytes.view()});
  return list;
}

std::optional<std::uint64_t> DirtyRanges::next_data(std::uint64_t from) const {
  const auto run = first_after(from);
  if (run == runs_.end()) return std::nullopt;
  return std::max(from, run->first);
}

std::uint64_t DirtyRanges::next_hole(std::uint64_t from) const {
  for (auto run = first_after(from); run != runs_.end() && run->first <= from; ++run) {
    from = run->first + run->second.size();
  }
  return from;
}

void DirtyRanges::clear() {
  runs_.clear();
  bytes_ = 0;
  full_ = 0;
}

}  // namespace ephfs::fs
