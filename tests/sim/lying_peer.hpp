// SPDX-License-Identifier: Apache-2.0
// What a lying node says in its own name. It lies about half of all shards, chosen by their ids, so that whoever looks
// on knows which; about the others it is as honest as a node can be.
#pragma once

#include <map>
#include <set>

#include "tests/support/fake_peer.hpp"

namespace ephfs::sim {

enum class Lie : std::uint8_t {
  none,             // no liar
  wrong_bytes,      // gives other bytes than it was given
  lost_at_once,     // says that it has stored, renewed and deleted what it threw away when it came
  forged_receipts,  // stores, and answers with receipts that are not what was asked for, or not its own
  kept_for_ever,    // deletes nothing at its deadline, and serves it afterwards
};
[[nodiscard]] const char* name_of(Lie lie);

class LyingPeer final : public net::Peer {
 public:
  template <class T>
  using Answer = core::awaitable<core::Result<T>>;

  LyingPeer(core::Clock& clock, const core::SigningSeed& seed, std::uint64_t capacity, Lie lie);

  [[nodiscard]] Lie lie() const { return lie_; }
  /// Whether it cannot prove that it has the shard.
  [[nodiscard]] bool fails_audit_of(const core::ShardId& shard) const;
  [[nodiscard]] bool holds(const core::ShardId& shard) const { return honest_.holds(shard); }
  /// Receipts it gave that nobody may accept.
  [[nodiscard]] const std::set<core::Bytes>& forged() const { return forged_; }
  [[nodiscard]] std::uint64_t lies_told() const { return lies_told_; }

  [[nodiscard]] core::NodeId id() const override { return honest_.id(); }
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

 private:
  [[nodiscard]] bool lies_about(const core::ShardId& shard) const;
  [[nodiscard]] bool has_lost(const core::ShardId& shard) const;
  [[nodiscard]] core::Receipt receipt(core::ReceiptKind kind, const core::Lease& lease) const;
  /// The receipt as it is, or a forged one in its place.
  [[nodiscard]] core::Result<core::Envelope> maybe_forged(core::Result<core::Envelope> answer);
  [[nodiscard]] core::Envelope forge(const core::Receipt& receipt);

  core::Clock& clock_;
  const core::Signer signer_;
  const core::Signer stranger_;
  const Lie lie_;
  testing::FakePeer honest_;
  std::map<core::ShardId, core::Lease> lost_;     // what it says it holds
  std::map<core::ShardId, core::Lease> removed_;  // and what it says it has deleted
  std::set<core::Bytes> forged_;
  std::uint64_t lies_told_ = 0;
};

}  // namespace ephfs::sim
