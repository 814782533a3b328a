// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fcntl.h>
#include <sys/stat.h>

#include "core/log.hpp"
#include "tests/sim/scenario.hpp"

namespace ephfs::sim {
namespace {

using namespace std::chrono_literals;

constexpr core::Milliseconds kDeletedWithin = 20ms;  // of a lease's end, by a node that runs
constexpr core::Nanoseconds kLookEvery = 500ms;
constexpr core::Nanoseconds kDiskEvery = 5min;

}  // namespace

/// Into the log, which tells an onlooker what the machines say of one another, that they come and go.
void Scenario::say(const std::string& what) {
  core::log_line(core::format_instant(cluster_.clock().now()) + "  " + what);
}

void Scenario::note_away() {
  std::size_t away = 0;
  for (std::size_t i = 0; i < SimCluster::kNodes; ++i) {
    away += cluster_.is_down(i) || cluster_.is_cut_off(i) || cluster_.is_held(i) ? 1 : 0;
  }
  judge_.away.note(cluster_.clock().boot_now(), away);
}

awaitable<void> Scenario::come_and_go() {
  while (!over()) {
    co_await core::sleep_for(cluster_.clock(), span(fate_, 5s, 90s));
    if (over()) co_return;
    std::vector<std::size_t> away;
    std::vector<std::size_t> here;
    for (std::size_t i = 0; i < SimCluster::kNodes; ++i) {
      (cluster_.is_down(i) || cluster_.is_cut_off(i) ? away : here).push_back(i);
    }
    if (!away.empty() && (away.size() == kMostAway || fate_.chance(2))) {
      co_await bring_back(away[fate_.below(away.size())]);
      note_away();
      continue;
    }
    const std::size_t node = here[fate_.below(here.size())];
    ++node_faults_;
    if (fate_.chance(2)) {
      say("node" + std::to_string(node) + " is cut off");
      cluster_.cut_off(node);
      note_away();
    } else {
      say("node" + std::to_string(node) + " crashes");
      fate_doing_ = "node " + std::to_string(node) + " is going down";
      judge_.away.note(cluster_.clock().boot_now(), away.size() + 1);
      co_await cluster_.crash_node(node);
      fate_doing_.clear();
    }
  }
}

/// A clock that is behind changes nothing. A node whose clock is far ahead serves nothing and loses nothing: it is as
/// good as away until it is set right.
awaitable<void> Scenario::set_clocks() {
  while (!over()) {
    co_await core::sleep_for(cluster_.clock(), span(fate_, 20s, 90s));
    if (over()) co_return;
    const auto wrong = std::chrono::duration_cast<core::Milliseconds>(span(fate_, 1h, 24h * 400));
    ++clocks_set_;
    if (fate_.chance(3)) {
      say("the mount's clock is set back");
      cluster_.set_mount_clock(-wrong);
      continue;
    }
    const std::size_t node = fate_.below(SimCluster::kNodes);
    if (cluster_.is_down(node)) continue;
    if (fate_.chance(2)) {
      say("the clock of node" + std::to_string(node) + " is set back");
      cluster_.set_node_clock(node, -wrong);
      continue;
    }
    say("the clock of node" + std::to_string(node) + " is set forward");
    cluster_.set_node_clock(node, wrong);
    note_away();
    co_await core::sleep_for(cluster_.clock(), span(fate_, 5s, 3min));
    say("the clock of node" + std::to_string(node) + " is set right");
    cluster_.set_node_clock(node, 0ms);
    note_away();
  }
}

awaitable<void> Scenario::bring_back(std::size_t node) {
  say("node" + std::to_string(node) + " comes back");
  if (cluster_.is_cut_off(node)) cluster_.reconnect(node);
  if (cluster_.is_down(node)) {
    cluster_.open_node(node);
    if (!cluster_.node(node)->store().expired(cluster_.clock().now(), 1).empty()) {
      judge_.findings.add("node " + std::to_string(node) + " comes back with shards that should be dead");
    }
    look_at_disk(node);
    cluster_.start_node(node);
  }
  co_return;
}

/// Machines come back with a new disk in them. One after the other, no more than the profile has to spare.
awaitable<void> Scenario::lose_disks() {
  for (unsigned i = 0; i < options_.lost_disks; ++i) {
    const auto part = options_.duration / (options_.lost_disks + 1);
    co_await core::sleep_for(cluster_.clock(), span(fate_, part / 2, part));
    const std::size_t node = SimCluster::kNodes - 1 - i;
    say("node" + std::to_string(node) + " loses its disk");
    ++node_faults_;
    judge_.away.note(cluster_.clock().boot_now(), 1);
    co_await cluster_.crash_node(node);
    cluster_.lose_disk(node);
    leases_seen_[node].clear();
    co_await core::sleep_for(cluster_.clock(), span(fate_, 1s, 30s));
    co_await bring_back(node);
    note_away();
  }
}

/// The machine with the mount dies; then everything is looked at while nobody works.
awaitable<void> Scenario::crash_mounts() {
  for (unsigned i = 0; i < options_.mount_crashes; ++i) {
    const auto part = options_.duration / (options_.mount_crashes + 1);
    co_await core::sleep_for(cluster_.clock(), span(fate_, part / 2, part));
    paused_ = true;
    held_.clear();
    say(cluster_.mount()->host + " crashes");
    for (const auto& line : cluster_.crash_mount()) judge_.findings.add("catalog after a crash: " + line);
    while (working_ > 0) co_await core::sleep_for(cluster_.clock(), 100ms);
    co_await read_everything(true);
    paused_ = false;
  }
}

awaitable<void> Scenario::read_everything(bool after_crash) {
  std::vector<std::string> paths;
  for (const auto& [path, file] : judge_.files) paths.push_back(path);
  for (const auto& path : paths) {
    const auto known = judge_.files.find(path);
    if (known == judge_.files.end() || judge_.life_of(known->second.deadline) != Judge::Life::alive) continue;
    Death deadline = known->second.deadline;
    const Descriptor descriptor = open(path, O_RDONLY);
    if (!descriptor.is_open()) continue;
    std::size_t longest = known->second.content.size();
    for (const auto& one : known->second.unflushed) longest = std::max(longest, one.size());
    core::Bytes out(longest + 1);
    const core::MutableByteView view(out);
    const core::Boottime began = cluster_.clock().boot_now();
    const core::Instant at = cluster_.clock().now();
    const auto got = co_await descriptor.engine().read(descriptor.file(), 0, view, {});
    const auto file = judge_.files.find(path);
    if (file != judge_.files.end()) deadline = slid(file->second, at, false, got && *got > 0);
    judge_.call("read all of " + path, began, deadline, failure_of(got), false);
    if (!got || file == judge_.files.end()) continue;
    out.resize(*got);
    if (!after_crash) {
      judge_.bytes("read all of " + path, out, file->second.content);
      continue;
    }
    if (!file->second.may_be(out)) {
      judge_.findings.add(path + " is not what it was before the crash" +
                          (file->second.unflushed.empty() ? "" : ", nor what was not flushed"));
    }
    file->second.content = std::move(out);
    file->second.unflushed.clear();
  }
}

awaitable<void> Scenario::watch_deaths() {
  while (watching_) {
    auto& clock = cluster_.clock();
    const core::Instant now = clock.now();
    core::Nanoseconds nap = kLookEvery;
    for (const auto& [path, file] : judge_.files) {
      const core::Instant latest = file.deadline.latest;
      if (latest > now) nap = std::min<core::Nanoseconds>(nap, latest - now);
    }
    co_await core::sleep_for(clock, nap);
    for (auto file = judge_.files.begin(); file != judge_.files.end();) {
      if (judge_.life_of(file->second.deadline) != Judge::Life::dead) {
        ++file;
        continue;
      }
      if (cluster_.mount()) look_at_death(file->first, file->second);
      held_.erase(file->first);
      file = judge_.files.erase(file);
    }
  }
}

void Scenario::look_at_death(const std::string& path, const ExpectedFile& file) {
  auto& engine = *cluster_.mount()->engine;
  const auto directory = directory_of(path);
  const auto found = engine.lookup(directory, name_of(path));
  if (found) engine.forget(found->number, 1);
  judge_.after_death("path " + path, failure_of(found));
  const auto listed = engine.open_directory(directory);
  if (listed && engine.rewind(**listed)) {
    for (const auto& name : (*listed)->names) {
      if (name.name == name_of(path)) judge_.findings.add(path + " is listed after its deadline");
    }
  }
  const auto held = held_.find(path);
  if (held == held_.end() || file.content.empty()) return;
  core::Bytes out(1);
  const auto got = engine.try_read(*held->second.file(), 0, out);
  judge_.after_death("descriptor of " + path, failure_of(got));
}

awaitable<void> Scenario::watch_nodes() {
  core::Boottime disks_due = cluster_.clock().boot_now() + kDiskEvery;
  while (watching_) {
    auto& clock = cluster_.clock();
    core::Nanoseconds nap = kLookEvery;
    for (std::size_t i = 0; i < SimCluster::kNodes; ++i) {
      const auto* node = cluster_.node(i);
      if (node == nullptr || cluster_.liar(i) != nullptr || node->store().next_deadline().is_never()) continue;
      const core::Nanoseconds left = node->store().next_deadline().instant() - clock.now() + kDeletedWithin;
      if (left.count() > 0) nap = std::min(nap, left);
    }
    co_await core::sleep_for(clock, nap);
    const bool disks = clock.boot_now() >= disks_due;
    if (disks) disks_due = clock.boot_now() + kDiskEvery;
    for (std::size_t i = 0; i < SimCluster::kNodes; ++i) {
      if (cluster_.is_down(i) || cluster_.liar(i) != nullptr) continue;
      look_at_node(i);
      if (disks) look_at_disk(i);
    }
    // A shard that was seen is not served after its lease.
    for (std::size_t i = 0; i < SimCluster::kNodes; ++i) {
      auto& seen = leases_seen_[i];
      while (!seen.empty() && seen.begin()->first.passed(clock.now())) {
        auto* node = cluster_.node(i);
        const auto shard = seen.begin()->second;
        seen.erase(seen.begin());
        if (node == nullptr) continue;
        if (const auto held = node->store().find(shard); held && !held->lease.deadline.passed(clock.now())) continue;
        net::FetchRequest request;
        request.shard = shard;
        request.length = 1;
        const net::CallLimits limits{clock.boot_now() + 1s, {}};
        const auto got = co_await node->local().fetch(request, limits);
        if (got) judge_.findings.add("node " + std::to_string(i) + " serves a shard after its lease");
      }
    }
  }
}

void Scenario::look_at_node(std::size_t node) {
  const auto& store = cluster_.node(node)->store();
  const core::Instant long_ago = cluster_.clock().now() - kDeletedWithin;
  for (const auto& shard : store.expired(long_ago, 1)) {
    judge_.findings.add("node " + std::to_string(node) + " still holds shard " + shard.hex().substr(0, 8) +
                        ", whose lease is over");
  }
}

/// Every shard file there is belongs to a lease that runs. What a liar has is his own affair.
void Scenario::look_at_disk(std::size_t node) {
  if (cluster_.liar(node) != nullptr) return;
  const auto& store = cluster_.node(node)->store();
  const core::Instant long_ago = cluster_.clock().now() - kDeletedWithin;
  auto& seen = leases_seen_[node];
  seen.clear();
  std::uint64_t shards = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(cluster_.node_directory(node) / "shards")) {
    if (entry.path().extension() != ".shard") continue;
    ++shards;
    const auto id = core::ShardId::from_hex(entry.path().stem().string());
    const auto held = id ? store.find(*id) : std::nullopt;
    if (!held || held->lease.deadline.passed(long_ago)) {
      judge_.findings.add("node " + std::to_string(node) +
                          " has a file of a shard that is dead: " + entry.path().filename().string());
      continue;
    }
    seen.emplace(held->lease.deadline, *id);
  }
  if (shards != store.usage().shards) {
    judge_.findings.add("node " + std::to_string(node) + " holds " + std::to_string(shards) + " files, counts " +
                        std::to_string(store.usage().shards));
  }
}

}  // namespace ephfs::sim
