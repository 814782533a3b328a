// SPDX-License-Identifier: Apache-2.0
#include "meta/change_rules.hpp"

#include <limits>

namespace ephfs::meta {

namespace {

constexpr auto kNumberMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

bool is_range(std::uint64_t offset, std::uint64_t length) {
  return length > 0 && offset <= kNumberMax && length <= kNumberMax - offset;
}

bool is_profile(core::Profile profile) {
  return profile.k >= 1 && profile.k <= core::kDataShardsMax && profile.m <= core::kParityShardsMax;
}

bool is_index(std::uint8_t index) {
  return index < core::kDataShardsMax + core::kParityShardsMax;
}

core::Failure refuse(const std::string& what) {
  return core::fail(core::Error::invalid_argument, "catalog: " + what);
}

Result<> check_inode_number(InodeNumber number) {
  if (number.value > kNumberMax) return refuse("no inode has the number " + std::to_string(number.value));
  return {};
}

/// One overload for each kind that has rules of its own.
struct Rules {
  Result<> operator()(const PutInode& put) const {
    const InodeRecord& inode = put.inode;
    if (inode.number.value == 0 || inode.number.value > kNumberMax || inode.size > kNumberMax ||
        inode.ttl_mode > TtlMode::accessed || (inode.profile && !is_profile(*inode.profile))) {
      return refuse("no record of inode " + std::to_string(inode.number.value));
    }
    return {};
  }
  Result<> operator()(const PutName& put) const {
    if (put.name.empty()) return refuse("an empty name in directory " + std::to_string(put.parent.value));
    return {};
  }
  Result<> operator()(const PutExtent& put) const {
    const ExtentRecord& extent = put.extent;
    if (!is_range(extent.offset, extent.length) || !is_range(extent.origin_offset, extent.origin_length) ||
        !is_range(extent.stripe_offset, extent.origin_length)) {
      return refuse("an empty or endless extent of inode " + std::to_string(extent.inode.value));
    }
    return {};
  }
  Result<> operator()(const PutStripe& put) const {
    const StripeRecord& stripe = put.stripe;
    if (stripe.number.value <= 0 || stripe.state > StripeState::placed || !core::is_known(stripe.format) ||
        !is_profile(stripe.profile) || stripe.length > kNumberMax) {
      return refuse("no record of stripe " + std::to_string(stripe.number.value));
    }
    return {};
  }
  Result<> operator()(const PutPlacement& put) const {
    if (!is_index(put.placement.index)) {
      return refuse("shard index " + std::to_string(put.placement.index) + " of stripe " +
                    std::to_string(put.placement.stripe.value));
    }
    return {};
  }
  Result<> operator()(const PutDeadFile& put) const {
    const DeadFileRecord& dead = put.file;
    if (dead.number.value == 0 || dead.number.value > kNumberMax || dead.size > kNumberMax ||
        dead.extents.size() > kDeadExtentsMax) {
      return refuse("no record of dead inode " + std::to_string(dead.number.value));
    }
    return {};
  }
  Result<> operator()(const PutDeadStripe& put) const {
    const DeadStripeRecord& dead = put.stripe;
    if (dead.number.value <= 0 || !core::is_known(dead.format) || !is_profile(dead.profile) ||
        dead.length > kNumberMax) {
      return refuse("no record of dead stripe " + std::to_string(dead.number.value));
    }
    return {};
  }
  Result<> operator()(const PutDeadShard& put) const {
    if (!is_index(put.shard.index)) return refuse("dead shard index " + std::to_string(put.shard.index));
    return {};
  }
  Result<> operator()(const PutAudit& put) const {
    if (!is_index(put.audit.index)) return refuse("audited shard index " + std::to_string(put.audit.index));
    return {};
  }
  Result<> operator()(const DropDeadFile& drop) const { return check_inode_number(drop.number); }
  Result<> operator()(const DropInode& drop) const { return check_inode_number(drop.inode); }
  Result<> operator()(const DropName& drop) const { return check_inode_number(drop.parent); }
  Result<> operator()(const DropXattr& drop) const { return check_inode_number(drop.inode); }
  Result<> operator()(const DropExtent& drop) const {
    if (drop.offset > kNumberMax) return refuse("an offset that no file reaches");
    return check_inode_number(drop.inode);
  }
  template <class Other>
  Result<> operator()(const Other&) const {
    return {};
  }
};

}  // namespace

Result<> check_change(const Change& change) {
  return std::visit(Rules{}, change);
}

}  // namespace ephfs::meta
