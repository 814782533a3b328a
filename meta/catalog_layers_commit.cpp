// SPDX-License-Identifier: Apache-2.0
// What a commit leaves on top of the layers, and whether the catalog would take it. The rest: catalog_layers.cpp.
#include <algorithm>

#include "meta/catalog_layers.hpp"
#include "meta/change_rules.hpp"

namespace ephfs::meta {

using core::fail;

namespace {

core::Failure leads_nowhere(const std::string& what) {
  return fail(core::Error::invalid_argument, "catalog: " + what);
}

std::string words(InodeNumber number) {
  return "inode " + std::to_string(number.value);
}

}  // namespace

/// Applies changes to an overlay on top of layers that contain it, counting what comes and goes.
class CatalogLayers::Counting {
 public:
  Counting(const CatalogLayers& with, CatalogOverlay& newest) : with_(with), newest_(newest) {}

  Result<> apply(const Change& change) {
    if (const auto* put_inode = std::get_if<PutInode>(&change)) {
      EPHFS_TRY(const bool present, with_.has_inode(put_inode->inode.number));
      if (!present) ++inodes_;
    } else if (const auto* drop_inode = std::get_if<DropInode>(&change)) {
      EPHFS_TRY(const bool present, with_.has_inode(drop_inode->inode));
      // Dropping what is not there takes nothing with it.
      if (!present) return {};
      --inodes_;
      EPHFS_TRY(const auto extents, with_.extents(drop_inode->inode));
      for (const ExtentRecord& extent : extents) live_[extent.stripe] -= static_cast<std::int64_t>(extent.length);
    } else if (const auto* put_extent = std::get_if<PutExtent>(&change)) {
      const ExtentRecord& extent = put_extent->extent;
      EPHFS_TRY_VOID(forget_extent(extent.inode, extent.offset));
      live_[extent.stripe] += static_cast<std::int64_t>(extent.length);
    } else if (const auto* drop_extent = std::get_if<DropExtent>(&change)) {
      EPHFS_TRY_VOID(forget_extent(drop_extent->inode, drop_extent->offset));
    } else if (const auto* put_stripe = std::get_if<PutStripe>(&change)) {
      PutStripe counted = *put_stripe;
      EPHFS_TRY(const auto present, with_.stripe(counted.stripe.number));
      if (!present) ++stripes_;
      counted.stripe.live = present ? present->live : 0;
      newest_.apply(counted);
      return {};
    }
    newest_.apply(change);
    return {};
  }

  /// When all has been applied and checked.
  Result<> finish(CatalogTotals totals) {
    for (const auto& [number, delta] : live_) {
      EPHFS_TRY(auto stripe, with_.stripe(number));
      if (!stripe) continue;  // an extent in it came and went
      stripe->live += static_cast<std::uint64_t>(delta);
      newest_.set_live(*stripe);
      totals.bytes += static_cast<std::uint64_t>(delta);
    }
    totals.inodes += static_cast<std::uint64_t>(inodes_);
    totals.stripes += static_cast<std::uint64_t>(stripes_);
    newest_.set_totals(totals);
    return {};
  }

 private:
  Result<> forget_extent(InodeNumber inode, std::uint64_t offset) {
    EPHFS_TRY(const auto present, with_.extent_at(inode, offset));
    if (present) live_[present->stripe] -= static_cast<std::int64_t>(present->length);
    return {};
  }

  const CatalogLayers& with_;
  CatalogOverlay& newest_;
  std::map<StripeNumber, std::int64_t> live_;
  std::int64_t inodes_ = 0;
  std::int64_t stripes_ = 0;
};

Result<CatalogOverlay> CatalogLayers::overlay_of(const Changes& changes) const {
  CatalogOverlay newest;
  CatalogLayers with = *this;
  std::ranges::copy(overlays(), with.overlays_.begin() + 1);
  with.overlays_.front() = &newest;
  ++with.count_;
  for (const Change& change : changes) EPHFS_TRY_VOID(check_change(change));
  EPHFS_TRY_VOID(with.ask_for_extents(changes));
  Counting counting(with, newest);
  for (const Change& change : changes) {
    if (const auto* drop = std::get_if<DropInode>(&change); drop != nullptr && !is_new(drop->inode)) {
      EPHFS_TRY(with.ties_below_[drop->inode], below_.ties(drop->inode));
    }
    EPHFS_TRY_VOID(counting.apply(change));
  }
  EPHFS_TRY_VOID(with.check_references());
  EPHFS_TRY(const auto before, totals());
  EPHFS_TRY_VOID(counting.finish(before));
  return newest;
}

Result<> CatalogLayers::check_references() const {
  const CatalogOverlay& newest = *overlays_.front();
  for (const auto& [place, inode] : newest.names()) {
    if (!inode) continue;
    EPHFS_TRY_VOID(require_inode(place.first));
    EPHFS_TRY_VOID(require_inode(*inode));
  }
  for (const auto& [place, value] : newest.xattrs()) {
    if (value) EPHFS_TRY_VOID(require_inode(place.first));
  }
  // Extents of one file, in a few stripes, come by the hundred.
  std::optional<InodeNumber> known_inode;
  std::unordered_set<StripeNumber> known_stripes;
  for (const auto& [key, extent] : newest.extents()) {
    if (!extent) continue;
    if (key.first != known_inode) EPHFS_TRY_VOID(require_inode(key.first));
    known_inode = key.first;
    if (!known_stripes.insert(extent->stripe).second) continue;
    EPHFS_TRY(const auto stripe, this->stripe(extent->stripe));
    if (!stripe) return leads_nowhere("an extent in no stripe, of " + words(key.first));
  }
  for (const auto& [key, placement] : newest.placements()) {
    EPHFS_TRY(const auto stripe, this->stripe(key.first));
    if (!stripe) return leads_nowhere("a shard of no stripe");
  }
  for (const auto& [number, inode] : newest.inodes()) {
    if (!inode) EPHFS_TRY_VOID(check_nothing_leads_to(number));
  }
  return {};
}

Result<> CatalogLayers::check_nothing_leads_to(InodeNumber dropped) const {
  EPHFS_TRY(const auto places, names_of(dropped));
  if (!places.empty()) return leads_nowhere("a name leads to dropped " + words(dropped));
  EPHFS_TRY(const bool is_parent, has_names(dropped));
  if (is_parent) return leads_nowhere("a name in dropped " + words(dropped));
  return {};
}

Result<> CatalogLayers::require_inode(InodeNumber number) const {
  EPHFS_TRY(const bool present, has_inode(number));
  if (!present) return leads_nowhere("no " + words(number));
  return {};
}

Result<std::optional<ExtentRecord>> CatalogLayers::extent_at(InodeNumber number, std::uint64_t offset) const {
  if (const auto* said = overlaid_extent(number, offset)) return *said;
  const auto asked = extents_below_.find(number);
  EPHFS_CHECK(asked != extents_below_.end(), "what changes has been asked for");
  const auto found = std::ranges::lower_bound(asked->second, offset, {}, [](const auto& one) { return one.first; });
  EPHFS_CHECK(found != asked->second.end() && found->first == offset, "what changes has been asked for");
  return found->second;
}

Result<> CatalogLayers::ask_for_extents(const Changes& changes) {
  std::map<InodeNumber, std::vector<std::uint64_t>> wanted;
  for (const Change& change : changes) {
    if (const auto* put = std::get_if<PutExtent>(&change)) {
      wanted[put->extent.inode].push_back(put->extent.offset);
    } else if (const auto* drop = std::get_if<DropExtent>(&change)) {
      wanted[drop->inode].push_back(drop->offset);
    }
  }
  for (auto& [number, offsets] : wanted) {
    const InodeNumber inode = number;  // clang 14: no lambda may refer to a structured binding
    std::erase_if(offsets, [&](std::uint64_t offset) { return overlaid_extent(inode, offset) != nullptr; });
    if (offsets.empty()) continue;
    std::ranges::sort(offsets);
    offsets.erase(std::unique(offsets.begin(), offsets.end()), offsets.end());
    EPHFS_TRY(const auto found, below_.extents_at(number, offsets));
    auto& known = extents_below_[number];
    auto next = found.begin();
    for (const std::uint64_t offset : offsets) {
      known.emplace_back(offset, std::nullopt);
      if (next != found.end() && next->offset == offset) known.back().second = *next++;
    }
  }
  return {};
}

}  // namespace ephfs::meta
