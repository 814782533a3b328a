// SPDX-License-Identifier: Apache-2.0
#include "net/peer_service.hpp"

#include "net/wire.hpp"

namespace ephfs::net {
namespace {

awaitable<Result<Message>> serve_store(Peer& peer, Message request, CallLimits limits) {
  EPHFS_CO_TRY(auto lease, unpack_store(request));
  ShardSource shard;
  shard.bytes = std::move(request.payload);
  EPHFS_CO_TRY(const auto receipt, co_await peer.store(std::move(lease), std::move(shard), std::move(limits)));
  co_return pack_receipt(receipt);
}

awaitable<Result<Message>> serve_fetch(Peer& peer, Message request, CallLimits limits) {
  EPHFS_CO_TRY(auto fetch, unpack_fetch(request));
  EPHFS_CO_TRY(const auto range, co_await peer.fetch(fetch, std::move(limits)));
  co_return pack_range(range);
}

awaitable<Result<Message>> serve_renew(Peer& peer, Message request, CallLimits limits) {
  EPHFS_CO_TRY(auto lease, unpack_renew(request));
  EPHFS_CO_TRY(const auto receipt, co_await peer.renew(std::move(lease), std::move(limits)));
  co_return pack_receipt(receipt);
}

awaitable<Result<Message>> serve_remove(Peer& peer, Message request, CallLimits limits) {
  EPHFS_CO_TRY(auto removal, unpack_remove(request));
  EPHFS_CO_TRY(const auto receipt, co_await peer.remove(std::move(removal), std::move(limits)));
  co_return pack_receipt(receipt);
}

awaitable<Result<Message>> serve_prove(Peer& peer, Message request, CallLimits limits) {
  EPHFS_CO_TRY(auto challenge, unpack_challenge(request));
  EPHFS_CO_TRY(const auto proof, co_await peer.prove(std::move(challenge), std::move(limits)));
  co_return pack_proof(proof);
}

awaitable<Result<Message>> serve_status(Peer& peer, CallLimits limits) {
  EPHFS_CO_TRY(const auto status, co_await peer.status(std::move(limits)));
  co_return pack_status(status);
}

awaitable<Result<Message>> serve_deletions(Peer& peer, Message request, CallLimits limits) {
  EPHFS_CO_TRY(auto inquiry, unpack_inquiry(request));
  EPHFS_CO_TRY(const auto receipts, co_await peer.deletions(std::move(inquiry), std::move(limits)));
  co_return pack_receipts(receipts);
}

awaitable<Result<Message>> serve_holdings(Peer& peer, Message request, CallLimits limits) {
  EPHFS_CO_TRY(auto inquiry, unpack_inquiry(request));
  EPHFS_CO_TRY(const auto holdings, co_await peer.holdings(std::move(inquiry), std::move(limits)));
  co_return pack_holdings(holdings);
}

awaitable<Result<Message>> serve_put_share(Peer& peer, Message request, CallLimits limits) {
  EPHFS_CO_TRY(auto grant, unpack_put_share(request));
  EPHFS_CO_TRY_VOID(co_await peer.put_share(std::move(grant), std::move(request.payload), std::move(limits)));
  co_return Message{};
}

awaitable<Result<Message>> serve_take_share(Peer& peer, Message request, CallLimits limits) {
  EPHFS_CO_TRY(const auto claim, unpack_share_claim(request));
  EPHFS_CO_TRY(const auto share, co_await peer.take_share(claim, std::move(limits)));
  co_return pack_taken_share(share);
}

awaitable<Result<Message>> serve_drop_share(Peer& peer, Message request, CallLimits limits) {
  EPHFS_CO_TRY(auto drop, unpack_drop_share(request));
  EPHFS_CO_TRY_VOID(co_await peer.drop_share(std::move(drop), std::move(limits)));
  co_return Message{};
}

}  // namespace

awaitable<Result<Message>> serve_peer(Peer& peer, Message request, CallLimits limits) {
  switch (request.kind) {
    case MessageKind::store:
      return serve_store(peer, std::move(request), std::move(limits));
    case MessageKind::fetch:
      return serve_fetch(peer, std::move(request), std::move(limits));
    case MessageKind::renew:
      return serve_renew(peer, std::move(request), std::move(limits));
    case MessageKind::remove:
      return serve_remove(peer, std::move(request), std::move(limits));
    case MessageKind::prove:
      return serve_prove(peer, std::move(request), std::move(limits));
    case MessageKind::status:
      return serve_status(peer, std::move(limits));
    case MessageKind::deletions:
      return serve_deletions(peer, std::move(request), std::move(limits));
    case MessageKind::holdings:
      return serve_holdings(peer, std::move(request), std::move(limits));
    case MessageKind::put_share:
      return serve_put_share(peer, std::move(request), std::move(limits));
    case MessageKind::take_share:
      return serve_take_share(peer, std::move(request), std::move(limits));
    case MessageKind::drop_share:
      return serve_drop_share(peer, std::move(request), std::move(limits));
    default:
      break;
  }
  return [](MessageKind kind) -> awaitable<Result<Message>> {
    co_return core::fail(core::Error::not_supported,
                         "a request of kind " + std::to_string(static_cast<std::uint32_t>(kind)));
  }(request.kind);
}

}  // namespace ephfs::net
