// SPDX-License-Identifier: Apache-2.0
// Changes that a catalog has not been given yet: what they leave, record by record. A record that is dropped is
// here as "none"; a dropped inode hides all xattrs and extents that lie below. Not thread-safe. Private to meta/.
#pragma once

#include <map>
#include <set>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "meta/catalog.hpp"

namespace ephfs::meta {

using Place = std::pair<InodeNumber, std::string>;  // a name in a directory; or an xattr of an inode

/// A stripe whose record or live bytes changed, as it is now.
struct OverlaidStripe {
  StripeRecord record;  // its `live` counts
  bool is_put = false;  // else only extents in it came and went
};

class CatalogOverlay {
 public:
  /// `change` must be encodable (change_codec.hpp). Of a stripe that is put, `live` must be right.
  void apply(Change change);
  /// What `newer` says on top of this.
  void absorb(CatalogOverlay&& newer);
  [[nodiscard]] bool empty() const { return empty_; }
  /// The stripe as it is, with what else was put of it.
  void set_live(const StripeRecord& stripe);
  void set_totals(const CatalogTotals& totals) { totals_ = totals; }
  /// One commit that leads a catalog below to what this overlay says, whatever came in between.
  [[nodiscard]] Changes to_changes() const;

  // Each: null when nothing is said of it here, and an empty optional when it was dropped.
  [[nodiscard]] const std::optional<InodeRecord>* inode(InodeNumber number) const;
  [[nodiscard]] const std::optional<InodeNumber>* name(const Place& place) const;
  [[nodiscard]] const std::optional<core::Bytes>* xattr(const Place& place) const;
  /// Whether what lies below of the inode's xattrs and extents is gone.
  [[nodiscard]] bool hides(InodeNumber number) const { return hidden_.contains(number); }

  using Due = std::set<std::tuple<Deadline, std::uint64_t, InodeNumber>>;  // deadline, size, inode
  using Stripes = std::map<StripeNumber, OverlaidStripe>;
  [[nodiscard]] const StripeRecord* stripe(StripeNumber number) const;
  [[nodiscard]] const Stripes& stripes() const { return stripes_; }
  /// Inodes put here that die some time.
  [[nodiscard]] const Due& due() const { return due_; }
  [[nodiscard]] bool has_dead_files() const { return !dead_files_.empty(); }
  [[nodiscard]] bool has_removals() const { return !removals_.empty(); }
  /// Of everything, with this; none when nothing is said of it here.
  [[nodiscard]] const std::optional<CatalogTotals>& totals() const { return totals_; }

  using Placements = std::map<std::pair<StripeNumber, std::uint8_t>, PlacementRecord>;  // by index
  [[nodiscard]] const Placements& placements() const { return placements_; }
  using Names = std::map<Place, std::optional<InodeNumber>>;
  using Xattrs = std::map<Place, std::optional<core::Bytes>>;
  using Extents = std::map<std::pair<InodeNumber, std::uint64_t>, std::optional<ExtentRecord>>;
  [[nodiscard]] const Names& names() const { return names_; }
  [[nodiscard]] const Xattrs& xattrs() const { return xattrs_; }
  [[nodiscard]] const Extents& extents() const { return extents_; }
  [[nodiscard]] const std::unordered_map<InodeNumber, std::optional<InodeRecord>>& inodes() const { return inodes_; }
  /// The names put here that lead to the inode.
  [[nodiscard]] std::vector<Place> names_to(InodeNumber number) const;
  /// The largest inode number put here, dropped since or not; 0 for none.
  [[nodiscard]] InodeNumber last_inode() const { return last_inode_; }

 private:
  void set_inode(InodeNumber number, std::optional<InodeRecord> inode);
  void hide(InodeNumber number);
  void set_name(const Place& place, std::optional<InodeNumber> inode);
  void set_stripe(OverlaidStripe stripe);

  bool empty_ = true;
  std::unordered_map<InodeNumber, std::optional<InodeRecord>> inodes_;
  std::unordered_set<InodeNumber> hidden_;
  Names names_;
  std::set<std::pair<InodeNumber, Place>> leads_;  // the names that are put, by inode
  Xattrs xattrs_;
  Extents extents_;
  InodeNumber last_inode_;
  Due due_;
  Stripes stripes_;
  Placements placements_;
  std::map<std::pair<core::ShardId, core::NodeId>, std::optional<RemovalRecord>> removals_;
  std::map<InodeNumber, std::optional<DeadFileRecord>> dead_files_;
  std::optional<CatalogTotals> totals_;
};

}  // namespace ephfs::meta
