// SPDX-License-Identifier: Apache-2.0
#include "meta/catalog_overlay.hpp"

#include <algorithm>

namespace ephfs::meta {

namespace {

template <class Map, class Key>
const typename Map::mapped_type* find_in(const Map& map, const Key& key) {
  const auto found = map.find(key);
  return found == map.end() ? nullptr : &found->second;
}

template <class Map, class Key>
void erase_of(Map& map, InodeNumber number, const Key& first) {
  auto at = map.lower_bound(first);
  while (at != map.end() && at->first.first == number) at = map.erase(at);
}

template <class Map>
void take_over(Map& to, Map& from) {
  for (auto& [key, value] : from) to.insert_or_assign(key, std::move(value));
}

/// Two changes for each record: one puts it, the other drops it.
template <class Map, class Put, class Drop>
void add_changes(const Map& map, Changes& changes, Put put, Drop drop) {
  for (const auto& [key, record] : map) {
    if (record) {
      changes.emplace_back(put(key, *record));
    } else {
      changes.emplace_back(drop(key));
    }
  }
}

}  // namespace

void CatalogOverlay::apply(Change change) {
  empty_ = false;
  if (auto* put_inode = std::get_if<PutInode>(&change)) {
    const InodeNumber number = put_inode->inode.number;
    last_inode_ = std::max(last_inode_, number);
    set_inode(number, std::move(put_inode->inode));
  } else if (const auto* drop_inode = std::get_if<DropInode>(&change)) {
    set_inode(drop_inode->inode, std::nullopt);
    hide(drop_inode->inode);
  } else if (const auto* put_name = std::get_if<PutName>(&change)) {
    set_name({put_name->parent, put_name->name}, put_name->inode);
  } else if (const auto* drop_name = std::get_if<DropName>(&change)) {
    set_name({drop_name->parent, drop_name->name}, std::nullopt);
  } else if (auto* put_xattr = std::get_if<PutXattr>(&change)) {
    xattrs_[{put_xattr->inode, put_xattr->name}] = std::move(put_xattr->value);
  } else if (const auto* drop_xattr = std::get_if<DropXattr>(&change)) {
    xattrs_[{drop_xattr->inode, drop_xattr->name}] = std::nullopt;
  } else if (const auto* put_extent = std::get_if<PutExtent>(&change)) {
    extents_[{put_extent->extent.inode, put_extent->extent.offset}] = put_extent->extent;
  } else if (const auto* drop_extent = std::get_if<DropExtent>(&change)) {
    extents_[{drop_extent->inode, drop_extent->offset}] = std::nullopt;
  } else if (const auto* put_stripe = std::get_if<PutStripe>(&change)) {
    set_stripe({put_stripe->stripe, true});
  } else if (auto* put_placement = std::get_if<PutPlacement>(&change)) {
    PlacementRecord& row = put_placement->placement;
    placements_[{row.stripe, row.index}] = std::move(row);
  } else if (const auto* put_removal = std::get_if<PutRemoval>(&change)) {
    removals_[{put_removal->removal.shard, put_removal->removal.node}] = put_removal->removal;
  } else if (const auto* drop_removal = std::get_if<DropRemoval>(&change)) {
    removals_[{drop_removal->shard, drop_removal->node}] = std::nullopt;
  } else if (auto* put_dead = std::get_if<PutDeadFile>(&change)) {
    const InodeNumber number = put_dead->file.number;
    dead_files_[number] = std::move(put_dead->file);
  } else if (const auto* drop_dead = std::get_if<DropDeadFile>(&change)) {
    dead_files_[drop_dead->number] = std::nullopt;
  } else {
    EPHFS_CHECK(false, "an overlay holds what the journal has a form for");
  }
}

void CatalogOverlay::absorb(CatalogOverlay&& newer) {
  empty_ = empty_ && newer.empty_;
  last_inode_ = std::max(last_inode_, newer.last_inode_);
  for (const InodeNumber number : newer.hidden_) hide(number);
  for (auto& [number, inode] : newer.inodes_) set_inode(number, std::move(inode));
  for (const auto& [place, inode] : newer.names_) set_name(place, inode);
  take_over(xattrs_, newer.xattrs_);
  take_over(extents_, newer.extents_);
  take_over(placements_, newer.placements_);
  take_over(removals_, newer.removals_);
  take_over(dead_files_, newer.dead_files_);
  for (const auto& entry : newer.stripes_) set_stripe(entry.second);
  if (newer.totals_) totals_ = newer.totals_;
}

void CatalogOverlay::set_inode(InodeNumber number, std::optional<InodeRecord> inode) {
  auto& held = inodes_[number];
  if (held && !held->deadline.is_never()) due_.erase({held->deadline, held->size, number});
  held = std::move(inode);
  if (held && !held->deadline.is_never()) due_.emplace(held->deadline, held->size, number);
}

void CatalogOverlay::hide(InodeNumber number) {
  hidden_.insert(number);
  erase_of(xattrs_, number, Place{number, {}});
  erase_of(extents_, number, std::pair(number, std::uint64_t{0}));
}

void CatalogOverlay::set_name(const Place& place, std::optional<InodeNumber> inode) {
  auto& held = names_[place];
  if (held) leads_.erase({*held, place});
  held = inode;
  if (held) leads_.insert({*held, place});
}

void CatalogOverlay::set_stripe(OverlaidStripe stripe) {
  auto& held = stripes_[stripe.record.number];
  stripe.is_put = stripe.is_put || held.is_put;
  held = stripe;
}

void CatalogOverlay::set_live(const StripeRecord& stripe) {
  set_stripe({stripe, false});
}

Changes CatalogOverlay::to_changes() const {
  Changes changes;
  // A file that was made and dropped leaves no record but its number, which must not be given again.
  if (const auto* last = inode(last_inode_); last != nullptr && !*last) {
    InodeRecord number_only;
    number_only.number = last_inode_;
    changes.emplace_back(PutInode{number_only});
  }
  for (const InodeNumber number : hidden_) changes.emplace_back(DropInode{number});
  // In the order of the table that they go to.
  std::vector<const InodeRecord*> put;
  for (const auto& entry : inodes_) {
    if (entry.second) put.push_back(&*entry.second);
  }
  std::ranges::sort(put, {}, [](const InodeRecord* inode) { return inode->number; });
  for (const InodeRecord* inode : put) changes.emplace_back(PutInode{*inode});
  add_changes(
      names_, changes,
      [](const Place& place, InodeNumber inode) {
        return PutName{place.first, place.second, inode};
      },
      [](const Place& place) {
        return DropName{place.first, place.second};
      });
  add_changes(
      xattrs_, changes,
      [](const Place& place, const core::Bytes& value) {
        return PutXattr{place.first, place.second, value};
      },
      [](const Place& place) {
        return DropXattr{place.first, place.second};
      });
  for (const auto& [number, stripe] : stripes_) {
    if (stripe.is_put) changes.emplace_back(PutStripe{stripe.record});
  }
  for (const auto& entry : placements_) changes.emplace_back(PutPlacement{entry.second});
  add_changes(
      removals_, changes, [](const auto&, const RemovalRecord& removal) { return PutRemoval{removal}; },
      [](const auto& key) {
        return DropRemoval{key.first, key.second};
      });
  add_changes(
      extents_, changes, [](const auto&, const ExtentRecord& extent) { return PutExtent{extent}; },
      [](const auto& key) {
        return DropExtent{key.first, key.second};
      });
  add_changes(
      dead_files_, changes, [](InodeNumber, const DeadFileRecord& dead) { return PutDeadFile{dead}; },
      [](InodeNumber number) { return DropDeadFile{number}; });
  return changes;
}

const std::optional<InodeRecord>* CatalogOverlay::inode(InodeNumber number) const {
  return find_in(inodes_, number);
}
const std::optional<InodeNumber>* CatalogOverlay::name(const Place& place) const {
  return find_in(names_, place);
}
const std::optional<core::Bytes>* CatalogOverlay::xattr(const Place& place) const {
  return find_in(xattrs_, place);
}
const StripeRecord* CatalogOverlay::stripe(StripeNumber number) const {
  const auto found = stripes_.find(number);
  return found == stripes_.end() ? nullptr : &found->second.record;
}

std::vector<Place> CatalogOverlay::names_to(InodeNumber number) const {
  std::vector<Place> places;
  for (auto at = leads_.lower_bound({number, Place{}}); at != leads_.end() && at->first == number; ++at) {
    places.push_back(at->second);
  }
  return places;
}

}  // namespace ephfs::meta
