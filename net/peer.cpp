// SPDX-License-Identifier: Apache-2.0
#include "net/peer.hpp"

namespace ephfs::net {
namespace {

core::Failure keeps_no_shares() {
  return core::fail(core::Error::not_supported, "this peer keeps no shares");
}

}  // namespace

awaitable<Result<>> Peer::put_share(core::Envelope, core::SharedBytes, CallLimits) {
  co_return keeps_no_shares();
}
awaitable<Result<TakenShare>> Peer::take_share(ShareClaim, CallLimits) {
  co_return keeps_no_shares();
}
awaitable<Result<>> Peer::drop_share(core::Envelope, CallLimits) {
  co_return keeps_no_shares();
}

}  // namespace ephfs::net
