// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/scenario.hpp"

#include <iostream>

#include <sys/stat.h>

#include "meta/sqlite_catalog.hpp"

namespace ephfs::sim {
namespace {

using namespace std::chrono_literals;

constexpr core::Nanoseconds kRecovery = 3min;   // after the last fault, until all is as it should be
constexpr core::Nanoseconds kEndOfWork = 3min;  // the longest nap, and what it then does

}  // namespace

Scenario::Scenario(ScenarioOptions options, fs::EngineOptions engine)
    : options_(options),
      cluster_(options.seed, std::move(engine), options.lies),
      judge_(cluster_.clock(), cluster_.options().peer_timeout),
      end_(cluster_.clock().boot_now() + options.duration),
      fate_(options.seed + 1) {
  for (std::size_t i = 0; i < options_.users; ++i) {
    auto user = std::make_unique<User>();
    user->index = i;
    user->name = "u" + std::to_string(i);
    user->random = testing::Random(options_.seed * 1000 + i);
    users_.push_back(std::move(user));
  }
}

Scenario::~Scenario() {
  held_.clear();
}

core::Nanoseconds Scenario::span(testing::Random& random, core::Nanoseconds least, core::Nanoseconds most) {
  const auto low = static_cast<std::uint64_t>(least.count());
  return core::Nanoseconds(static_cast<std::int64_t>(random.between(low, static_cast<std::uint64_t>(most.count()))));
}

void Scenario::make_directories() {
  for (const auto& user : users_) {
    const auto made = cluster_.mount()->engine->make_node(core::kRootInode, user->name, S_IFDIR | 0755, 0, {});
    EPHFS_CHECK(made.has_value(), "a directory can be made");
    user->directory = made->number;
    const auto mode = mode_of(*user);
    if (mode == meta::TtlMode::fixed) continue;
    auto& mount = *cluster_.mount()->engine;
    const char* name = mode == meta::TtlMode::modified ? "modified" : "accessed";
    const bool set = mount.set_xattr(made->number, "user.ephfs.ttl_mode", core::as_bytes(name), fs::XattrMode::any) &&
                     mount.set_xattr(made->number, "user.ephfs.ttl", core::as_bytes(core::format_span(kSlidingTtl)),
                                     fs::XattrMode::any);
    EPHFS_CHECK(set, "a directory's files may slide");
  }
}

void Scenario::await_end_of_work() {
  const auto ended = [this] { return tasks_.running() == 0; };
  if (cluster_.clock().run_while_not(ended, kEndOfWork)) return;
  std::cerr << "seed " << options_.seed << " hangs: ";
  for (const auto& user : users_) std::cerr << user->name << " is at " << user->doing << "; ";
  std::cerr << "machines: " << fate_doing_ << '\n' << judge_.findings.text();
  EPHFS_CHECK(false, "what users do comes to an end");
}

void Scenario::run() {
  auto& clock = cluster_.clock();
  make_directories();
  note_away();
  for (const auto& user : users_) {
    tasks_.spawn(cluster_.executor(), [this, user = user.get()] { return work(user); });
  }
  if (options_.faults) tasks_.spawn(cluster_.executor(), [this] { return come_and_go(); });
  if (options_.set_clocks) tasks_.spawn(cluster_.executor(), [this] { return set_clocks(); });
  if (options_.mount_crashes > 0) tasks_.spawn(cluster_.executor(), [this] { return crash_mounts(); });
  if (options_.lost_disks > 0) tasks_.spawn(cluster_.executor(), [this] { return lose_disks(); });
  if (options_.shares) tasks_.spawn(cluster_.executor(), [this] { return fetch_shares(); });
  watchers_.spawn(cluster_.executor(), [this] { return watch_deaths(); });
  watchers_.spawn(cluster_.executor(), [this] { return watch_nodes(); });

  clock.run_until(end_);
  await_end_of_work();

  auto recover = [this]() -> awaitable<void> {
    for (std::size_t i = 0; i < SimCluster::kNodes; ++i) co_await bring_back(i);
    note_away();
    const core::Instant all_back = cluster_.clock().now();
    co_await core::sleep_for(cluster_.clock(), kRecovery);
    if (options_.audits) co_await audit_everything();
    co_await read_everything(false);
    if (options_.shares) co_await look_at_ended_shares();
    if (options_.proofs) look_at_proofs(all_back);
  };
  auto recovering = recover();
  EPHFS_CHECK(clock.run(std::move(recovering), 1h), "recovery comes to an end");

  held_.clear();
  const auto directory = cluster_.mount()->directory;
  const core::Boottime began = clock.boot_now();
  const auto stopped = clock.run(cluster_.stop_mount(), 1h);
  EPHFS_CHECK(stopped.has_value(), "an unmount ends");
  if (!*stopped) judge_.findings.add("unmounting: " + stopped->error().message());
  if (clock.boot_now() - began > 5s) judge_.findings.add("unmounting takes longer than 5 s");
  for (const auto& line : SimCluster::check_catalog(directory)) judge_.findings.add("catalog: " + line);
  const auto catalog = meta::open_sqlite_catalog(directory / "catalog.db");
  if (catalog) {
    const auto removals = (*catalog)->removals(1);
    const bool is_owed = !removals || !removals->empty();
    if (is_owed && options_.lies.empty()) judge_.findings.add("removals are owed although everybody is there");
    look_at_receipts(**catalog);
  }
  watching_ = false;
  EPHFS_CHECK(clock.run(watchers_.join(), 1h), "observers come to an end");
  for (std::size_t i = 0; i < SimCluster::kNodes; ++i) look_at_disk(i);
}

std::uint64_t Scenario::digest() {
  judge_.digest.note(cluster_.network().trace());
  judge_.digest.note(cluster_.network().frames());
  return judge_.digest.value();
}

std::string Scenario::summary() const {
  const auto& tally = judge_.tally();
  return std::to_string(tally.calls) + " calls, " + std::to_string(tally.excused) + " failed for a reason, " +
         std::to_string(tally.crashed) + " cut short, " + std::to_string(tally.deaths) + " deaths seen, " +
         std::to_string(node_faults_) + " machines went away, " + std::to_string(clocks_set_) + " clocks were set, " +
         std::to_string(tally.fetched) + " shares fetched, " + std::to_string(tally.proofs) + " deaths proven, " +
         std::to_string(tally.complete) + " of them in full, " + std::to_string(tally.audited) + " shards audited, " +
         std::to_string(tally.missing) + " missing, " + std::to_string(tally.kept) + " kept by liars";
}

}  // namespace ephfs::sim
