// SPDX-License-Identifier: Apache-2.0
// A catalog with overlays in front of it, read as one: what an overlay says of a record counts, the newest
// first, and the catalog below is asked for the rest. As long as no overlay of these is changed or left out,
// and the catalog below changes only by an overlay of these being committed to it, an answer is that of one
// moment. Not thread-safe; made for one read or check and thrown away. Private to meta/.
#pragma once

#include <array>
#include <span>

#include "meta/catalog_overlay.hpp"

namespace ephfs::meta {

class CatalogLayers {
 public:
  /// Newest first; `older` may be null. The catalog below has no inode above `last_below` but from an overlay of these.
  CatalogLayers(const Catalog& below, InodeNumber last_below, const CatalogOverlay* newer, const CatalogOverlay* older)
      : below_(below), last_below_(last_below), overlays_{newer, older}, count_(older == nullptr ? 1 : 2) {}

  // What the overlays alone say; null when they say nothing.
  [[nodiscard]] const std::optional<InodeRecord>* overlaid_inode(InodeNumber number) const;
  [[nodiscard]] const std::optional<InodeNumber>* overlaid_name(const Place& place) const;
  [[nodiscard]] const StripeRecord* overlaid_stripe(StripeNumber number) const;

  // As the methods of Catalog.
  [[nodiscard]] Result<std::optional<InodeRecord>> inode(InodeNumber number) const;
  [[nodiscard]] Result<std::vector<InodeRecord>> inodes(const std::vector<InodeNumber>& numbers) const;
  [[nodiscard]] Result<std::optional<InodeRecord>> lookup(InodeNumber parent, const std::string& name) const;
  [[nodiscard]] Result<std::vector<NameRecord>> names(InodeNumber parent, const std::string& after,
                                                      std::size_t limit) const;
  [[nodiscard]] Result<std::vector<Place>> names_of(InodeNumber number) const;
  [[nodiscard]] Result<InodeTies> ties(InodeNumber number) const;
  [[nodiscard]] Result<std::optional<core::Bytes>> xattr(InodeNumber number, const std::string& name) const;
  [[nodiscard]] Result<std::vector<std::string>> xattr_names(InodeNumber number) const;
  [[nodiscard]] Result<std::vector<ExtentRecord>> extents(InodeNumber number) const;
  [[nodiscard]] Result<std::vector<ExtentRecord>> extents_at(InodeNumber number,
                                                             const std::vector<std::uint64_t>& offsets) const;
  [[nodiscard]] Result<std::optional<StripeRecord>> stripe(StripeNumber number) const;
  [[nodiscard]] Result<std::vector<PlacementRecord>> placements(StripeNumber stripe) const;
  [[nodiscard]] Result<std::vector<StripeRecord>> dead_stripes(core::Instant now, std::size_t limit) const;
  [[nodiscard]] Result<std::vector<ExpiringRecord>> expiring_list(const ExpiringRecord& after, core::Instant until,
                                                                  std::size_t limit) const;
  [[nodiscard]] Result<std::vector<InodeNumber>> expired(core::Instant now, std::size_t limit) const;
  [[nodiscard]] Result<std::vector<ExpiredInode>> expired_inodes(core::Instant now, std::size_t limit) const;
  [[nodiscard]] Result<CatalogTotals> totals() const;

  /// What `changes`, which must be encodable, leave on top of these layers, with the totals. invalid_argument when the
  /// catalog below would refuse them, given everything in the overlays.
  [[nodiscard]] Result<CatalogOverlay> overlay_of(const Changes& changes) const;

 private:
  class Counting;
  [[nodiscard]] std::span<const CatalogOverlay* const> overlays() const { return {overlays_.data(), count_}; }
  [[nodiscard]] bool is_new(InodeNumber number) const { return number > last_below_; }
  /// What the catalog below says of an inode that is not new; null where it has to be asked by parts.
  [[nodiscard]] const InodeTies* ties_below(InodeNumber number) const;
  [[nodiscard]] Result<bool> has_names(InodeNumber directory) const;
  /// What the overlays alone say; null when they say nothing, and an empty optional when there is none.
  [[nodiscard]] const std::optional<ExtentRecord>* overlaid_extent(InodeNumber number, std::uint64_t offset) const;
  [[nodiscard]] Result<std::optional<ExtentRecord>> extent_at(InodeNumber number, std::uint64_t offset) const;
  /// Asks the catalog below at once for all extents that the changes put or drop.
  [[nodiscard]] Result<> ask_for_extents(const Changes& changes);
  [[nodiscard]] Result<bool> has_inode(InodeNumber number) const;
  /// That everything the newest overlay put leads somewhere, and nothing leads to what it dropped.
  [[nodiscard]] Result<> check_references() const;
  [[nodiscard]] Result<> check_nothing_leads_to(InodeNumber dropped) const;
  [[nodiscard]] Result<> require_inode(InodeNumber number) const;

  const Catalog& below_;
  InodeNumber last_below_;
  std::array<const CatalogOverlay*, 3> overlays_;
  std::size_t count_;
  std::map<InodeNumber, InodeTies> ties_below_;  // of what is being dropped, read at once
  /// Below, of what is being changed, read at once: by offset.
  std::map<InodeNumber, std::vector<std::pair<std::uint64_t, std::optional<ExtentRecord>>>> extents_below_;
};

}  // namespace ephfs::meta
