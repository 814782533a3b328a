// SPDX-License-Identifier: Apache-2.0
// A Peer in memory that keeps the contract of net/peer.hpp to the letter, and misbehaves when told to: it can be slow,
// fail the next calls, and damage what it holds. Thread-safe.
#pragma once

#include <deque>
#include <map>
#include <mutex>
#include <optional>

#include "core/clock.hpp"
#include "core/signing.hpp"
#include "net/peer.hpp"

namespace ephfs::testing {

class FakePeer final : public net::Peer {
 public:
  template <class T>
  using Answer = core::awaitable<core::Result<T>>;

  /// The node's wall time is the clock's, or stands still from now on but for skip_wall().
  enum class Wall { of_clock, stopped };

  FakePeer(core::Clock& clock, const core::SigningSeed& seed, std::uint64_t capacity, Wall wall = Wall::of_clock);

  /// Every call from now on takes this long before it is looked at.
  void set_delay(core::Nanoseconds delay);
  /// The next call fails with this, after those told before.
  void fail_next(core::Failure failure);
  /// Flips a bit of the shard's first byte. False when it is not held.
  bool damage(const core::ShardId& shard);
  [[nodiscard]] core::Instant wall_now() const;
  /// Moves this node's wall clock ahead.
  void skip_wall(core::Milliseconds span);
  [[nodiscard]] bool holds(const core::ShardId& shard) const;
  /// Calls that have begun.
  [[nodiscard]] std::size_t calls() const;
  /// Calls under way now, and the most there have been at once.
  [[nodiscard]] std::size_t calls_now() const;
  [[nodiscard]] std::size_t calls_at_once() const;

  [[nodiscard]] core::NodeId id() const override { return id_; }
  [[nodiscard]] core::PublicKey key() const { return signer_.public_key(); }
  [[nodiscard]] bool reachable() const override { return true; }
  [[nodiscard]] bool is_local() const override { return true; }
  [[nodiscard]] Answer<core::Envelope> store(core::Envelope lease, net::ShardSource shard,
                                             net::CallLimits limits) override;
  [[nodiscard]] Answer<net::ShardRange> fetch(net::FetchRequest request, net::CallLimits limits) override;
  [[nodiscard]] Answer<core::Envelope> renew(core::Envelope lease, net::CallLimits limits) override;
  [[nodiscard]] Answer<core::Envelope> remove(core::Envelope removal, net::CallLimits limits) override;
  [[nodiscard]] Answer<net::Proof> prove(net::Challenge challenge, net::CallLimits limits) override;
  [[nodiscard]] Answer<net::NodeStatus> status(net::CallLimits limits) override;
  [[nodiscard]] Answer<std::vector<core::Envelope>> deletions(net::ShardInquiry inquiry,
                                                              net::CallLimits limits) override;
  [[nodiscard]] Answer<std::vector<net::Holding>> holdings(net::ShardInquiry inquiry, net::CallLimits limits) override;
  [[nodiscard]] Answer<void> put_share(core::Envelope grant, core::SharedBytes content,
                                       net::CallLimits limits) override;
  [[nodiscard]] Answer<net::TakenShare> take_share(net::ShareClaim claim, net::CallLimits limits) override;
  [[nodiscard]] Answer<void> drop_share(core::Envelope drop, net::CallLimits limits) override;

 private:
  struct Held {
    core::Lease lease;
    core::Bytes bytes;
    std::shared_ptr<const core::MerkleTree> tree;
  };

  struct HeldShare {
    core::ShareGrant grant;
    core::Envelope envelope;
    core::SharedBytes content;
    std::uint32_t taken = 0;
    unsigned wrong_tokens = 0;
  };

  core::awaitable<core::Result<>> begin(net::CallLimits limits);
  void end();
  core::Instant now() const;  // the three below with mutex_ held
  core::Result<Held*> live(const core::ShardId& shard);
  core::Envelope sign(core::ReceiptKind kind, const core::Lease& lease) const;
  core::Result<core::Envelope> store_now(const core::Envelope& envelope, const net::ShardSource& shard);
  core::Result<net::ShardRange> fetch_now(const net::FetchRequest& request);
  core::Result<core::Envelope> renew_now(const core::Envelope& envelope);
  core::Result<core::Envelope> remove_now(const core::Envelope& envelope);
  core::Result<core::OwnerId> owner_asking(const net::ShardInquiry& inquiry, core::InquiryKind kind) const;
  core::Result<std::vector<core::Envelope>> deletions_now(const net::ShardInquiry& inquiry);
  core::Result<std::vector<net::Holding>> holdings_now(const net::ShardInquiry& inquiry);
  void drop(const core::ShardId& shard);
  void drop_expired();
  core::Result<net::Proof> prove_now(const net::Challenge& challenge);
  core::Result<> put_share_now(const core::Envelope& envelope, core::SharedBytes content);
  core::Result<net::TakenShare> take_share_now(const net::ShareClaim& claim);
  core::Result<> drop_share_now(const core::Envelope& envelope);

  core::Clock& clock_;
  const core::Signer signer_;
  const core::NodeId id_;
  const std::uint64_t capacity_;
  const std::optional<core::Instant> stopped_wall_;

  mutable std::mutex mutex_;  // guards all below
  core::Nanoseconds delay_{0};
  core::Milliseconds skipped_{0};
  std::deque<core::Failure> failures_;
  std::uint64_t used_ = 0;
  std::map<core::ShardId, Held> held_;
  std::map<core::ShardId, core::Envelope> deleted_;
  std::map<core::ShareId, HeldShare> shares_;
  std::size_t calls_ = 0;
  std::size_t now_ = 0;
  std::size_t at_once_ = 0;
};

}  // namespace ephfs::testing
