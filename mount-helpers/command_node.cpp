// SPDX-License-Identifier: Apache-2.0
// ephfs node, invite and join: being in a pool.
#include <array>
#include <charconv>
#include <csignal>
#include <cstdio>

#include <boost/asio/signal_set.hpp>

#include "core/clock_alarm.hpp"
#include "core/guarded_clock.hpp"
#include "core/kernel_time.hpp"
#include "core/log.hpp"
#include "mount-helpers/clock_report.hpp"
#include "mount-helpers/commands.hpp"
#include "mount-helpers/loop.hpp"
#include "mount-helpers/paths.hpp"
#include "mount-helpers/reports.hpp"
#include "mount-helpers/volume.hpp"
#include "net/tls_transport.hpp"
#include "net/token.hpp"
#include "node/clock_keeper.hpp"
#include "node/invite.hpp"
#include "node/node.hpp"

namespace ephfs::cli {
namespace {

using core::Error;
using core::fail;
using core::Result;

constexpr std::chrono::seconds kJoinPatience{15};

Result<node::NodeOptions> understand_node(const ParsedArguments& parsed) {
  if (!parsed.words.empty() || !parsed.has("--dir") || !parsed.has("--listen")) {
    return usage(kNode);
  }
  node::NodeOptions options;
  options.directory = resolved(parsed.value("--dir"));
  options.listen = parsed.value("--listen");
  if (auto address = core::parse_address(options.listen, true); !address) {
    return bad_option(parsed, "--listen", "HOST:PORT");
  }
  options.advertise = parsed.value("--advertise");
  if (parsed.has("--capacity")) {
    auto capacity = core::parse_size(parsed.value("--capacity"));
    if (!capacity) return bad_option(parsed, "--capacity", "a size like 10G, 512M or a number of bytes");
    options.capacity = *capacity;
  }
  options.include_local = false;
  return options;
}

Result<> join_from(const std::filesystem::path& directory, const std::string& token, const std::string& address,
                   core::Clock& clock, Loop& loop) {
  EPHFS_TRY(const auto seed, node::load_or_create_seed(directory));
  const core::Signer signer(seed);
  const auto transport = net::make_tls_transport(loop.executor(), clock, seed);
  const net::Member self{core::node_id_of(signer.public_key()), address};
  const auto joined = loop.run(node::join(directory, token, self, *transport, clock, clock.boot_now() + kJoinPatience));
  if (!joined) return joined.error();
  return {};
}

Result<> follow_config(const std::string& path, node::NodeOptions& options) {
  EPHFS_TRY(auto file, core::read_config(path, {"pool"}));
  const auto at = [&](int line) { return file.path.string() + ":" + std::to_string(line); };
  const auto [pool, line] = file.settings["pool"];
  if (line > 0 && !core::PoolId::from_hex(pool)) {
    return fail(Error::invalid_argument, at(line) + ": pool: " + pool + ": expected 32 hexadecimal digits");
  }
  EPHFS_TRY_VOID(belong_to_pool(options.directory, pool, file.peers.empty() ? "" : at(file.peers_line)));
  options.static_peers = std::move(file.peers);
  return {};
}

/// A node that is to join: it joins once it knows where it listens, then serves as a member.
Result<> serve_node(node::NodeOptions options, const std::string& token, const std::string& config) {
  EPHFS_TRY_VOID(node::check_socket_path(control_socket(options.directory)));
  EPHFS_TRY_VOID(make_private_directory(options.directory));
  core::SystemClock system_clock;
  EPHFS_TRY(const auto clock, open_clock(options.directory, system_clock));
  Loop loop(Loop::serving_threads(2));
  Loop disk(Loop::kDiskThreads);
  Loop control_loop(1);  // reports wait for what the other loops do
  if (!config.empty()) EPHFS_TRY_VOID(follow_config(config, options));
  const auto directory = options.directory;
  const auto context = node::tls_node_context(loop.executor(), disk.executor(), *clock);
  EPHFS_TRY(auto node, node::Node::open(std::move(options), context));
  clock->on_change([&node] { node->clock_changed(); });
  node::ClockKeeper keeper(*clock, node->peers(), loop.executor(), core::synchronized_kernel_time);
  auto served = [&]() -> Result<> {
    if (!token.empty()) EPHFS_TRY_VOID(join_from(directory, token, node->address(), *clock, loop));
    EPHFS_TRY_VOID(node->start());
    keeper.start();
    EPHFS_TRY(const auto alarm, core::ClockAlarm::start([&keeper] { keeper.look_now(); }));
    node::ControlServer control(control_loop.executor(), control_socket(directory), node_handlers(*node, *clock, loop));
    EPHFS_TRY_VOID(control.start());
    std::promise<void> told_to_end;
    core::asio::signal_set signals(loop.executor(), SIGTERM, SIGINT);
    signals.async_wait([&told_to_end](const boost::system::error_code&, int) { told_to_end.set_value(); });
    told_to_end.get_future().wait();
    loop.run(control.stop());
    return {};
  }();
  loop.run(keeper.stop());
  loop.run(node->stop());
  return served;
}

/// The node directory that a command means: --dir, or the embedded node of a volume.
Result<std::filesystem::path> node_directory(const ParsedArguments& parsed, std::size_t volume_word,
                                             const Synopsis& synopsis) {
  const bool has_volume = parsed.words.size() == volume_word + 1;
  if (parsed.words.size() > volume_word + 1 || has_volume == parsed.has("--dir")) return usage(synopsis);
  if (!has_volume) return resolved(parsed.value("--dir"));
  EPHFS_TRY(const auto volume, find_volume(parsed.words[volume_word]));
  return node_directory_of(volume);
}

constexpr std::array kNodeOptions{
    ArgumentOption{"--dir", "DIR", "where it keeps them; made on first use"},
    ArgumentOption{"--listen", "HOST:PORT", "where it serves; port 0: any that is free"},
    ArgumentOption{"--capacity", "SIZE", "how much it stores at most: 10G"},
    ArgumentOption{"--advertise", "HOST:PORT", "what others reach it by, where that is not what it listens on"},
    ArgumentOption{"--join", "TOKEN", "join the pool that made the token"},
    ArgumentOption{"--config", "FILE", "YAML with peers and pool"},
};
constexpr std::array kInviteOptions{
    kDirOption,
    ArgumentOption{"--uses", "N", "how many may join with it; 1"},
    ArgumentOption{"--ttl", "SPAN", "how long it is good for; 1h"},
};
constexpr std::array kJoinOptions{
    kDirOption,
    ArgumentOption{"--advertise", "HOST:PORT", "what others reach the node by"},
};

}  // namespace

const Synopsis kNode{
    "ephfs node",
    "--dir DIR --listen HOST:PORT [--capacity SIZE] [--advertise HOST:PORT] [--join TOKEN] [--config FILE]",
    "store shards for others", kNodeOptions};
const Synopsis kInvite{"ephfs invite", "(VOLUME | MOUNTPOINT | --dir DIR) [--uses N] [--ttl SPAN]",
                       "print a token that lets machines join the pool", kInviteOptions};
const Synopsis kJoin{"ephfs join", "TOKEN (VOLUME | --dir DIR [--advertise HOST:PORT])",
                     "join the pool that made the token", kJoinOptions};

int run_node(const Arguments& arguments) {
  const auto outcome = [&]() -> Result<> {
    EPHFS_TRY(const auto parsed, parse_arguments(arguments, kNode));
    EPHFS_TRY(auto options, understand_node(parsed));
    return serve_node(std::move(options), parsed.value("--join"), parsed.value("--config"));
  }();
  if (outcome) return 0;
  core::log_line(line_of(outcome.error()));
  return 1;
}

Result<> run_invite(const Arguments& arguments) {
  constexpr std::uint32_t kUsesMax = 4096;
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, kInvite));
  EPHFS_TRY(const auto directory, node_directory(parsed, 0, kInvite));
  const std::string uses_text = parsed.value("--uses", "1");
  std::uint32_t uses = 0;
  const auto [end, error] = std::from_chars(uses_text.data(), uses_text.data() + uses_text.size(), uses);
  if (error != std::errc{} || end != uses_text.data() + uses_text.size() || uses == 0 || uses > kUsesMax) {
    return bad_option(parsed, "--uses", "1 to " + std::to_string(kUsesMax));
  }
  auto lasts = core::parse_span(parsed.value("--ttl", "1h"));
  if (!lasts) return bad_option(parsed, "--ttl", "a span like 90s, 15m, 6h or 7d");
  // A volume's daemon answers for the node in it.
  const core::Instant now = time_in(parsed.has("--dir") ? directory : directory.parent_path());
  EPHFS_TRY(const auto token, node::invite(directory, now, *lasts, uses));
  std::puts(token.c_str());
  return {};
}

Result<> run_join(const Arguments& arguments) {
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, kJoin));
  if (parsed.words.empty()) return usage(kJoin);
  EPHFS_TRY(const auto directory, node_directory(parsed, 1, kJoin));
  EPHFS_TRY_VOID(net::parse_token(parsed.words[0]));
  if (!parsed.has("--dir")) EPHFS_TRY_VOID(make_private_directory(directory.parent_path()));
  EPHFS_TRY_VOID(make_private_directory(directory));
  core::SystemClock clock;
  Loop loop(1);
  return join_from(directory, parsed.words[0], parsed.value("--advertise"), clock, loop);
}

}  // namespace ephfs::cli
