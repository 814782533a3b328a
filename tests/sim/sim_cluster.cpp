// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_cluster.hpp"

#include <algorithm>

#include "core/key_wheel.hpp"
#include "core/log.hpp"
#include "meta/sqlite_catalog.hpp"
#include "node/pool_files.hpp"

namespace ephfs::sim {
namespace {

namespace files = std::filesystem;
using namespace std::chrono_literals;

constexpr std::uint64_t kNodeCapacity = std::uint64_t{2} << 30U;
constexpr const char* kCatalogName = "catalog.db";

template <class T>
T value_of(Result<T> result) {
  if (!result) core::log_line(result.error().message());
  EPHFS_CHECK(result.has_value(), "a simulated machine starts");
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

net::Member member_of(const files::path& directory, const std::string& address) {
  files::create_directories(directory);
  const auto seed = value_of(core::load_or_create_node_seed(directory / "node.key"));
  return {core::node_id_of(core::Signer(seed).public_key()), address};
}

/// What a killed daemon leaves: its files as they are. The write-ahead log goes first, because the catalog's
/// checkpoints may go on meanwhile: they write into the main file what the log still holds.
void copy_volume(const files::path& from, const files::path& to) {
  files::create_directories(to);
  const std::string log = std::string(kCatalogName) + "-wal";
  if (files::exists(from / log)) files::copy_file(from / log, to / log);
  for (const auto& entry : files::directory_iterator(from)) {
    const std::string name = entry.path().filename();
    if (name == log || name == std::string(kCatalogName) + "-shm") continue;
    files::copy(entry.path(), to / name, files::copy_options::recursive);
  }
}

}  // namespace

fs::EngineOptions SimCluster::default_options() {
  fs::EngineOptions options;
  options.profile = core::Profile{4, 2};
  options.durability = fs::Durability::quorum;
  options.ttl.initial = 40min;
  options.cache_bytes = std::uint64_t{512} << 10U;
  options.staging_bytes = std::uint64_t{48} << 20U;
  options.dirty_bytes = std::uint64_t{8} << 20U;
  return options;
}

SimCluster::SimCluster(std::uint64_t seed, fs::EngineOptions options, std::vector<Lie> lies)
    : randomness_(seed),
      network_(std::make_unique<testing::SimNetwork>(context_.get_executor(), clock_, seed)),
      keys_{core::random_id<core::VolumeId>(), core::random_key(), core::random_key()},
      options_(std::move(options)) {
  for (std::size_t i = 0; i < kNodes; ++i) {
    SimNode node;
    node.host = "node" + std::to_string(i);
    node.directory = directory_ / node.host;
    node.address = node.host + ":7000";
    if (i < lies.size()) node.lie = lies[i];
    nodes_.push_back(std::move(node));
  }
  make_pool();
  for (std::size_t i = 0; i < kNodes; ++i) {
    open_node(i);
    start_node(i);
  }
  mount_ = open_mount(0);
}

SimCluster::~SimCluster() {
  auto stop_all = [this]() -> awaitable<void> {
    if (mount_) (void)co_await stop_mount();
    for (const auto& mount : crashed_mounts_) {
      co_await mount->time->keeper->stop();
      (void)co_await mount->engine->stop();
      mount->engine.reset();
      co_await mount->node->stop();
      mount->node.reset();
    }
    for (auto& node : nodes_) {
      if (!node.running) continue;
      if (node.time->keeper) co_await node.time->keeper->stop();
      if (node.liars_server) co_await node.liars_server->stop();
      node.liars_server.reset();
      co_await node.running->stop();
      node.running.reset();
    }
  };
  auto stopping = stop_all();
  EPHFS_CHECK(clock_.run(std::move(stopping)), "a cluster comes to rest");
  network_.reset();
  clock_.settle();
}

/// Everybody knows everybody, as after invitations.
void SimCluster::make_pool() {
  const auto pool = core::random_id<core::PoolId>();
  std::vector<std::pair<files::path, net::Member>> members;
  for (auto& node : nodes_) {
    members.emplace_back(node.directory, member_of(node.directory, node.address));
    node.id = members.back().second.id;
  }
  const files::path mounting = directory_ / "mount0" / "node";
  members.emplace_back(mounting, member_of(mounting, ""));
  for (const auto& [directory, self] : members) {
    node::PoolFile file;
    file.pool = pool;
    file.self = self;
    for (const auto& [ignored, other] : members) {
      if (other.id != self.id) file.others.push_back(other);
    }
    std::ranges::sort(file.others, {}, &net::Member::id);
    value_of(node::write_pool_file(directory, file));
  }
}

/// A shift outlives neither a crash nor a restart: NTP sets the clock when a machine starts.
std::unique_ptr<MachineClock> SimCluster::open_clock(const files::path& directory) {
  auto time = std::make_unique<MachineClock>(clock_);
  time->guarded = value_of(core::GuardedClock::open(directory / "clock", time->wall, core::BootId{std::byte{1}}));
  return time;
}

/// No kernel vouches for a clock here.
void SimCluster::keep_clock(MachineClock& time, node::Node& node, fs::Engine* engine) {
  time.guarded->on_change([&node, engine] {
    node.clock_changed();
    if (engine != nullptr) engine->clock_changed();
  });
  time.keeper = std::make_unique<node::ClockKeeper>(*time.guarded, node.peers(), executor(),
                                                    []() -> std::optional<core::Instant> { return std::nullopt; });
  time.keeper->start();
}

node::NodeContext SimCluster::node_context(const std::string& host, core::Clock& clock) {
  return {executor(), executor(), clock, [this, host](const core::SigningSeed& seed) {
            const core::Signer signer(seed);
            return network_->transport_for(core::node_id_of(signer.public_key()), signer.public_key(), host);
          }};
}

awaitable<void> SimCluster::crash_node(std::size_t which) {
  SimNode& node = nodes_[which];
  network_->crash(node.host);
  auto old = std::move(node.running);
  const auto time = std::move(node.time);
  if (time->keeper) co_await time->keeper->stop();
  co_await old->stop();
  old.reset();
}

void SimCluster::open_node(std::size_t which) {
  SimNode& node = nodes_[which];
  network_->restart(node.host);
  node::NodeOptions options;
  options.directory = node.directory;
  // A liar does not let the node that it might have been speak to others.
  if (node.lie == Lie::none) options.listen = options.advertise = node.address;
  options.capacity = kNodeCapacity;
  node.time = open_clock(node.directory);
  node.running = value_of(node::Node::open(std::move(options), node_context(node.host, *node.time->guarded)));
}

void SimCluster::start_node(std::size_t which) {
  SimNode& node = nodes_[which];
  value_of(node.running->start());
  if (node.lie != Lie::none) start_liar(node);
  keep_clock(*node.time, *node.running, nullptr);
}

void SimCluster::start_liar(SimNode& node) {
  const auto seed = value_of(core::load_or_create_node_seed(node.directory / "node.key"));
  node.liar = std::make_unique<LyingPeer>(*node.time->guarded, seed, kNodeCapacity, node.lie);
  value_of(node.running->pool().set_own_address(node.address));
  node.liars_server = std::make_unique<net::PeerServer>(executor(), *node.time->guarded,
                                                        value_of(node.running->transport().listen(node.address)),
                                                        *node.liar, node.running->pool());
  node.liars_server->start();
}

void SimCluster::lose_disk(std::size_t which) {
  EPHFS_CHECK(is_down(which), "a disk is changed while the machine is off");
  for (const char* kind : {"shards", "receipts", "shares"}) files::remove_all(nodes_[which].directory / kind);
}

void SimCluster::cut_off(std::size_t which) {
  nodes_[which].cut_off = true;
  network_->partition(mount_->host, nodes_[which].host);
}

void SimCluster::reconnect(std::size_t which) {
  nodes_[which].cut_off = false;
  network_->heal(mount_->host, nodes_[which].host);
}

MountPtr SimCluster::open_mount(unsigned number) {
  auto mount = std::make_shared<Mount>();
  mount->host = "mount" + std::to_string(number);
  mount->directory = directory_ / mount->host;
  for (const auto& node : nodes_) {
    if (node.cut_off) network_->partition(mount->host, node.host);
  }
  node::NodeOptions node_options;
  node_options.directory = mount->directory / "node";
  node_options.include_local = false;
  mount->time = open_clock(mount->directory);
  mount->node = value_of(node::Node::open(std::move(node_options), node_context(mount->host, *mount->time->guarded)));
  value_of(mount->node->start());
  auto options = options_;
  options.directory = mount->directory;
  const files::path wheel_path = mount->directory / "wheel";
  if (number == 0) value_of(core::KeyWheel::create(wheel_path, keys_));
  auto wheel = value_of(core::KeyWheel::open(wheel_path, keys_));
  auto catalog = value_of(meta::open_sqlite_catalog(mount->directory / kCatalogName));
  mount->engine = value_of(
      fs::Engine::open({std::move(options), std::move(catalog), keys_, std::move(wheel), mount->node->peers(),
                        *mount->time->guarded, executor(), [](const std::string& line) { core::log_line(line); }}));
  mount->engine->start(nullptr);
  keep_clock(*mount->time, *mount->node, mount->engine.get());
  return mount;
}

std::vector<std::string> SimCluster::crash_mount() {
  network_->crash(mount_->host);
  const unsigned number = ++mounts_made_;
  const files::path directory = directory_ / ("mount" + std::to_string(number));
  copy_volume(mount_->directory, directory);
  crashed_mounts_.push_back(std::move(mount_));
  auto broken = check_catalog(directory);
  mount_ = open_mount(number);
  return broken;
}

awaitable<Result<>> SimCluster::stop_mount() {
  const auto mount = std::move(mount_);
  co_await mount->time->keeper->stop();
  auto stopped = co_await mount->engine->stop();
  mount->engine.reset();
  co_await mount->node->stop();
  mount->node.reset();
  mount->time.reset();
  co_return stopped;
}

std::vector<std::string> SimCluster::check_catalog(const files::path& directory) {
  const auto catalog = value_of(meta::open_sqlite_catalog(directory / kCatalogName));
  return value_of(catalog->check());
}

}  // namespace ephfs::sim
