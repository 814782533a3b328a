// SPDX-License-Identifier: Apache-2.0
// A member of the pool on another machine, as a Peer: calls become requests on a session that is connected when first
// needed and reconnected with a growing pause. What comes back is checked before the caller sees it: receipts are
// signed by this node and about the shard, ranges are those asked for, and whatever carries a proof has been verified
// against the shard's id (damaged when it fails).
//
// Thread-safe. Its tasks live in the LinkContext's group: close(), then join the group, then destroy what it was given.
#pragma once

#include <atomic>

#include "net/link.hpp"
#include "net/peer.hpp"

namespace ephfs::net {

class RemotePeer final : public Peer {
 public:
  /// Calls are spread over `sessions` sessions (at least 1), each a connection of its own.
  RemotePeer(LinkContext context, Member member, LinkLimits limits = {}, std::size_t sessions = 1);
  ~RemotePeer() override;
  RemotePeer(const RemotePeer&) = delete;
  RemotePeer& operator=(const RemotePeer&) = delete;

  [[nodiscard]] core::NodeId id() const override { return member_.id; }
  [[nodiscard]] bool reachable() const override;
  [[nodiscard]] bool is_local() const override { return false; }
  [[nodiscard]] const Member& member() const { return member_; }
  /// Why the last attempt to connect failed, for people; none when it did not.
  [[nodiscard]] std::optional<core::Failure> last_failure() const { return links_.front()->last_failure(); }
  /// Ends the sessions; calls give unreachable from now on. Any thread.
  void close();

  [[nodiscard]] awaitable<Result<core::Envelope>> store(core::Envelope lease, ShardSource shard,
                                                        CallLimits limits) override;
  [[nodiscard]] awaitable<Result<ShardRange>> fetch(FetchRequest request, CallLimits limits) override;
  [[nodiscard]] awaitable<Result<core::Envelope>> renew(core::Envelope lease, CallLimits limits) override;
  [[nodiscard]] awaitable<Result<core::Envelope>> remove(core::Envelope removal, CallLimits limits) override;
  [[nodiscard]] awaitable<Result<Proof>> prove(Challenge challenge, CallLimits limits) override;
  [[nodiscard]] awaitable<Result<NodeStatus>> status(CallLimits limits) override;
  [[nodiscard]] awaitable<Result<std::vector<core::Envelope>>> deletions(ShardInquiry inquiry,
                                                                         CallLimits limits) override;
  [[nodiscard]] awaitable<Result<std::vector<Holding>>> holdings(ShardInquiry inquiry, CallLimits limits) override;
  [[nodiscard]] awaitable<Result<>> put_share(core::Envelope grant, core::SharedBytes content,
                                              CallLimits limits) override;
  [[nodiscard]] awaitable<Result<TakenShare>> take_share(ShareClaim claim, CallLimits limits) override;
  [[nodiscard]] awaitable<Result<>> drop_share(core::Envelope drop, CallLimits limits) override;

 private:
  awaitable<Result<Message>> call(Message request, CallLimits limits);
  /// `receipt` when this node signed it, of that kind and about that shard.
  Result<core::Envelope> checked(Result<core::Envelope> receipt, core::ReceiptKind kind,
                                 const core::ShardId& shard) const;

  const Member member_;
  std::vector<std::shared_ptr<Link>> links_;
  std::atomic<std::size_t> next_link_{0};
};

}  // namespace ephfs::net
