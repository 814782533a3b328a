// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "fs/manifest_reader.hpp"
#include "meta/manifest.hpp"
#include "meta/shared_file.hpp"
#include "tests/sim/scenario.hpp"

namespace ephfs::sim {

using namespace std::chrono_literals;

awaitable<void> Scenario::share_file(User* user, std::string path) {
  const auto mount = cluster_.mount();
  const ExpectedFile& file = judge_.files.at(path);
  const Death deadline = file.deadline;
  const auto found = mount->engine->lookup(user->directory, name_of(path));
  judge_.local_call("lookup " + path, deadline, failure_of(found));
  if (!found) co_return;
  fs::ShareWish wish;
  wish.pool = mount->node->pool().pool();
  wish.name = name_of(path);
  wish.ttl = std::chrono::duration_cast<core::Milliseconds>(span(user->random, 5s, 10min));
  wish.fetches_max = user->random.chance(3) ? 2 : 0;
  for (std::size_t i = 0; i < SimCluster::kNodes; ++i) {
    if (cluster_.is_down(i) || cluster_.is_cut_off(i) || cluster_.liar(i) != nullptr) continue;
    wish.holders.push_back({mount->node->peers().find(cluster_.node_id(i)), cluster_.address(i)});
  }
  Shared shared;
  shared.content = file.content;
  shared.fetches_max = wish.fetches_max;
  const core::Boottime began = cluster_.clock().boot_now();
  auto made = co_await mount->engine->share(found->number, std::move(wish));
  const bool crashed = mount != cluster_.mount();
  if (!crashed) mount->engine->forget(found->number, 1);
  // It may wait twice: for the file's data to be placed, and for somebody to take the share.
  const core::Boottime second = std::min(began + cluster_.options().peer_timeout, cluster_.clock().boot_now());
  judge_.call("share " + path, second, deadline, failure_of(made), crashed);
  if (!made) co_return;
  if (made->link.deadline > core::Deadline(deadline.latest)) judge_.findings.add("a share of " + path + " outlives it");
  shared.link = std::move(made->link);
  shares_.push_back(std::move(shared));
}

/// Nodes that were sent a link, now and then.
awaitable<void> Scenario::fetch_shares() {
  while (!over()) {
    co_await core::sleep_for(cluster_.clock(), span(fate_, 1s, 20s));
    if (shares_.empty() || over()) continue;
    const std::size_t node = fate_.below(SimCluster::kNodes);
    if (cluster_.is_down(node) || cluster_.liar(node) != nullptr) continue;
    // The latest ones, mostly.
    const std::size_t which = shares_.size() - 1 - fate_.below(std::min<std::size_t>(shares_.size(), 8));
    co_await fetch(which, node);
  }
}

/// A fetch may fail, since nodes go away and files change; but what it gives is what was shared, and in time.
awaitable<void> Scenario::fetch(std::size_t which, std::size_t node) {
  // A link is read anew from its text, as people pass it on.
  const auto link = net::parse_share_link(net::format_share_link(shares_[which].link).value()).value();
  const core::Bytes expected = shares_[which].content;
  auto& clock = cluster_.clock();
  // A machine that does not go away in the middle of it.
  const bool all_stay = !options_.faults && options_.lost_disks == 0;
  auto& peers = all_stay ? cluster_.node(node)->peers() : cluster_.mount()->node->peers();
  const auto peer = peers.find(link.holders[fate_.below(link.holders.size())].id);
  if (!peer) co_return;
  const net::CallLimits limits{clock.boot_now() + 10s, {}};
  const net::ShareClaim claim{link.share, core::share_token(link.secret, link.share)};
  const core::Instant asked = clock.now();
  const auto taken = co_await peer->take_share(claim, limits);
  if (!taken) co_return;
  if (link.deadline.passed(asked)) judge_.findings.add("a share is given out after its deadline");
  auto& shared = shares_[which];
  if (++shared.taken > shared.fetches_max && shared.fetches_max > 0) {
    judge_.findings.add("a share is given out more often than it may be");
  }
  auto file = meta::open_shared_file(taken->content.view(), link.secret, link.share);
  auto manifest = file ? meta::open_manifest(file->manifest) : Result<meta::Manifest>(file.error());
  if (!manifest) {
    judge_.findings.add("a share that nobody can open: " + manifest.error().message());
    co_return;
  }
  core::Bytes content(manifest->size);
  fs::ManifestReader reader({peers, clock, cluster_.executor()}, *std::move(manifest), std::move(file->key));
  fs::ManifestReader::Sink sink = [&content](std::uint64_t offset, core::ByteView bytes) -> Result<> {
    std::ranges::copy(bytes, content.begin() + static_cast<std::ptrdiff_t>(offset));
    return {};
  };
  const auto read = co_await reader.read_all(std::move(sink), {});
  if (!read) co_return;
  ++judge_.tally().fetched;
  judge_.bytes("a share", content, expected);
}

/// No node gives out what is over, whoever asks.
awaitable<void> Scenario::look_at_ended_shares() {
  for (const auto& shared : shares_) {
    if (!shared.link.deadline.passed(cluster_.clock().now())) continue;
    for (const auto& holder : shared.link.holders) {
      const std::size_t node = index_of(holder.id);
      const net::CallLimits limits{cluster_.clock().boot_now() + 10s, {}};
      const net::ShareClaim claim{shared.link.share, core::share_token(shared.link.secret, shared.link.share)};
      const auto taken = co_await cluster_.node(node)->local().take_share(claim, limits);
      if (taken) judge_.findings.add("node " + std::to_string(node) + " gives out a share that is over");
    }
  }
}

}  // namespace ephfs::sim
