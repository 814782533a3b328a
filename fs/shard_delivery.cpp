// SPDX-License-Identifier: Apache-2.0
#include "fs/shard_delivery.hpp"

#include <algorithm>

namespace ephfs::fs {

using core::Error;
using core::fail;

namespace {

core::OwnerId owner_id(const core::Signer& owner) {
  return *core::OwnerId::from_bytes(owner.public_key().view());
}

core::Envelope lease_for(const meta::PlacementRecord& row, Deadline deadline, const core::Signer& owner) {
  core::Lease lease;
  lease.shard = row.shard;
  lease.node = row.node;
  lease.owner = owner_id(owner);
  lease.bytes = row.shard_bytes;
  lease.deadline = deadline;
  lease.serial = row.lease_serial;
  return core::sign_lease(lease, owner);
}

/// protocol, naming the node, unless the receipt says exactly what was asked.
Result<> check_receipt(const core::Envelope& envelope, core::ReceiptKind kind, const core::ShardId& shard,
                       const core::NodeId& node, const core::Signer& owner) {
  const std::string who = "node " + node.hex();
  const auto receipt = core::open_receipt(envelope);
  if (!receipt) return fail(Error::protocol, who + ": its receipt: " + receipt.error().message());
  if (receipt->kind != kind || receipt->shard != shard || receipt->node != node || receipt->owner != owner_id(owner)) {
    return fail(Error::protocol, who + ": its receipt is for something else");
  }
  return {};
}

/// `envelope` has been checked.
Result<meta::PlacementRecord> agreed(meta::PlacementRecord row, Deadline deadline, const core::Envelope& envelope) {
  EPHFS_TRY(const auto receipt, core::read_receipt(envelope));
  if (receipt.deadline != deadline || receipt.bytes != row.shard_bytes) {
    return fail(Error::protocol, "node " + row.node.hex() + ": its receipt is for another lease");
  }
  row.stored = true;
  row.lease_deadline = deadline;
  row.receipt = envelope.serialize();
  return row;
}

}  // namespace

awaitable<Result<meta::PlacementRecord>> deliver_shard(std::shared_ptr<net::Peer> peer, meta::PlacementRecord row,
                                                       Deadline deadline, net::ShardSource source,
                                                       const core::Signer* owner, net::CallLimits limits) {
  auto lease = lease_for(row, deadline, *owner);
  const auto receipt = co_await peer->store(std::move(lease), std::move(source), std::move(limits));
  if (!receipt) co_return receipt.error();
  EPHFS_CO_TRY_VOID(check_receipt(*receipt, core::ReceiptKind::stored, row.shard, row.node, *owner));
  co_return agreed(std::move(row), deadline, *receipt);
}

awaitable<Result<meta::PlacementRecord>> renew_shard(std::shared_ptr<net::Peer> peer, meta::PlacementRecord row,
                                                     Deadline deadline, const core::Signer* owner,
                                                     net::CallLimits limits) {
  auto lease = lease_for(row, deadline, *owner);
  const auto receipt = co_await peer->renew(std::move(lease), std::move(limits));
  if (!receipt) co_return receipt.error();
  EPHFS_CO_TRY_VOID(check_receipt(*receipt, core::ReceiptKind::renewed, row.shard, row.node, *owner));
  co_return agreed(std::move(row), deadline, *receipt);
}

meta::RemovalRecord removal_of(const meta::PlacementRecord& row, Deadline stripe_deadline) {
  meta::RemovalRecord removal;
  removal.shard = row.shard;
  removal.node = row.node;
  removal.serial = row.lease_serial;
  // A call whose answer did not come may have had its effect: then the lease ends with the stripe.
  removal.lease_deadline = row.stored ? row.lease_deadline : std::max(row.lease_deadline, stripe_deadline);
  return removal;
}

awaitable<Result<>> remove_shard(std::shared_ptr<net::Peer> peer, meta::RemovalRecord removal,
                                 const core::Signer* owner, net::CallLimits limits) {
  core::Removal order;
  order.shard = removal.shard;
  order.node = removal.node;
  order.owner = owner_id(*owner);
  order.serial = removal.serial;
  auto envelope = core::sign_removal(order, *owner);
  const auto receipt = co_await peer->remove(std::move(envelope), std::move(limits));
  if (receipt) {
    co_return check_receipt(*receipt, core::ReceiptKind::deleted, removal.shard, removal.node, *owner);
  }
  const Error code = receipt.error().code;
  if (code == Error::not_found || code == Error::not_permitted) co_return Result<>();
  co_return receipt.error();
}

void mark_owed(meta::PlacementRecord& row) {
  row.stored = false;
  row.lease_deadline = Deadline::from_raw(0);
  row.receipt.clear();
}

}  // namespace ephfs::fs
