// SPDX-License-Identifier: Apache-2.0
// Hours in the life of a cluster: users who work in directories of their own, machines that come and go, and observers
// who look at what the judge wants to know. Everything is a coroutine on the cluster's loop and chooses by the seed.
#pragma once

#include <array>

#include "net/share_link.hpp"
#include "tests/sim/checkers.hpp"
#include "tests/sim/sim_cluster.hpp"

namespace ephfs::sim {

/// What a call failed of, for the judge.
template <class T>
std::optional<core::Failure> failure_of(const Result<T>& result) {
  if (result) return std::nullopt;
  return result.error();
}

/// The name in "directory/name".
inline std::string name_of(const std::string& path) {
  return path.substr(path.find('/') + 1);
}

/// An open descriptor in the run of the daemon that opened it.
class Descriptor {
 public:
  Descriptor() = default;
  Descriptor(MountPtr mount, std::shared_ptr<fs::OpenFile> file) : mount_(std::move(mount)), file_(std::move(file)) {}
  Descriptor(Descriptor&& other) noexcept = default;
  Descriptor& operator=(Descriptor&& other) noexcept {
    close();
    mount_ = std::move(other.mount_);
    file_ = std::move(other.file_);
    return *this;
  }
  ~Descriptor() { close(); }

  [[nodiscard]] bool is_open() const { return file_ != nullptr; }
  [[nodiscard]] const std::shared_ptr<fs::OpenFile>& file() const { return file_; }
  [[nodiscard]] fs::Engine& engine() const { return *mount_->engine; }
  [[nodiscard]] const MountPtr& mount() const { return mount_; }
  void close() {
    if (file_) mount_->engine->release(file_);
    file_.reset();
    mount_.reset();
  }

 private:
  MountPtr mount_;
  std::shared_ptr<fs::OpenFile> file_;
};

struct ScenarioOptions {
  std::uint64_t seed = 0;
  core::Nanoseconds duration = std::chrono::hours(1);
  std::size_t users = 5;
  bool faults = false;         // machines crash and are cut off, two at a time at most
  unsigned lost_disks = 0;     // of nodes, one after the other; two at most
  std::vector<Lie> lies;       // of the first nodes
  bool sliding = false;        // every other user's files slide
  bool shares = false;         // users share files, and nodes fetch them
  bool proofs = false;         // what is proven of the dead is looked at in the end
  bool audits = false;         // and what audits say of every shard
  bool set_clocks = false;     // wall clocks are set wrong: back anywhere, forward on one node at a time
  unsigned mount_crashes = 0;  // of the machine with the mount, spread over the time
};

class Scenario {
 public:
  explicit Scenario(ScenarioOptions options, fs::EngineOptions engine = SimCluster::default_options());
  ~Scenario();
  Scenario(const Scenario&) = delete;
  Scenario& operator=(const Scenario&) = delete;

  /// All of it, to the unmount and the last look at every disk.
  void run();

  [[nodiscard]] Judge& judge() { return judge_; }
  /// Of all that went over the network and of all outcomes.
  [[nodiscard]] std::uint64_t digest();
  [[nodiscard]] std::string summary() const;

 private:
  struct User {
    std::size_t index = 0;
    std::string name;
    core::InodeNumber directory;
    testing::Random random;
    std::string doing;  // for whoever asks why it does not end
  };
  static constexpr std::size_t kFilesPerUser = 10;
  static constexpr std::size_t kMostAway = 2;
  static constexpr core::Milliseconds kSlidingTtl = std::chrono::minutes(3);
  struct Shared {
    net::ShareLink link;
    core::Bytes content;  // when it was shared
    std::uint32_t fetches_max = 0;
    std::uint32_t taken = 0;
  };

  void make_directories();
  void await_end_of_work();
  [[nodiscard]] core::Nanoseconds span(testing::Random& random, core::Nanoseconds least, core::Nanoseconds most);
  [[nodiscard]] bool over() { return cluster_.clock().boot_now() >= end_; }

  // What users do: scenario_users.cpp.
  [[nodiscard]] awaitable<void> work(User* user);
  [[nodiscard]] awaitable<void> write_file(User* user, std::string path);
  [[nodiscard]] awaitable<void> save(User* user, std::string path, const Descriptor* descriptor);
  [[nodiscard]] awaitable<void> read_file(User* user, std::string path);
  void unlink_file(User* user, const std::string& path);
  void rename_file(User* user, const std::string& from, const std::string& to);
  void truncate_file(User* user, const std::string& path);
  void set_ttl(User* user, const std::string& path);
  /// Opens what the path leads to; none when the judge knows why not or has noted it.
  [[nodiscard]] Descriptor open(const std::string& path, int flags);
  [[nodiscard]] core::InodeNumber directory_of(const std::string& path) const;

  [[nodiscard]] meta::TtlMode mode_of(const User& user) const;
  [[nodiscard]] Death slid(ExpectedFile& file, core::Instant began, bool written, bool went_well);

  // Sharing: scenario_shares.cpp.
  [[nodiscard]] awaitable<void> share_file(User* user, std::string path);
  [[nodiscard]] awaitable<void> fetch_shares();
  [[nodiscard]] awaitable<void> fetch(std::size_t which, std::size_t node);
  [[nodiscard]] awaitable<void> look_at_ended_shares();

  // What was signed, and what nodes really have: scenario_evidence.cpp.
  void take_proof(const std::string& path, const Descriptor& descriptor);
  void look_at_proofs(core::Instant complete_before);
  [[nodiscard]] awaitable<void> audit_everything();
  [[nodiscard]] bool is_missing(std::size_t node, const core::ShardId& shard);
  void look_at_receipts(const meta::Catalog& catalog);
  void look_at_receipt(const std::string& whose, const core::Bytes& bytes, const core::ShardId& shard,
                       std::size_t node);
  [[nodiscard]] std::size_t index_of(const core::NodeId& node) const;

  // Who comes and goes, and who looks: scenario_machines.cpp.
  [[nodiscard]] awaitable<void> come_and_go();
  [[nodiscard]] awaitable<void> set_clocks();
  [[nodiscard]] awaitable<void> lose_disks();
  [[nodiscard]] awaitable<void> bring_back(std::size_t node);
  void note_away();
  void say(const std::string& what);
  [[nodiscard]] awaitable<void> crash_mounts();
  [[nodiscard]] awaitable<void> watch_deaths();
  void look_at_death(const std::string& path, const ExpectedFile& file);
  [[nodiscard]] awaitable<void> watch_nodes();
  void look_at_node(std::size_t node);
  void look_at_disk(std::size_t node);
  [[nodiscard]] awaitable<void> read_everything(bool after_crash);

  const ScenarioOptions options_;
  SimCluster cluster_;
  Judge judge_;
  core::Boottime end_;
  std::vector<std::unique_ptr<User>> users_;
  testing::Random fate_;
  core::TaskGroup tasks_;
  core::TaskGroup watchers_;
  std::map<std::string, Descriptor> held_;  // open while their file waits for its deadline
  std::size_t working_ = 0;                 // users in the middle of something
  bool paused_ = false;
  bool watching_ = true;
  std::array<std::multimap<core::Deadline, core::ShardId>, SimCluster::kNodes> leases_seen_;
  std::vector<Shared> shares_;
  std::map<core::FileId, std::string> proven_;  // files of which a proof was taken while they lived
  std::uint64_t node_faults_ = 0;
  std::uint64_t clocks_set_ = 0;
  std::string fate_doing_;
};

}  // namespace ephfs::sim
