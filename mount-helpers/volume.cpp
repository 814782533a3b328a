// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/volume.hpp"

#include <algorithm>
#include <csignal>

#include <boost/asio/signal_set.hpp>
#include <fcntl.h>
#include <sys/stat.h>

#include "core/clock_alarm.hpp"
#include "core/kernel_time.hpp"
#include "core/key_wheel.hpp"
#include "core/log.hpp"
#include "fs/fuse_mount.hpp"
#include "meta/journaled_catalog.hpp"
#include "mount-helpers/loop.hpp"
#include "mount-helpers/mountpoint.hpp"
#include "mount-helpers/passphrase.hpp"
#include "mount-helpers/paths.hpp"
#include "mount-helpers/reports.hpp"
#include "mount-helpers/share_service.hpp"
#include "mount-helpers/volume_files.hpp"
#include "node/clock_keeper.hpp"
#include "node/control_server.hpp"
#include "node/node.hpp"

namespace ephfs::cli {
namespace {

using core::Error;
using core::fail;
using core::Result;

/// Stripes are coded in pieces of milliseconds. A machine that is always busy gets some of it done, too.
constexpr core::BackgroundPriority::Limits kUnhurried{std::chrono::milliseconds(250), 8};
constexpr const char* kPermanentSetting = "allow_permanent";

Result<core::VolumeKeys> open_or_create_keys(const std::filesystem::path& directory, bool is_new,
                                             const MountOptions& options) {
  const auto path = directory / "keys";
  EPHFS_TRY(auto passphrase, read_passphrase(options, is_new));
  const core::SecretText* text = passphrase ? &*passphrase : nullptr;
  return is_new ? core::create_volume_keys(path, text) : core::open_volume_keys(path, text);
}

Result<std::unique_ptr<core::EpochKeys>> open_or_create_wheel(const std::filesystem::path& directory, bool is_new,
                                                              const core::VolumeKeys& keys) {
  const auto path = directory / "wheel";
  if (is_new) EPHFS_TRY_VOID(core::KeyWheel::create(path, keys));
  EPHFS_TRY(auto wheel, core::KeyWheel::open(path, keys));
  return std::unique_ptr<core::EpochKeys>(std::move(wheel));
}

/// Whether files may live for ever is decided when the volume is made, and holds from then on.
Result<> settle_permanence(meta::Catalog& catalog, bool& allowed) {
  EPHFS_TRY(const auto settled, catalog.value(kPermanentSetting));
  if (settled) {
    const bool was_allowed = core::as_text(*settled) == "1";
    if (allowed && !was_allowed) {
      return fail(Error::invalid_argument, "option allow_permanent: this volume was created without it");
    }
    allowed = was_allowed;
    return {};
  }
  meta::Changes changes;
  changes.emplace_back(meta::PutValue{kPermanentSetting, core::to_bytes(core::as_bytes(allowed ? "1" : "0"))});
  return catalog.commit(changes);
}

/// The parts of a running volume, made in this order and ended in the other.
class RunningVolume {
 public:
  /// `is_new`: there is no volume yet, and this makes it.
  RunningVolume(VolumeRequest request, bool is_new) : request_(std::move(request)), is_new_(is_new) {}
  ~RunningVolume() { close(); }
  RunningVolume(const RunningVolume&) = delete;
  RunningVolume& operator=(const RunningVolume&) = delete;

  Result<> open() {
    EPHFS_TRY(clock_, open_clock(request_.directory, system_clock_));
    EPHFS_TRY(keys_, open_or_create_keys(request_.directory, is_new_, request_.options));
    EPHFS_TRY(auto wheel, open_or_create_wheel(request_.directory, is_new_, keys_));
    EPHFS_TRY(auto catalog, meta::open_volume_catalog(request_.directory));
    auto& ttl = request_.options.engine.ttl;
    EPHFS_TRY_VOID(settle_permanence(*catalog, ttl.allow_permanent));
    if (ttl.initial == fs::kPermanentTtl && !ttl.allow_permanent) {
      return fail(Error::invalid_argument, is_new_ ? "option ttl=never needs allow_permanent"
                                                   : "option ttl=never: this volume was created without "
                                                     "allow_permanent");
    }
    EPHFS_TRY_VOID(open_node());
    EPHFS_TRY_VOID(settle_options());
    fs::Engine::Context context{.options = request_.options.engine,
                                .catalog = std::move(catalog),
                                .keys = keys_,
                                .epoch_keys = std::move(wheel),
                                .peers = node_->peers(),
                                .clock = *clock_,
                                .executor = loop_.executor(),
                                .log =
                                    [this](const std::string& line) {
                                      core::log_line(line);
                                      if (events_.has_listeners()) events_.publish(log_event(line));
                                    },
                                .on_warning =
                                    [this](const fs::DyingFile& file) {
                                      if (events_.has_listeners()) events_.publish(warning_event(file));
                                    },
                                .background = background_.executor(),
                                .unhurried = unhurried_.executor()};
    EPHFS_TRY(engine_, fs::Engine::open(std::move(context)));
    return {};
  }

  Result<> mount(std::unique_ptr<fs::FuseGuard> guard) {
    EPHFS_TRY(auto claim, claim_mountpoint(request_.mountpoint));
    EPHFS_TRY(mount_, fs::FuseMount::mount(*engine_,
                                           {.mountpoint = request_.mountpoint,
                                            .source = request_.directory.string(),
                                            .allow_other = request_.options.allow_other,
                                            .kernel_flags = request_.options.kernel_flags},
                                           std::move(guard)));
    EPHFS_TRY(const auto device, device_mounted_on(request_.mountpoint));
    claim.close();
    EPHFS_TRY_VOID(node_->start());
    engine_->start(&mount_->kernel_cache());
    started_ = true;
    clock_->on_change([this] {
      engine_->clock_changed();
      node_->clock_changed();
    });
    keeper_ =
        std::make_unique<node::ClockKeeper>(*clock_, node_->peers(), loop_.executor(), core::synchronized_kernel_time);
    keeper_->start();
    EPHFS_TRY(alarm_, core::ClockAlarm::start([this] { keeper_->look_now(); }));
    auto handlers = volume_handlers(*engine_, *node_, *clock_, loop_, device);
    control_ = std::make_unique<node::ControlServer>(
        control_loop_.executor(), control_socket(request_.directory), std::move(handlers), &events_,
        node::ControlActions{{"/share", share_action(*engine_, *node_, device)}});
    return control_->start();
  }

  /// Serves until unmounted. SIGTERM, SIGINT and SIGHUP unmount.
  Result<> serve() {
    core::asio::signal_set signals(loop_.executor(), SIGTERM, SIGINT, SIGHUP);
    signals.async_wait([this](const boost::system::error_code& error, int) {
      if (!error) mount_->request_stop();
    });
    auto served = mount_->serve();
    signals.cancel();
    auto stopped = close();
    return served ? stopped : served;
  }

 private:
  Result<> open_node() {
    const auto directory = node_directory_of(request_.directory);
    EPHFS_TRY_VOID(make_private_directory(directory));
    EPHFS_TRY_VOID(belong_to_pool(directory, request_.options.pool, request_.options.peers_at));
    const auto& options = request_.options;
    node::NodeOptions node;
    node.directory = directory;
    node.listen = options.listen;
    if (options.engine.capacity > 0)
      node.capacity = options.engine.capacity + options.engine.capacity / 8;
    else
      node.capacity = node::kUnlimitedCapacity;
    node.static_peers = options.peers;
    EPHFS_TRY(const auto known, node::read_pool_file(directory));
    const bool alone = options.peers.empty() && (!known || known->others.empty());
    // A machine that is in a pool and serves nobody places its shards on those who serve.
    node.include_local = alone || !options.listen.empty();
    EPHFS_TRY(node_,
              node::Node::open(std::move(node), node::tls_node_context(loop_.executor(), disk_.executor(), *clock_)));
    return {};
  }

  /// What follows from who the peers are.
  Result<> settle_options() {
    auto& engine = request_.options.engine;
    engine.directory = request_.directory;
    const auto peers = node_->peers().all();
    const bool has_others = std::ranges::any_of(peers, [](const auto& peer) { return !peer->is_local(); });
    if (!request_.options.durability_given) {
      engine.durability = has_others ? fs::Durability::quorum : fs::Durability::local;
    }
    if (engine.profile && engine.profile->width() > peers.size()) {
      return fail(Error::invalid_argument, "profile " + core::format_profile(*engine.profile) + " needs " +
                                               std::to_string(engine.profile->width()) + " nodes and the pool has " +
                                               std::to_string(peers.size()));
    }
    return {};
  }

  Result<> close() {
    Result<> stopped;
    if (engine_) engine_->refuse_shares();
    if (control_) loop_.run(control_->stop());
    alarm_.reset();
    if (keeper_) loop_.run(keeper_->stop());
    if (engine_ && started_) stopped = loop_.run(engine_->stop());
    control_.reset();
    keeper_.reset();
    mount_.reset();
    engine_.reset();
    if (node_) loop_.run(node_->stop());
    node_.reset();
    started_ = false;
    return stopped;
  }

  VolumeRequest request_;
  bool is_new_;
  core::SystemClock system_clock_;
  std::unique_ptr<core::GuardedClock> clock_;  // the embedded node's too
  core::VolumeKeys keys_;
  node::EventHub events_;
  Loop loop_{Loop::serving_threads(1)};
  Loop disk_{Loop::kDiskThreads};
  Loop control_loop_{1};  // reports wait for what the other loops do
  Loop background_{core::BackgroundPriority::kPunctual};
  Loop unhurried_{kUnhurried};
  std::unique_ptr<node::Node> node_;
  std::unique_ptr<fs::Engine> engine_;
  std::unique_ptr<fs::FuseMount> mount_;
  std::unique_ptr<node::ClockKeeper> keeper_;
  std::unique_ptr<core::ClockAlarm> alarm_;
  std::unique_ptr<node::ControlServer> control_;
  bool started_ = false;
};

}  // namespace

std::filesystem::path node_directory_of(const std::filesystem::path& volume) {
  return volume / "node";
}

std::filesystem::path clock_file_of(const std::filesystem::path& directory) {
  return directory / "clock";
}

Result<std::unique_ptr<core::GuardedClock>> open_clock(const std::filesystem::path& directory, core::Clock& base) {
  EPHFS_TRY(const auto boot_id, core::read_boot_id());
  return core::GuardedClock::open(clock_file_of(directory), base, boot_id);
}

std::filesystem::path control_socket(const std::filesystem::path& directory) {
  return directory / "control.sock";
}

Result<> make_private_directory(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory.parent_path(), error);
  if (error) return core::fail_errno("making " + directory.parent_path().string(), error.value());
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return core::fail_errno("making " + directory.string());
  if (!std::filesystem::is_directory(directory, error)) return fail(Error::not_directory, directory.string());
  return {};
}

Result<> belong_to_pool(const std::filesystem::path& directory, const std::string& pool, const std::string& peers_at) {
  EPHFS_TRY(const auto known, node::read_pool_file(directory));
  if (pool.empty()) {
    if (peers_at.empty() || (known && !known->others.empty())) return {};
    return fail(Error::invalid_argument, peers_at + ": peers need the key pool, the id that all of them name");
  }
  const auto id = core::PoolId::from_hex(pool);
  if (!id) return fail(Error::invalid_argument, "pool " + pool);
  if (known && known->pool == *id) return {};
  EPHFS_TRY(const auto seed, node::load_or_create_seed(directory));
  const core::Signer signer(seed);
  return node::adopt_pool(directory, *id, {core::node_id_of(signer.public_key()), {}}, {});
}

Result<> serve_volume(VolumeRequest request, const Ready& ready) {
  EPHFS_TRY_VOID(node::check_socket_path(control_socket(request.directory)));
  EPHFS_TRY_VOID(check_fit_for_volume(request.directory));
  // First of all: it is to hold no key, and no lock.
  EPHFS_TRY(auto guard, fs::FuseGuard::start("ephfs: guard of " + request.mountpoint));
  std::error_code ignored;
  const bool is_new_directory = !std::filesystem::exists(request.directory, ignored);
  EPHFS_TRY_VOID(make_private_directory(request.directory));
  EPHFS_TRY(const auto lock, lock_volume(request.directory));
  EPHFS_TRY(const bool is_there, holds_volume(request.directory));
  std::optional<NewVolume> making;
  if (!is_there) making.emplace(request.directory, is_new_directory);
  RunningVolume volume(std::move(request), !is_there);
  EPHFS_TRY_VOID(volume.open());
  EPHFS_TRY_VOID(volume.mount(std::move(guard)));
  if (making) making->keep();
  ready();
  return volume.serve();
}

}  // namespace ephfs::cli
