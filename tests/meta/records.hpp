// SPDX-License-Identifier: Apache-2.0
// Records for tests, with every field that does not matter filled in, and every field compared.
#pragma once

#include <string>

#include <sys/stat.h>

#include "meta/catalog.hpp"

namespace ephfs::meta {

inline bool operator==(const NameRecord& a, const NameRecord& b) {
  return a.name == b.name && a.inode == b.inode && a.mode == b.mode && a.deadline == b.deadline;
}
inline bool operator==(const StripeRecord& a, const StripeRecord& b) {
  return a.number == b.number && a.id == b.id && a.state == b.state && a.format == b.format && a.profile == b.profile &&
         a.length == b.length && a.live == b.live && a.deadline == b.deadline && a.created == b.created;
}
inline bool operator==(const PlacementRecord& a, const PlacementRecord& b) {
  return a.stripe == b.stripe && a.index == b.index && a.shard == b.shard && a.node == b.node && a.stored == b.stored &&
         a.shard_bytes == b.shard_bytes && a.lease_serial == b.lease_serial && a.lease_deadline == b.lease_deadline &&
         a.receipt == b.receipt;
}
inline bool operator==(const RemovalRecord& a, const RemovalRecord& b) {
  return a.shard == b.shard && a.node == b.node && a.serial == b.serial && a.lease_deadline == b.lease_deadline;
}

}  // namespace ephfs::meta

namespace ephfs::meta::testing {

using core::Instant;

/// An id whose every byte is `fill`.
template <class Id>
Id id_of(unsigned fill) {
  Id id;
  for (std::byte& byte : id.mutable_view()) byte = static_cast<std::byte>(fill);
  return id;
}

inline Deadline at(std::int64_t ms) {
  return Deadline(Instant{ms});
}

inline InodeRecord directory(std::uint64_t number) {
  InodeRecord inode;
  inode.number = {number};
  inode.mode = S_IFDIR | 0755;
  inode.links = 2;
  return inode;
}

inline InodeRecord regular(std::uint64_t number, std::uint64_t size = 0, Deadline deadline = {}) {
  InodeRecord inode;
  inode.number = {number};
  inode.mode = S_IFREG | 0644;
  inode.links = 1;
  inode.size = size;
  inode.deadline = deadline;
  inode.file = id_of<core::FileId>(static_cast<unsigned>(number));
  inode.wrapped_key = core::to_bytes(core::as_bytes("a wrapped key"));
  return inode;
}

inline StripeRecord stripe(std::int64_t number, StripeState state = StripeState::placed, std::uint64_t length = 1 << 20,
                           Deadline deadline = {}) {
  StripeRecord record;
  record.number = {number};
  record.id = id_of<core::StripeId>(static_cast<unsigned>(number));
  record.state = state;
  record.profile = {2, 1};
  record.length = length;
  record.deadline = deadline;
  record.created = {1000 + number};
  return record;
}

/// An extent that is all of its origin.
inline ExtentRecord extent(std::uint64_t inode, std::uint64_t offset, std::uint64_t length, std::int64_t stripe_number,
                           std::uint64_t stripe_offset = 0) {
  return {{inode}, offset, length, {stripe_number}, stripe_offset, offset, length};
}

inline PlacementRecord placement(std::int64_t stripe_number, std::uint8_t index, bool stored = true) {
  PlacementRecord record;
  record.stripe = {stripe_number};
  record.index = index;
  record.shard = id_of<core::ShardId>(static_cast<unsigned>(stripe_number * 16 + index));
  record.node = id_of<core::NodeId>(200U + index);
  record.stored = stored;
  record.shard_bytes = 524288;
  record.lease_serial = 7;
  record.lease_deadline = at(5000);
  if (stored) record.receipt = core::to_bytes(core::as_bytes("a receipt"));
  return record;
}

}  // namespace ephfs::meta::testing
