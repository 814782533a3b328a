// SPDX-License-Identifier: Apache-2.0
// A whole pool in one process, in virtual time: one machine that mounts a volume and several nodes, all of it
// production code on one loop, over a simulated network and directories in memory. What happens depends on the seed
// alone.
//
// A crash is what kill -9 or a power switch does to a machine: its channels break and all it had in memory is gone;
// what its process had written is there when it comes back. Only the loop's thread touches any of it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/guarded_clock.hpp"
#include "core/keyring.hpp"
#include "fs/engine.hpp"
#include "node/clock_keeper.hpp"
#include "node/node.hpp"
#include "tests/sim/lying_peer.hpp"
#include "tests/support/seeded.hpp"
#include "tests/support/shifted_clock.hpp"
#include "tests/support/sim_network.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/virtual_clock.hpp"

namespace ephfs::sim {

using core::awaitable;
using core::Result;

/// A machine's time: a wall clock that may be set wrong, and the guard over it that the daemon goes by.
struct MachineClock {
  explicit MachineClock(core::Clock& base) : wall(base) {}
  testing::ShiftedClock wall;
  std::unique_ptr<core::GuardedClock> guarded;
  std::unique_ptr<node::ClockKeeper> keeper;
};

/// One run of the daemon. After a crash there is another, over what this one had written; this one is left to itself,
/// without a network, so that whoever still waits in it comes to an end.
struct Mount {
  std::string host;
  std::filesystem::path directory;  // the volume's
  std::unique_ptr<MachineClock> time;
  std::unique_ptr<node::Node> node;
  std::unique_ptr<fs::Engine> engine;
};
using MountPtr = std::shared_ptr<Mount>;

class SimCluster {
 public:
  static constexpr std::size_t kNodes = 6;

  /// `lies[i]` is what node i lies about; those behind the end are honest.
  explicit SimCluster(std::uint64_t seed, fs::EngineOptions options = default_options(), std::vector<Lie> lies = {});
  /// Stops whatever runs. Nobody holds a descriptor any more.
  ~SimCluster();
  SimCluster(const SimCluster&) = delete;
  SimCluster& operator=(const SimCluster&) = delete;

  /// 4+2, fsync to a quorum, and so small a cache that reads go to the nodes.
  [[nodiscard]] static fs::EngineOptions default_options();

  [[nodiscard]] testing::VirtualClock& clock() { return clock_; }
  [[nodiscard]] testing::SimNetwork& network() { return *network_; }
  [[nodiscard]] core::asio::any_io_executor executor() { return context_.get_executor(); }
  [[nodiscard]] const MountPtr& mount() const { return mount_; }
  [[nodiscard]] const fs::EngineOptions& options() const { return options_; }
  /// Null while it is down.
  [[nodiscard]] node::Node* node(std::size_t which) const { return nodes_[which].running.get(); }
  [[nodiscard]] std::filesystem::path node_directory(std::size_t which) const { return nodes_[which].directory; }

  /// Of a node that lies; null for an honest one. It is never down.
  [[nodiscard]] const LyingPeer* liar(std::size_t which) const { return nodes_[which].liar.get(); }
  [[nodiscard]] core::NodeId node_id(std::size_t which) const { return nodes_[which].id; }
  [[nodiscard]] std::string address(std::size_t which) const { return nodes_[which].address; }

  /// What a new disk in a node that is down has: its key and its pool, and nothing of what it kept.
  void lose_disk(std::size_t which);
  /// Resumes when nothing of the node is left in memory.
  [[nodiscard]] awaitable<void> crash_node(std::size_t which);
  /// Opens it again, but serves nothing yet.
  void open_node(std::size_t which);
  void start_node(std::size_t which);
  void cut_off(std::size_t which);
  void reconnect(std::size_t which);
  [[nodiscard]] bool is_down(std::size_t which) const { return nodes_[which].running == nullptr; }
  [[nodiscard]] bool is_cut_off(std::size_t which) const { return nodes_[which].cut_off; }

  /// Sets a node's wall clock wrong by this much, until it is set again. It is up.
  void set_node_clock(std::size_t which, core::Milliseconds shift) { nodes_[which].time->wall.set_shift(shift); }
  void set_mount_clock(core::Milliseconds shift) { mount_->time->wall.set_shift(shift); }
  [[nodiscard]] bool is_held(std::size_t which) const {
    return nodes_[which].running != nullptr && nodes_[which].time->guarded->is_held();
  }
  [[nodiscard]] core::GuardedClock& node_clock(std::size_t which) { return *nodes_[which].time->guarded; }
  [[nodiscard]] core::GuardedClock& mount_clock() { return *mount_->time->guarded; }

  /// The machine with the mount dies and is there again. What is then broken in its catalog.
  [[nodiscard]] std::vector<std::string> crash_mount();
  /// Unmounts in order. Afterwards the catalog may be opened by others.
  [[nodiscard]] awaitable<Result<>> stop_mount();
  /// What is broken in the catalog of a volume that nobody has open.
  [[nodiscard]] static std::vector<std::string> check_catalog(const std::filesystem::path& directory);

 private:
  struct SimNode {
    std::string host;
    std::filesystem::path directory;
    std::string address;
    core::NodeId id;
    std::unique_ptr<MachineClock> time;
    std::unique_ptr<node::Node> running;
    bool cut_off = false;
    Lie lie = Lie::none;
    std::unique_ptr<LyingPeer> liar;
    std::unique_ptr<net::PeerServer> liars_server;
  };

  [[nodiscard]] node::NodeContext node_context(const std::string& host, core::Clock& clock);
  [[nodiscard]] std::unique_ptr<MachineClock> open_clock(const std::filesystem::path& directory);
  void keep_clock(MachineClock& time, node::Node& node, fs::Engine* engine);
  void start_liar(SimNode& node);
  void make_pool();
  [[nodiscard]] MountPtr open_mount(unsigned number);

  testing::SeededRandomness randomness_;
  testing::TempDir directory_;
  core::asio::io_context context_;
  testing::VirtualClock clock_{context_};
  std::unique_ptr<testing::SimNetwork> network_;
  core::VolumeKeys keys_;
  fs::EngineOptions options_;
  std::vector<SimNode> nodes_;
  unsigned mounts_made_ = 0;
  MountPtr mount_;
  std::vector<MountPtr> crashed_mounts_;
};

}  // namespace ephfs::sim
