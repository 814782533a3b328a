// SPDX-License-Identifier: Apache-2.0
// The serving end of RemotePeer: turns a request that came in into a call of a Peer, and its result into a reply.
#pragma once

#include "net/message.hpp"
#include "net/peer.hpp"

namespace ephfs::net {

/// not_supported for a kind that is no Peer's; otherwise what `peer` answers, which outlives the call.
[[nodiscard]] awaitable<Result<Message>> serve_peer(Peer& peer, Message request, CallLimits limits);

}  // namespace ephfs::net
