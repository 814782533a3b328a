// SPDX-License-Identifier: Apache-2.0
#include "node/pool_peers.hpp"

#include <set>

namespace ephfs::node {

PoolPeers::PoolPeers(net::LinkContext context, core::NodeId self, std::shared_ptr<net::Peer> local,
                     std::size_t sessions)
    : context_(std::move(context)), self_(self), local_(std::move(local)), sessions_(sessions) {}

void PoolPeers::refresh_locked() const {
  // Asked for before the members: a change between the two is seen the next time.
  const auto version = context_.membership.version();
  if (version == seen_version_) return;
  list_members_locked();
  seen_version_ = version;
}

void PoolPeers::list_members_locked() const {
  std::set<core::NodeId> listed;
  for (auto& member : context_.membership.members()) {
    if (member.id == self_ || member.address.empty()) continue;
    listed.insert(member.id);
    auto& peer = remote_[member.id];
    if (peer && peer->member() == member) continue;
    // Whoever still holds the old one gets `unreachable` from it and looks again.
    if (peer) peer->close();
    peer = std::make_shared<net::RemotePeer>(context_, std::move(member), net::LinkLimits{}, sessions_);
  }
  std::erase_if(remote_, [&](const auto& entry) {
    if (listed.contains(entry.first)) return false;
    entry.second->close();
    return true;
  });
}

std::vector<std::shared_ptr<net::Peer>> PoolPeers::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<net::Peer>> peers;
  if (closed_) return peers;
  refresh_locked();
  peers.reserve(remote_.size() + 1);
  if (local_) peers.push_back(local_);
  for (const auto& [id, peer] : remote_) peers.push_back(peer);
  return peers;
}

std::shared_ptr<net::Peer> PoolPeers::find(const core::NodeId& id) const {
  const std::lock_guard lock(mutex_);
  if (closed_) return nullptr;
  if (id == self_) return local_;
  refresh_locked();
  const auto found = remote_.find(id);
  return found == remote_.end() ? nullptr : found->second;
}

std::optional<core::Failure> PoolPeers::last_failure(const core::NodeId& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = remote_.find(id);
  return found == remote_.end() ? std::nullopt : found->second->last_failure();
}

void PoolPeers::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  for (const auto& [id, peer] : remote_) peer->close();
  remote_.clear();
}

}  // namespace ephfs::node
