// SPDX-License-Identifier: Apache-2.0
#include "fs/node_book.hpp"

#include <algorithm>
#include <tuple>

namespace ephfs::fs {

namespace {

using namespace std::chrono_literals;

constexpr core::Nanoseconds kFirstPause = 500ms;
constexpr core::Nanoseconds kLongestPause = 30s;
constexpr core::Nanoseconds kStatusAge = 60s;
constexpr unsigned kFailuresToGiveUp = 4;
constexpr unsigned kLateToFail = 3;

/// Rendezvous hashing: a number for the pair, well mixed (the finalizer of SplitMix64).
std::uint64_t weight_of(const core::StripeId& stripe, const core::NodeId& node) {
  std::uint64_t mixed = 0x9e3779b97f4a7c15U;
  const auto mix = [&mixed](core::ByteView bytes) {
    for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
      std::uint64_t word = 0;
      for (std::size_t i = 0; i < 8; ++i) word |= std::to_integer<std::uint64_t>(bytes[at + i]) << (8 * i);
      mixed ^= word;
      mixed = (mixed ^ (mixed >> 30U)) * 0xbf58476d1ce4e5b9U;
      mixed = (mixed ^ (mixed >> 27U)) * 0x94d049bb133111ebU;
      mixed ^= mixed >> 31U;
    }
  };
  mix(stripe.view());
  mix(node.view());
  return mixed;
}

}  // namespace

const NodeBook::Facts* NodeBook::find_locked(const core::NodeId& node) const {
  const auto found = nodes_.find(node);
  return found == nodes_.end() ? nullptr : &found->second;
}

std::vector<NodeBook::PeerPtr> NodeBook::rank(std::vector<PeerPtr> peers, const core::StripeId& stripe) const {
  using Grade = std::tuple<bool, bool, unsigned, std::uint64_t, core::NodeId>;
  std::vector<std::pair<Grade, PeerPtr>> graded;
  for (auto& peer : peers) {
    const core::NodeId id = peer->id();
    const bool silent = !trusted(*peer);
    bool full = false;
    unsigned fill = 0;
    {
      const std::lock_guard lock(mutex_);
      if (const Facts* facts = find_locked(id)) {
        full = facts->full || facts->refused || facts->liar;
        if (facts->capacity > 0) {
          fill = static_cast<unsigned>(std::min(facts->used, facts->capacity) / (facts->capacity / 16 + 1));
        }
      }
    }
    graded.emplace_back(Grade{silent, full, fill, weight_of(stripe, id), id}, std::move(peer));
  }
  std::ranges::sort(graded, {}, [](const auto& one) { return one.first; });
  std::vector<PeerPtr> ranked;
  ranked.reserve(graded.size());
  for (auto& one : graded) ranked.push_back(std::move(one.second));
  return ranked;
}

unsigned NodeBook::reading_cost(const net::Peer& peer) const {
  return (trusted(peer) ? 0U : kSilentCost) + (lied(peer.id()) ? 2U : 0U) + (peer.is_local() ? 0U : 1U);
}

bool NodeBook::ready(const core::NodeId& node) const {
  const core::Boottime now = clock_.boot_now();
  const std::lock_guard lock(mutex_);
  const Facts* facts = find_locked(node);
  return facts == nullptr || facts->not_before <= now;
}

bool NodeBook::trusted(const net::Peer& peer) const {
  const core::NodeId id = peer.id();
  if (!ready(id)) return false;
  if (peer.reachable()) return true;
  // A node that was never asked may only not be connected yet.
  const std::lock_guard lock(mutex_);
  const Facts* facts = find_locked(id);
  return facts == nullptr || facts->failures == 0;
}

bool NodeBook::given_up(const core::NodeId& node) const {
  const std::lock_guard lock(mutex_);
  const Facts* facts = find_locked(node);
  return facts != nullptr && (facts->failures >= kFailuresToGiveUp || facts->full || facts->refused || facts->liar);
}

bool NodeBook::lied(const core::NodeId& node) const {
  const std::lock_guard lock(mutex_);
  const Facts* facts = find_locked(node);
  return facts != nullptr && facts->liar;
}

bool NodeBook::may_return(const core::NodeId& node, core::Nanoseconds within) const {
  const core::Boottime now = clock_.boot_now();
  const std::lock_guard lock(mutex_);
  const Facts* facts = find_locked(node);
  return facts == nullptr || facts->failures == 0 || now - facts->failing_since < within;
}

std::optional<core::Boottime> NodeBook::next_ready() const {
  const core::Boottime now = clock_.boot_now();
  std::optional<core::Boottime> next;
  const std::lock_guard lock(mutex_);
  for (const auto& [node, facts] : nodes_) {
    if (facts.not_before > now && (!next || facts.not_before < *next)) next = facts.not_before;
  }
  return next;
}

void NodeBook::answered(const core::NodeId& node, std::uint64_t stored_bytes) {
  const std::lock_guard lock(mutex_);
  Facts& facts = nodes_[node];
  facts.failures = 0;
  facts.late = 0;
  facts.not_before = {};
  facts.refused = false;
  if (stored_bytes > 0) {
    facts.full = false;
    facts.used += stored_bytes;
  }
}

void NodeBook::failed(const core::NodeId& node, core::Error code) {
  if (code == core::Error::cancelled) return;
  const core::Boottime now = clock_.boot_now();
  const std::lock_guard lock(mutex_);
  Facts& facts = nodes_[node];
  core::Nanoseconds pause = kLongestPause;
  if (code == core::Error::no_space || code == core::Error::quota_exceeded) {
    facts.full = true;
  } else if (code == core::Error::unreachable || code == core::Error::timed_out) {
    pause = std::min(kLongestPause, kFirstPause * (std::int64_t{1} << std::min(facts.failures, 8U)));
    if (facts.failures++ == 0) facts.failing_since = now;
  } else {
    facts.refused = true;
  }
  facts.not_before = now + pause;
}

void NodeBook::was_late(const core::NodeId& node) {
  {
    const std::lock_guard lock(mutex_);
    Facts& facts = nodes_[node];
    if (++facts.late < kLateToFail) return;
    facts.late = 0;
  }
  failed(node, core::Error::timed_out);
}

void NodeBook::caught_lying(const core::NodeId& node) {
  const std::lock_guard lock(mutex_);
  nodes_[node].liar = true;
}

void NodeBook::forgive() {
  const std::lock_guard lock(mutex_);
  for (auto& [node, facts] : nodes_) facts.not_before = {};
}

void NodeBook::learn(const net::NodeStatus& status) {
  const std::lock_guard lock(mutex_);
  Facts& facts = nodes_[status.node];
  facts.capacity = status.capacity;
  facts.used = status.used;
}

std::vector<NodeBook::PeerPtr> NodeBook::to_be_asked(const std::vector<PeerPtr>& peers) {
  const core::Boottime now = clock_.boot_now();
  std::vector<PeerPtr> asked;
  const std::lock_guard lock(mutex_);
  for (const auto& peer : peers) {
    Facts& facts = nodes_[peer->id()];
    if (facts.status_asked && now - *facts.status_asked < kStatusAge) continue;
    facts.status_asked = now;
    asked.push_back(peer);
  }
  return asked;
}

}  // namespace ephfs::fs
