// SPDX-License-Identifier: Apache-2.0
#include "meta/catalog_layers.hpp"

#include <algorithm>
#include <iterator>
#include <limits>

namespace ephfs::meta {

using core::Error;
using core::fail;

namespace {

constexpr std::size_t kPage = 256;
constexpr auto kEarliest = std::numeric_limits<std::int64_t>::min();
constexpr auto kLatest = std::numeric_limits<std::int64_t>::max();

}  // namespace

const std::optional<InodeRecord>* CatalogLayers::overlaid_inode(InodeNumber number) const {
  for (const auto* overlay : overlays()) {
    if (const auto* said = overlay->inode(number)) return said;
  }
  return nullptr;
}

const std::optional<InodeNumber>* CatalogLayers::overlaid_name(const Place& place) const {
  for (const auto* overlay : overlays()) {
    if (const auto* said = overlay->name(place)) return said;
  }
  return nullptr;
}

const StripeRecord* CatalogLayers::overlaid_stripe(StripeNumber number) const {
  for (const auto* overlay : overlays()) {
    if (const auto* said = overlay->stripe(number)) return said;
  }
  return nullptr;
}

Result<std::optional<InodeRecord>> CatalogLayers::inode(InodeNumber number) const {
  if (const auto* said = overlaid_inode(number)) return *said;
  if (is_new(number)) return std::optional<InodeRecord>();
  return below_.inode(number);
}

Result<std::vector<InodeRecord>> CatalogLayers::inodes(const std::vector<InodeNumber>& numbers) const {
  std::vector<InodeNumber> below;
  std::vector<InodeRecord> found;
  for (const InodeNumber number : numbers) {
    if (const auto* said = overlaid_inode(number)) {
      if (*said) found.push_back(**said);
    } else if (!is_new(number)) {
      below.push_back(number);
    }
  }
  if (below.empty()) return found;
  EPHFS_TRY(auto rows, below_.inodes(below));
  found.insert(found.end(), std::move_iterator(rows.begin()), std::move_iterator(rows.end()));
  return found;
}

Result<bool> CatalogLayers::has_inode(InodeNumber number) const {
  if (const auto* said = overlaid_inode(number)) return said->has_value();
  if (is_new(number)) return false;
  if (const auto* ties = ties_below(number)) return ties->is_there;
  EPHFS_TRY(const auto found, below_.inode(number));
  return found.has_value();
}

const InodeTies* CatalogLayers::ties_below(InodeNumber number) const {
  const auto found = ties_below_.find(number);
  return found == ties_below_.end() ? nullptr : &found->second;
}

Result<std::optional<InodeRecord>> CatalogLayers::lookup(InodeNumber parent, const std::string& name) const {
  if (const auto* said = overlaid_name({parent, name})) {
    if (!*said) return std::optional<InodeRecord>();
    return inode(**said);
  }
  if (is_new(parent)) return std::optional<InodeRecord>();
  EPHFS_TRY(auto found, below_.lookup(parent, name));
  if (!found) return found;
  if (const auto* said = overlaid_inode(found->number)) return *said;
  return found;
}

Result<std::vector<NameRecord>> CatalogLayers::names(InodeNumber parent, const std::string& after,
                                                     std::size_t limit) const {
  std::map<std::string, NameRecord> found;
  std::string at = after;
  bool more = limit > 0 && !is_new(parent);
  while (more && found.size() < limit) {
    EPHFS_TRY(auto page, below_.names(parent, at, limit));
    more = page.size() == limit;
    if (!page.empty()) at = page.back().name;
    for (NameRecord& name : page) {
      if (overlaid_name({parent, name.name}) != nullptr) continue;
      if (const auto* said = overlaid_inode(name.inode); said != nullptr && *said) {
        name.mode = (*said)->mode;
        name.deadline = (*said)->deadline;
      }
      found.emplace(name.name, std::move(name));
    }
  }
  // Of the overlays, what lies within what was read below; all that is behind when nothing more is below.
  for (const auto* overlay : overlays()) {
    std::size_t taken = 0;
    for (auto name = overlay->names().upper_bound({parent, after});
         name != overlay->names().end() && name->first.first == parent && taken < limit; ++name) {
      if (more && name->first.second > at) break;
      const auto* said = overlaid_name(name->first);
      if (!*said || found.contains(name->first.second)) continue;
      ++taken;
      EPHFS_TRY(const auto record, inode(**said));
      if (!record) return fail(Error::damaged, "catalog: a name leads to no inode " + std::to_string((**said).value));
      found.emplace(name->first.second, NameRecord{name->first.second, **said, record->mode, record->deadline});
    }
  }
  std::vector<NameRecord> listed;
  for (auto& entry : found) {
    if (listed.size() == limit) break;
    listed.push_back(std::move(entry.second));
  }
  return listed;
}

Result<std::vector<Place>> CatalogLayers::names_of(InodeNumber number) const {
  std::set<Place> places;
  if (!is_new(number)) {
    std::vector<Place> below;
    if (const auto* ties = ties_below(number)) {
      below = ties->names;
    } else {
      EPHFS_TRY(below, below_.names_of(number));
    }
    for (Place& place : below) {
      if (overlaid_name(place) == nullptr) places.insert(std::move(place));
    }
  }
  for (const auto* overlay : overlays()) {
    for (Place& place : overlay->names_to(number)) {
      const auto* said = overlaid_name(place);
      if (*said && **said == number) places.insert(std::move(place));
    }
  }
  return std::vector<Place>(places.begin(), places.end());
}

Result<std::optional<core::Bytes>> CatalogLayers::xattr(InodeNumber number, const std::string& name) const {
  for (const auto* overlay : overlays()) {
    if (const auto* said = overlay->xattr({number, name})) return *said;
    if (overlay->hides(number)) return std::optional<core::Bytes>();
  }
  return below_.xattr(number, name);
}

Result<std::vector<std::string>> CatalogLayers::xattr_names(InodeNumber number) const {
  std::map<std::string, bool> found;  // whether it is there
  bool hidden = false;
  for (const auto* overlay : overlays()) {
    if (hidden) break;
    for (auto at = overlay->xattrs().lower_bound({number, {}});
         at != overlay->xattrs().end() && at->first.first == number; ++at) {
      found.emplace(at->first.second, at->second.has_value());
    }
    hidden = overlay->hides(number);
  }
  if (!hidden && !is_new(number)) {
    EPHFS_TRY(auto below, below_.xattr_names(number));
    for (std::string& name : below) found.emplace(std::move(name), true);
  }
  std::vector<std::string> names;
  for (const auto& [name, is_there] : found) {
    if (is_there) names.push_back(name);
  }
  return names;
}

Result<std::vector<ExtentRecord>> CatalogLayers::extents(InodeNumber number) const {
  std::map<std::uint64_t, std::optional<ExtentRecord>> found;
  bool hidden = false;
  for (const auto* overlay : overlays()) {
    if (hidden) break;
    for (auto at = overlay->extents().lower_bound({number, 0});
         at != overlay->extents().end() && at->first.first == number; ++at) {
      found.emplace(at->first.second, at->second);
    }
    hidden = overlay->hides(number);
  }
  if (!hidden && !is_new(number)) {
    std::vector<ExtentRecord> below;
    if (const auto* ties = ties_below(number)) {
      below = ties->extents;
    } else {
      EPHFS_TRY(below, below_.extents(number));
    }
    if (found.empty()) return below;
    for (const ExtentRecord& extent : below) found.emplace(extent.offset, extent);
  }
  std::vector<ExtentRecord> extents;
  for (const auto& entry : found) {
    if (entry.second) extents.push_back(*entry.second);
  }
  return extents;
}

const std::optional<ExtentRecord>* CatalogLayers::overlaid_extent(InodeNumber number, std::uint64_t offset) const {
  static constexpr std::optional<ExtentRecord> kNone;
  for (const auto* overlay : overlays()) {
    const auto found = overlay->extents().find({number, offset});
    if (found != overlay->extents().end()) return &found->second;
    if (overlay->hides(number)) return &kNone;
  }
  return is_new(number) ? &kNone : nullptr;
}

Result<std::vector<ExtentRecord>> CatalogLayers::extents_at(InodeNumber number,
                                                            const std::vector<std::uint64_t>& offsets) const {
  std::vector<std::uint64_t> below;
  for (const std::uint64_t offset : offsets) {
    if (overlaid_extent(number, offset) == nullptr) below.push_back(offset);
  }
  std::vector<ExtentRecord> found;
  if (!below.empty()) {
    EPHFS_TRY(found, below_.extents_at(number, below));
  }
  if (below.size() == offsets.size()) return found;
  for (const std::uint64_t offset : offsets) {
    const auto* said = overlaid_extent(number, offset);
    if (said != nullptr && *said) found.push_back(**said);
  }
  std::ranges::sort(found, {}, &ExtentRecord::offset);
  return found;
}

Result<std::optional<StripeRecord>> CatalogLayers::stripe(StripeNumber number) const {
  if (const auto* said = overlaid_stripe(number)) return std::optional(*said);
  return below_.stripe(number);
}

Result<std::vector<PlacementRecord>> CatalogLayers::placements(StripeNumber stripe) const {
  EPHFS_TRY(auto found, below_.placements(stripe));
  // The newest first: the first that is there counts.
  std::map<std::uint8_t, PlacementRecord> rows;
  for (const auto* overlay : overlays()) {
    const auto& all = overlay->placements();
    for (auto at = all.lower_bound({stripe, 0}); at != all.end() && at->first.first == stripe; ++at) {
      rows.emplace(at->first.second, at->second);
    }
  }
  if (rows.empty()) return found;
  for (auto& row : found) rows.emplace(row.index, std::move(row));
  found.clear();
  for (auto& [index, row] : rows) found.push_back(std::move(row));
  return found;
}

Result<std::vector<StripeRecord>> CatalogLayers::dead_stripes(core::Instant now, std::size_t limit) const {
  std::vector<StripeRecord> dead;
  std::size_t overlaid = 0;
  const auto is_lifeless = [](const StripeRecord& stripe) {
    return stripe.live == 0 && stripe.state != StripeState::open;
  };
  for (const auto* overlay : overlays()) {
    overlaid += overlay->stripes().size();
    for (const auto& [number, stripe] : overlay->stripes()) {
      if (overlaid_stripe(number) != &stripe.record) continue;
      if (is_lifeless(stripe.record) || stripe.record.deadline.passed(now)) dead.push_back(stripe.record);
    }
  }
  EPHFS_TRY(const auto below, below_.dead_stripes(now, limit + overlaid));
  for (const StripeRecord& stripe : below) {
    if (overlaid_stripe(stripe.number) == nullptr) dead.push_back(stripe);
  }
  if (dead.size() > limit) dead.resize(limit);
  return dead;
}

Result<std::vector<ExpiringRecord>> CatalogLayers::expiring_list(const ExpiringRecord& after, core::Instant until,
                                                                 std::size_t limit) const {
  const auto order = [](const ExpiringRecord& a, const ExpiringRecord& b) {
    return std::tie(a.deadline, a.size, a.inode) < std::tie(b.deadline, b.size, b.inode);
  };
  std::vector<ExpiringRecord> list;
  for (const auto* overlay : overlays()) {
    std::size_t taken = 0;
    for (auto due = overlay->due().upper_bound({after.deadline, after.size, after.inode});
         due != overlay->due().end() && taken < limit; ++due) {
      const auto& [deadline, size, number] = *due;
      if (!deadline.passed(until - core::Milliseconds(1))) break;
      const auto* said = overlay->inode(number);
      if (overlaid_inode(number) != said) continue;
      list.push_back({deadline, size, number, (*said)->mode});
      ++taken;
    }
  }
  ExpiringRecord behind = after;
  const std::size_t page_size = std::max(limit, kPage);
  std::size_t taken = 0;
  for (bool more = limit > 0; more && taken < limit;) {
    EPHFS_TRY(const auto page, below_.expiring_list(behind, until, page_size));
    more = page.size() == page_size;
    for (const ExpiringRecord& record : page) {
      behind = record;
      if (overlaid_inode(record.inode) != nullptr) continue;
      list.push_back(record);
      ++taken;
    }
  }
  std::ranges::sort(list, order);
  if (list.size() > limit) list.resize(limit);
  return list;
}

Result<std::vector<InodeNumber>> CatalogLayers::expired(core::Instant now, std::size_t limit) const {
  const core::Instant until{now.ms < kLatest ? now.ms + 1 : kLatest};
  EPHFS_TRY(const auto list, expiring_list(ExpiringRecord::before({kEarliest}), until, limit));
  std::vector<InodeNumber> numbers;
  numbers.reserve(list.size());
  for (const ExpiringRecord& record : list) numbers.push_back(record.inode);
  return numbers;
}

Result<std::vector<ExpiredInode>> CatalogLayers::expired_inodes(core::Instant now, std::size_t limit) const {
  EPHFS_TRY(const auto numbers, expired(now, limit));
  std::vector<ExpiredInode> found;
  found.reserve(numbers.size());
  for (const InodeNumber number : numbers) {
    EPHFS_TRY(auto record, inode(number));
    if (!record) return fail(Error::damaged, "catalog: a deadline of no inode " + std::to_string(number.value));
    auto& one = found.emplace_back(ExpiredInode{*std::move(record), {}, {}});
    EPHFS_TRY(one.names, names_of(number));
    EPHFS_TRY(one.extents, extents(number));
  }
  return found;
}

Result<bool> CatalogLayers::has_names(InodeNumber directory) const {
  for (const auto* overlay : overlays()) {
    for (auto name = overlay->names().lower_bound({directory, {}});
         name != overlay->names().end() && name->first.first == directory; ++name) {
      if (overlaid_name(name->first)->has_value()) return true;
    }
  }
  const auto* ties = ties_below(directory);
  std::string after;
  for (bool more = !is_new(directory) && (ties == nullptr || ties->has_names); more;) {
    EPHFS_TRY(const auto page, below_.names(directory, after, kPage));
    more = page.size() == kPage;
    for (const NameRecord& name : page) {
      if (overlaid_name({directory, name.name}) == nullptr) return true;
    }
    if (more) after = page.back().name;
  }
  return false;
}

Result<InodeTies> CatalogLayers::ties(InodeNumber number) const {
  InodeTies ties;
  EPHFS_TRY(ties.is_there, has_inode(number));
  if (!ties.is_there) return ties;
  EPHFS_TRY(ties.has_names, has_names(number));
  EPHFS_TRY(ties.names, names_of(number));
  EPHFS_TRY(ties.extents, extents(number));
  return ties;
}

Result<CatalogTotals> CatalogLayers::totals() const {
  for (const auto* overlay : overlays()) {
    if (overlay->totals()) return *overlay->totals();
  }
  return below_.totals();
}

}  // namespace ephfs::meta
