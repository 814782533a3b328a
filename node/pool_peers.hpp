// SPDX-License-Identifier: Apache-2.0
// The pool as a list of peers: a RemotePeer for every other member that listens, made when first asked for and made
// anew when its address changes, and this process's own node beside them. Thread-safe; `mutex_` guards the list.
#pragma once

#include <mutex>
#include <unordered_map>

#include "net/remote_peer.hpp"

namespace ephfs::node {

using core::awaitable;

class PoolPeers final : public net::PeerDirectory {
 public:
  /// `self` is never made a remote peer. `local` is listed first, or is null where nothing is placed on this machine.
  /// `sessions` is how many connections a peer's calls are spread over. What `context` names outlives stop().
  PoolPeers(net::LinkContext context, core::NodeId self, std::shared_ptr<net::Peer> local, std::size_t sessions);
  PoolPeers(const PoolPeers&) = delete;
  PoolPeers& operator=(const PoolPeers&) = delete;

  [[nodiscard]] std::vector<std::shared_ptr<net::Peer>> all() const override;
  [[nodiscard]] std::shared_ptr<net::Peer> find(const core::NodeId& id) const override;

  /// Why a peer was not reached last time, for people; none when it was, or was never tried.
  [[nodiscard]] std::optional<core::Failure> last_failure(const core::NodeId& id) const;
  /// Closes every session; the list is empty from now on. Join the context's group afterwards.
  void close();

 private:
  void refresh_locked() const;
  void list_members_locked() const;

  const net::LinkContext context_;
  const core::NodeId self_;
  const std::shared_ptr<net::Peer> local_;
  const std::size_t sessions_;

  mutable std::mutex mutex_;  // guards all below
  bool closed_ = false;
  mutable std::optional<std::uint64_t> seen_version_;  // of the membership
  mutable std::map<core::NodeId, std::shared_ptr<net::RemotePeer>> remote_;
};

}  // namespace ephfs::node
