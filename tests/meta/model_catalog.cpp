// SPDX-License-Identifier: Apache-2.0
#include "tests/meta/model_catalog.hpp"

#include <algorithm>
#include <limits>
#include <tuple>

#include <sys/stat.h>

namespace ephfs::meta::testing {

using core::Error;
using core::fail;
using core::Instant;

namespace {

constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

template <class Map, class Key>
auto find_in(const Map& map, const Key& key) {
  const auto found = map.find(key);
  return found == map.end() ? std::nullopt : std::optional(found->second);
}

bool is_range(std::uint64_t offset, std::uint64_t length) {
  return length > 0 && offset <= kMax && length <= kMax - offset;
}
bool is_profile(core::Profile profile) {
  return profile.k >= 1 && profile.k <= 16 && profile.m <= 4;
}

}  // namespace

bool ModelCatalog::State::apply_death(const Change& change) {
  if (const auto* put_file = std::get_if<PutDeadFile>(&change)) {
    const DeadFileRecord& dead = put_file->file;
    if (dead.number.value == 0 || dead.size > kMax || dead.extents.size() > kDeadExtentsMax) return false;
    dead_files[dead.number] = dead;
  } else if (const auto* drop_file = std::get_if<DropDeadFile>(&change)) {
    dead_files.erase(drop_file->number);
  } else if (const auto* put_stripe = std::get_if<PutDeadStripe>(&change)) {
    const DeadStripeRecord& dead = put_stripe->stripe;
    if (dead.number.value <= 0 || !is_profile(dead.profile) || dead.length > kMax) return false;
    dead_stripes[dead.number] = dead;
  } else if (const auto* drop_stripe = std::get_if<DropDeadStripe>(&change)) {
    dead_stripes.erase(drop_stripe->number);
    std::erase_if(dead_shards, [&](const auto& entry) { return std::get<0>(entry.first) == drop_stripe->number; });
  } else if (const auto* put_shard = std::get_if<PutDeadShard>(&change)) {
    const DeadShardRecord& dead = put_shard->shard;
    if (dead.index >= 20) return false;
    dead_shards[{dead.stripe, dead.index, dead.node}] = dead;
  } else if (const auto* put_audit = std::get_if<PutAudit>(&change)) {
    if (put_audit->audit.index >= 20) return false;
    audits[{put_audit->audit.stripe, put_audit->audit.index}] = put_audit->audit;
  }
  return true;
}

bool ModelCatalog::State::apply(const Change& change) {
  if (const auto* put_inode = std::get_if<PutInode>(&change)) {
    const InodeRecord& inode = put_inode->inode;
    if (inode.number.value == 0 || inode.number.value > kMax || inode.size > kMax) return false;
    if (inode.profile && !is_profile(*inode.profile)) return false;
    inodes[inode.number] = inode;
    last_inode = std::max(last_inode, inode.number);
  } else if (const auto* drop_inode = std::get_if<DropInode>(&change)) {
    if (inodes.erase(drop_inode->inode) == 0) return true;
    std::erase_if(xattrs, [&](const auto& entry) { return entry.first.first == drop_inode->inode; });
    std::erase_if(extents, [&](const auto& entry) { return entry.first.first == drop_inode->inode; });
  } else if (const auto* put_name = std::get_if<PutName>(&change)) {
    if (put_name->name.empty()) return false;
    names[{put_name->parent, put_name->name}] = put_name->inode;
  } else if (const auto* drop_name = std::get_if<DropName>(&change)) {
    names.erase({drop_name->parent, drop_name->name});
  } else if (const auto* put_xattr = std::get_if<PutXattr>(&change)) {
    xattrs[{put_xattr->inode, put_xattr->name}] = put_xattr->value;
  } else if (const auto* drop_xattr = std::get_if<DropXattr>(&change)) {
    xattrs.erase({drop_xattr->inode, drop_xattr->name});
  } else if (const auto* put_extent = std::get_if<PutExtent>(&change)) {
    const ExtentRecord& extent = put_extent->extent;
    if (!is_range(extent.offset, extent.length) || !is_range(extent.origin_offset, extent.origin_length) ||
        !is_range(extent.stripe_offset, extent.origin_length)) {
      return false;
    }
    extents[{extent.inode, extent.offset}] = extent;
  } else if (const auto* drop_extent = std::get_if<DropExtent>(&change)) {
    extents.erase({drop_extent->inode, drop_extent->offset});
  } else if (const auto* put_stripe = std::get_if<PutStripe>(&change)) {
    const StripeRecord& stripe = put_stripe->stripe;
    if (stripe.number.value <= 0 || !is_profile(stripe.profile) || stripe.length > kMax) return false;
    stripes[stripe.number] = stripe;
    last_stripe = std::max(last_stripe, stripe.number);
  } else if (const auto* drop_stripe = std::get_if<DropStripe>(&change)) {
    if (stripes.erase(drop_stripe->stripe) == 0) return true;
    std::erase_if(placements, [&](const auto& entry) { return entry.first.first == drop_stripe->stripe; });
    std::erase_if(audits, [&](const auto& entry) { return entry.first.first == drop_stripe->stripe; });
  } else if (const auto* put_placement = std::get_if<PutPlacement>(&change)) {
    const PlacementRecord& placement = put_placement->placement;
    if (placement.index >= 20) return false;
    placements[{placement.stripe, placement.index}] = placement;
  } else if (const auto* put_removal = std::get_if<PutRemoval>(&change)) {
    removals[{put_removal->removal.shard, put_removal->removal.node}] = put_removal->removal;
  } else if (const auto* drop_removal = std::get_if<DropRemoval>(&change)) {
    removals.erase({drop_removal->shard, drop_removal->node});
  } else if (const auto* put_value = std::get_if<PutValue>(&change)) {
    values[put_value->key] = put_value->value;
  } else {
    return apply_death(change);
  }
  return true;
}

bool ModelCatalog::State::is_whole() const {
  const auto has_inode = [&](InodeNumber number) { return inodes.contains(number); };
  const auto has_stripe = [&](StripeNumber number) { return stripes.contains(number); };
  return std::ranges::all_of(names, [&](const auto& e) { return has_inode(e.first.first) && has_inode(e.second); }) &&
         std::ranges::all_of(xattrs, [&](const auto& e) { return has_inode(e.first.first); }) &&
         std::ranges::all_of(extents,
                             [&](const auto& e) { return has_inode(e.first.first) && has_stripe(e.second.stripe); }) &&
         std::ranges::all_of(placements, [&](const auto& e) { return has_stripe(e.first.first); }) &&
         std::ranges::all_of(audits, [&](const auto& e) { return has_stripe(e.first.first); });
}

StripeRecord ModelCatalog::State::with_live(StripeRecord stripe) const {
  stripe.live = 0;
  for (const auto& [key, extent] : extents) {
    if (extent.stripe == stripe.number) stripe.live += extent.length;
  }
  return stripe;
}

Result<> ModelCatalog::commit(const Changes& changes) {
  const std::lock_guard lock(shared_->mutex);
  State next = shared_->state;
  for (const Change& change : changes) {
    if (!next.apply(change)) return fail(Error::invalid_argument, "no record");
  }
  if (!next.is_whole()) return fail(Error::invalid_argument, "a reference leads nowhere");
  shared_->state = std::move(next);
  return {};
}

Result<std::optional<core::Bytes>> ModelCatalog::value(const std::string& key) const {
  const std::lock_guard lock(shared_->mutex);
  return find_in(shared_->state.values, key);
}

Result<std::optional<InodeRecord>> ModelCatalog::inode(InodeNumber number) const {
  const std::lock_guard lock(shared_->mutex);
  return find_in(shared_->state.inodes, number);
}

Result<std::vector<InodeRecord>> ModelCatalog::inodes(const std::vector<InodeNumber>& numbers) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<InodeRecord> found;
  for (const InodeNumber number : numbers) {
    if (auto inode = find_in(shared_->state.inodes, number)) found.push_back(*std::move(inode));
  }
  return found;
}

Result<InodeNumber> ModelCatalog::last_inode() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->state.last_inode;
}

Result<StripeNumber> ModelCatalog::last_stripe() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->state.last_stripe;
}

Result<std::optional<InodeRecord>> ModelCatalog::lookup(InodeNumber parent, const std::string& name) const {
  const std::lock_guard lock(shared_->mutex);
  const auto number = find_in(shared_->state.names, std::pair(parent, name));
  return number ? find_in(shared_->state.inodes, *number) : std::nullopt;
}

Result<std::vector<NameRecord>> ModelCatalog::names(InodeNumber parent, const std::string& after,
                                                    std::size_t limit) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<NameRecord> found;
  for (auto at = shared_->state.names.upper_bound({parent, after});
       at != shared_->state.names.end() && at->first.first == parent && found.size() < limit; ++at) {
    const InodeRecord& inode = shared_->state.inodes.at(at->second);
    found.push_back({at->first.second, at->second, inode.mode, inode.deadline});
  }
  return found;
}

Result<std::optional<std::pair<InodeNumber, std::string>>> ModelCatalog::parent_of(InodeNumber number) const {
  EPHFS_TRY(const auto places, names_of(number));
  return places.empty() ? std::nullopt : std::optional(places.front());
}

Result<std::vector<std::pair<InodeNumber, std::string>>> ModelCatalog::names_of(InodeNumber number) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<std::pair<InodeNumber, std::string>> found;
  for (const auto& [place, inode] : shared_->state.names) {
    if (inode == number) found.push_back(place);
  }
  return found;
}

Result<std::optional<core::Bytes>> ModelCatalog::xattr(InodeNumber number, const std::string& name) const {
  const std::lock_guard lock(shared_->mutex);
  return find_in(shared_->state.xattrs, std::pair(number, name));
}

Result<std::vector<std::string>> ModelCatalog::xattr_names(InodeNumber number) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<std::string> found;
  for (const auto& [key, value] : shared_->state.xattrs) {
    if (key.first == number) found.push_back(key.second);
  }
  return found;
}

Result<std::vector<ExtentRecord>> ModelCatalog::extents(InodeNumber number) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<ExtentRecord> found;
  for (const auto& [key, extent] : shared_->state.extents) {
    if (key.first == number) found.push_back(extent);
  }
  return found;
}

Result<InodeTies> ModelCatalog::ties(InodeNumber number) const {
  InodeTies ties;
  EPHFS_TRY(const auto record, inode(number));
  if (!record) return ties;
  ties.is_there = true;
  EPHFS_TRY(const auto names_in_it, names(number, "", 1));
  ties.has_names = !names_in_it.empty();
  EPHFS_TRY(ties.names, names_of(number));
  EPHFS_TRY(ties.extents, extents(number));
  return ties;
}

Result<std::vector<ExtentRecord>> ModelCatalog::extents_at(InodeNumber number,
                                                           const std::vector<std::uint64_t>& offsets) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<ExtentRecord> found;
  for (const std::uint64_t offset : offsets) {
    if (const auto extent = find_in(shared_->state.extents, std::pair(number, offset))) found.push_back(*extent);
  }
  return found;
}

Result<std::vector<ExtentRecord>> ModelCatalog::extents_in(StripeNumber stripe) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<ExtentRecord> found;
  for (const auto& [key, extent] : shared_->state.extents) {
    if (extent.stripe == stripe) found.push_back(extent);
  }
  return found;
}

Result<std::optional<StripeRecord>> ModelCatalog::stripe(StripeNumber number) const {
  const std::lock_guard lock(shared_->mutex);
  const auto record = find_in(shared_->state.stripes, number);
  return record ? std::optional(shared_->state.with_live(*record)) : std::nullopt;
}

template <class Keep>
std::vector<StripeRecord> ModelCatalog::stripes_where(std::size_t limit, Keep keep) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<StripeRecord> found;
  for (const auto& [number, record] : shared_->state.stripes) {
    const StripeRecord stripe = shared_->state.with_live(record);
    if (found.size() < limit && keep(stripe)) found.push_back(stripe);
  }
  return found;
}

Result<std::vector<StripeRecord>> ModelCatalog::stripes_in_state(StripeState state, std::size_t limit) const {
  return stripes_where(limit, [&](const StripeRecord& stripe) { return stripe.state == state; });
}

Result<std::vector<StripeRecord>> ModelCatalog::dead_stripes(Instant now, std::size_t limit) const {
  return stripes_where(limit, [&](const StripeRecord& stripe) {
    return (stripe.state != StripeState::open && stripe.live == 0) || stripe.deadline.passed(now);
  });
}

Result<std::vector<StripeRecord>> ModelCatalog::sparse_stripes(unsigned permille, Instant later,
                                                               std::size_t limit) const {
  return stripes_where(limit, [&](const StripeRecord& stripe) {
    return stripe.state == StripeState::placed && stripe.live * 1000 <= permille * stripe.length &&
           stripe.deadline > Deadline(later);
  });
}

Result<std::vector<PlacementRecord>> ModelCatalog::placements(StripeNumber stripe) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<PlacementRecord> found;
  for (const auto& [key, placement] : shared_->state.placements) {
    if (key.first == stripe) found.push_back(placement);
  }
  return found;
}

Result<std::vector<PlacementRecord>> ModelCatalog::owed(std::size_t limit) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<PlacementRecord> found;
  for (const auto& [key, placement] : shared_->state.placements) {
    if (!placement.stored && found.size() < limit) found.push_back(placement);
  }
  return found;
}

Result<std::vector<RemovalRecord>> ModelCatalog::removals(std::size_t limit) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<RemovalRecord> found;
  for (const auto& [key, removal] : shared_->state.removals) {
    if (found.size() < limit) found.push_back(removal);
  }
  return found;
}

Result<std::vector<ExpiredInode>> ModelCatalog::expired_inodes(Instant now, std::size_t limit) const {
  EPHFS_TRY(const auto numbers, expired(now, limit));
  std::vector<ExpiredInode> found;
  for (const InodeNumber number : numbers) {
    EPHFS_TRY(auto record, inode(number));
    auto& one = found.emplace_back(ExpiredInode{*std::move(record), {}, {}});
    EPHFS_TRY(one.names, names_of(number));
    EPHFS_TRY(one.extents, extents(number));
  }
  return found;
}

Result<std::vector<InodeNumber>> ModelCatalog::expired(Instant now, std::size_t limit) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<std::pair<Deadline, InodeNumber>> dead;
  for (const auto& [number, inode] : shared_->state.inodes) {
    if (inode.deadline.passed(now) && !inode.deadline.is_never()) dead.emplace_back(inode.deadline, number);
  }
  std::ranges::sort(dead);
  std::vector<InodeNumber> found;
  for (const auto& [deadline, number] : dead) {
    if (found.size() < limit) found.push_back(number);
  }
  return found;
}

Result<Deadline> ModelCatalog::next_deadline() const {
  const std::lock_guard lock(shared_->mutex);
  Deadline next = Deadline::never();
  for (const auto& [number, inode] : shared_->state.inodes) next = std::min(next, inode.deadline);
  return next;
}

Result<std::vector<InodeNumber>> ModelCatalog::orphans(std::size_t limit) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<InodeNumber> found;
  for (const auto& [number, inode] : shared_->state.inodes) {
    if (inode.links == 0 && found.size() < limit) found.push_back(number);
  }
  return found;
}

Result<ExpiringTotals> ModelCatalog::expiring(Instant from, Instant until) const {
  const std::lock_guard lock(shared_->mutex);
  ExpiringTotals totals;
  for (const auto& [number, inode] : shared_->state.inodes) {
    if (inode.deadline < Deadline(from) || inode.deadline >= Deadline(until)) continue;
    ++totals.files;
    totals.bytes += inode.size;
  }
  return totals;
}

Result<std::vector<ExpiringRecord>> ModelCatalog::expiring_list(const ExpiringRecord& after, Instant until,
                                                                std::size_t limit) const {
  const std::lock_guard lock(shared_->mutex);
  const auto place = [](const ExpiringRecord& one) { return std::tuple(one.deadline, one.size, one.inode); };
  std::vector<ExpiringRecord> list;
  for (const auto& [number, inode] : shared_->state.inodes) {
    const ExpiringRecord record{inode.deadline, inode.size, number, inode.mode};
    if (place(record) > place(after) && record.deadline < Deadline(until)) list.push_back(record);
  }
  std::ranges::sort(list, {}, place);
  if (list.size() > limit) list.resize(limit);
  return list;
}

Result<CatalogTotals> ModelCatalog::totals() const {
  const std::lock_guard lock(shared_->mutex);
  CatalogTotals totals{shared_->state.inodes.size(), 0, shared_->state.stripes.size()};
  for (const auto& [number, stripe] : shared_->state.stripes) totals.bytes += shared_->state.with_live(stripe).live;
  return totals;
}

Result<std::vector<StripeRecord>> ModelCatalog::stripes_after(StripeNumber after, std::size_t limit) const {
  return stripes_where(limit, [&](const StripeRecord& stripe) { return stripe.number > after; });
}

Result<std::vector<AuditRecord>> ModelCatalog::audits(StripeNumber stripe) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<AuditRecord> found;
  for (const auto& [key, audit] : shared_->state.audits) {
    if (key.first == stripe) found.push_back(audit);
  }
  return found;
}

Result<std::optional<DeadFileRecord>> ModelCatalog::dead_file(const core::FileId& file) const {
  const std::lock_guard lock(shared_->mutex);
  for (const auto& [number, dead] : shared_->state.dead_files) {
    if (dead.file == file) return std::optional(dead);
  }
  return std::optional<DeadFileRecord>();
}

Result<std::optional<DeadStripeRecord>> ModelCatalog::dead_stripe(StripeNumber number) const {
  const std::lock_guard lock(shared_->mutex);
  return find_in(shared_->state.dead_stripes, number);
}

Result<std::vector<DeadShardRecord>> ModelCatalog::dead_shards(StripeNumber stripe) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<DeadShardRecord> found;
  for (const auto& [key, dead] : shared_->state.dead_shards) {
    if (dead.stripe == stripe) found.push_back(dead);
  }
  return found;
}

Result<std::vector<DeadShardRecord>> ModelCatalog::unproven(const core::NodeId& node, Instant now,
                                                            std::size_t limit) const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<DeadShardRecord> found;
  for (const auto& [key, dead] : shared_->state.dead_shards) {
    if (dead.node == node && dead.ask_at && *dead.ask_at <= now) found.push_back(dead);
  }
  std::ranges::stable_sort(found, {}, &DeadShardRecord::ask_at);
  found.resize(std::min(limit, found.size()));
  return found;
}

Result<std::optional<Instant>> ModelCatalog::next_unproven(const core::NodeId& node) const {
  const std::lock_guard lock(shared_->mutex);
  std::optional<Instant> next;
  for (const auto& [key, dead] : shared_->state.dead_shards) {
    if (dead.node == node && dead.ask_at && (!next || *dead.ask_at < *next)) next = dead.ask_at;
  }
  return next;
}

Result<DeadNumbers> ModelCatalog::dead_before(Instant instant, std::size_t limit) const {
  const std::lock_guard lock(shared_->mutex);
  DeadNumbers found;
  for (const auto& [number, dead] : shared_->state.dead_files) {
    if (dead.died < instant && found.files.size() < limit) found.files.push_back(number);
  }
  for (const auto& [number, dead] : shared_->state.dead_stripes) {
    if (dead.died < instant && found.stripes.size() < limit) found.stripes.push_back(number);
  }
  return found;
}

Result<std::vector<std::string>> ModelCatalog::check() const {
  const std::lock_guard lock(shared_->mutex);
  std::vector<std::string> lines;
  std::map<InodeNumber, std::uint32_t> counts;
  for (const auto& [place, inode] : shared_->state.names) ++counts[inode];
  for (const auto& [number, inode] : shared_->state.inodes) {
    const std::uint32_t found = counts[number];
    const std::uint32_t due = !S_ISDIR(inode.mode) ? inode.links : (number != core::kRootInode && inode.links > 0);
    if (found != due) lines.push_back("inode " + std::to_string(number.value));
  }
  return lines;
}

}  // namespace ephfs::meta::testing
