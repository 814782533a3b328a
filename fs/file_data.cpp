// SPDX-License-Identifier: Apache-2.0
#include "fs/file_data.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

namespace ephfs::fs {
namespace {

std::uint64_t end_of(const meta::ExtentRecord& slice) {
  return slice.offset + slice.length;
}

meta::ExtentRecord clipped(meta::ExtentRecord slice, std::uint64_t from, std::uint64_t to) {
  const std::uint64_t end = std::min(end_of(slice), to);
  slice.offset = std::max(slice.offset, from);
  slice.length = end - slice.offset;
  return slice;
}

}  // namespace

ExtentMap::ExtentMap(std::vector<meta::ExtentRecord> extents) {
  for (const auto& extent : extents) insert(extent);
}

ExtentMap::Slices::const_iterator ExtentMap::first_after(std::uint64_t offset) const {
  const auto slice = slices_.upper_bound(offset);
  if (slice != slices_.begin()) {
    const auto before = std::prev(slice);
    if (end_of(before->second) > offset) return before;
  }
  return slice;
}

void ExtentMap::insert(const meta::ExtentRecord& slice) {
  slices_.emplace_hint(slices_.upper_bound(slice.offset), slice.offset, slice);
  stripe_bytes_[slice.stripe] += slice.length;
  bytes_ += slice.length;
}

ExtentMap::Slices::iterator ExtentMap::remove(Slices::const_iterator slice) {
  const auto in_stripe = stripe_bytes_.find(slice->second.stripe);
  in_stripe->second -= slice->second.length;
  if (in_stripe->second == 0) stripe_bytes_.erase(in_stripe);
  bytes_ -= slice->second.length;
  return slices_.erase(slice);
}

std::vector<meta::ExtentRecord> ExtentMap::overlapping(std::uint64_t from, std::uint64_t to) const {
  std::vector<meta::ExtentRecord> found;
  for (auto slice = first_after(from); slice != slices_.end() && slice->first < to; ++slice) {
    found.push_back(slice->second);
  }
  return found;
}

void ExtentMap::put(const meta::ExtentRecord& extent, meta::Changes& changes) {
  if (extent.length == 0) return;
  erase(extent.offset, end_of(extent), changes);
  insert(extent);
  changes.emplace_back(meta::PutExtent{extent});
}

void ExtentMap::erase(std::uint64_t from, std::uint64_t to, meta::Changes& changes) {
  if (from >= to) return;
  const auto keep = [&](const meta::ExtentRecord& slice) {
    insert(slice);
    changes.emplace_back(meta::PutExtent{slice});
  };
  for (auto found = first_after(from); found != slices_.end() && found->first < to; found = first_after(from)) {
    const meta::ExtentRecord slice = found->second;
    remove(found);
    if (slice.offset >= from) changes.emplace_back(meta::DropExtent{slice.inode, slice.offset});
    if (slice.offset < from) keep(clipped(slice, 0, from));
    if (end_of(slice) > to) keep(clipped(slice, to, end_of(slice)));
  }
}

ExtentMap::Saved ExtentMap::save(std::uint64_t from, std::uint64_t to) const {
  Saved saved{from, to, overlapping(from, to)};
  if (!saved.slices.empty()) {
    saved.from = std::min(from, saved.slices.front().offset);
    saved.to = std::max(to, end_of(saved.slices.back()));
  }
  return saved;
}

void ExtentMap::restore(const Saved& saved) {
  auto slice = slices_.lower_bound(saved.from);
  while (slice != slices_.end() && slice->first < saved.to) slice = remove(slice);
  for (const auto& before : saved.slices) insert(before);
}

std::optional<std::uint64_t> ExtentMap::next_data(std::uint64_t from) const {
  const auto slice = first_after(from);
  if (slice == slices_.end()) return std::nullopt;
  return std::max(from, slice->first);
}

std::uint64_t ExtentMap::next_hole(std::uint64_t from) const {
  for (auto slice = first_after(from); slice != slices_.end() && slice->first <= from; ++slice) {
    from = end_of(slice->second);
  }
  return from;
}

std::vector<StripeNumber> ExtentMap::stripes() const {
  std::vector<StripeNumber> list;
  list.reserve(stripe_bytes_.size());
  for (const auto& [stripe, bytes] : stripe_bytes_) list.push_back(stripe);
  std::sort(list.begin(), list.end());
  return list;
}

std::uint64_t ExtentMap::bytes_in(StripeNumber stripe) const {
  const auto found = stripe_bytes_.find(stripe);
  return found == stripe_bytes_.end() ? 0 : found->second;
}

std::vector<meta::ExtentRecord> ExtentMap::all() const {
  return overlapping(0, std::numeric_limits<std::uint64_t>::max());
}

FileData::FileData(core::FileId file, core::Key key, ExtentMap extents)
    : file_(file), key_(std::make_shared<const core::Key>(std::move(key))), extents_(std::move(extents)) {}

ReadPlan FileData::plan_read(std::uint64_t offset, core::MutableByteView out, std::uint64_t size) const {
  ReadPlan plan;
  plan.file = file_;
  plan.key = key_;
  if (offset >= size) return plan;
  plan.length = static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), size - offset));
  const auto zero = [&](std::uint64_t from, std::uint64_t to) {
    if (from < to) std::memset(out.data() + (from - offset), 0, to - from);
  };
  // [from, to) has no dirty bytes: slices where they are, holes elsewhere.
  const auto below = [&](std::uint64_t from, std::uint64_t to) {
    for (const auto& extent : extents_.overlapping(from, to)) {
      const auto part = clipped(extent, from, to);
      zero(from, part.offset);
      plan.parts.push_back(
          {extent, part.offset, static_cast<std::size_t>(part.offset - offset), static_cast<std::size_t>(part.length)});
      from = end_of(part);
    }
    zero(from, to);
  };
  std::uint64_t done = offset;
  for (const auto& run : dirty_.overlapping(offset, offset + plan.length)) {
    if (done < run.offset) below(done, run.offset);
    std::memcpy(out.data() + (run.offset - offset), run.bytes.data(), run.bytes.size());
    done = run.end();
  }
  if (done < offset + plan.length) below(done, offset + plan.length);
  return plan;
}

std::optional<std::uint64_t> FileData::seek_data(std::uint64_t from, std::uint64_t size) const {
  auto found = extents_.next_data(from);
  const auto dirty = dirty_.next_data(from);
  if (dirty && (!found || *dirty < *found)) found = dirty;
  if (!found || *found >= size) return std::nullopt;
  return found;
}

std::uint64_t FileData::seek_hole(std::uint64_t from, std::uint64_t size) const {
  for (;;) {
    const std::uint64_t next = dirty_.next_hole(extents_.next_hole(from));
    if (next == from || next >= size) return std::min(next, size);
    from = next;
  }
}

void FileData::note_unsettled(StripeNumber stripe) {
  unsettled_[stripe] = ++last_mark_;
  if (unsettled_.size() < unsettled_due_) return;
  // A file that is written over and over leaves stripes behind without end.
  std::erase_if(unsettled_, [&](const auto& one) { return extents_.bytes_in(one.first) == 0; });
  unsettled_due_ = std::max(kUnsettledMin, 2 * unsettled_.size());
}

std::vector<FileData::Unsettled> FileData::unsettled() const {
  std::vector<Unsettled> list;
  for (const auto& [stripe, mark] : unsettled_) {
    if (extents_.bytes_in(stripe) > 0) list.push_back({stripe, mark});
  }
  return list;
}

void FileData::note_settled(const std::vector<Unsettled>& settled) {
  for (const auto& one : settled) {
    const auto found = unsettled_.find(one.stripe);
    if (found != unsettled_.end() && found->second == one.mark) unsettled_.erase(found);
  }
}

}  // namespace ephfs::fs
