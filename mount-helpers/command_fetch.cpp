// SPDX-License-Identifier: Apache-2.0
// ephfs fetch: the file behind a link, as a member of the pool gets it.
#include <array>
#include <csignal>
#include <cstdio>

#include <boost/asio/signal_set.hpp>
#include <unistd.h>

#include "core/config.hpp"
#include "core/keyring.hpp"
#include "fs/manifest_reader.hpp"
#include "meta/shared_file.hpp"
#include "mount-helpers/commands.hpp"
#include "mount-helpers/fetched_file.hpp"
#include "mount-helpers/loop.hpp"
#include "mount-helpers/mount_options.hpp"
#include "mount-helpers/paths.hpp"
#include "mount-helpers/volume.hpp"
#include "mount-helpers/words.hpp"
#include "net/share_link.hpp"
#include "net/tls_transport.hpp"
#include "node/node.hpp"
#include "node/pool.hpp"
#include "node/pool_peers.hpp"

namespace ephfs::cli {
namespace {

using core::awaitable;
using core::Error;
using core::fail;
using core::Result;

constexpr unsigned kLoopThreads = 2;
constexpr std::size_t kSessionsPerPeer = 2;
constexpr std::chrono::seconds kTakePatience{15};
constexpr std::size_t kLinkBytesMax = 8192;
constexpr std::chrono::milliseconds kProgressInterval{100};

/// How far it is, on a terminal.
class Progress {
 public:
  explicit Progress(std::uint64_t total) : total_(total), shown_(::isatty(STDERR_FILENO) == 1) {}
  ~Progress() {
    if (shown_ && printed_) std::fputs("\r\033[K", stderr);
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void add(std::uint64_t bytes) {
    done_ += bytes;
    const auto now = std::chrono::steady_clock::now();
    if (!shown_ || now - last_ < kProgressInterval) return;
    last_ = now;
    printed_ = true;
    constexpr unsigned kWidth = 30;
    const auto part = static_cast<unsigned>(total_ == 0 ? kWidth : done_ * kWidth / total_);
    const double seconds = std::chrono::duration<double>(now - begun_).count();
    const double speed = seconds > 0 ? static_cast<double>(done_) / seconds : 0;
    constexpr double kMebibyte = 1 << 20U;
    std::fprintf(stderr, "\r[%s%s] %.1f of %.1f MiB, %.1f MiB/s \033[K", std::string(part, '#').c_str(),
                 std::string(kWidth - part, ' ').c_str(), static_cast<double>(done_) / kMebibyte,
                 static_cast<double>(total_) / kMebibyte, speed / kMebibyte);
  }

 private:
  const std::uint64_t total_;
  const bool shown_;
  bool printed_ = false;
  std::uint64_t done_ = 0;
  const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_;
};

/// A directory's place in the pool: as which node it speaks, and whom it knows.
struct Identity {
  std::filesystem::path directory;  // the node's
  std::vector<core::PeerAddress> static_peers;
};

Result<Identity> understand_directory(const ParsedArguments& parsed) {
  Identity identity;
  std::filesystem::path given;
  if (parsed.has("--dir")) {
    given = resolved(parsed.value("--dir"));
  } else {
    auto found = find_volume("");
    if (!found)
      return fail(Error::invalid_argument,
                  "option --dir is needed: the directory of a node or volume that is in the pool");
    given = *std::move(found);
  }
  std::error_code error;
  const bool is_volume = std::filesystem::exists(node_directory_of(given) / "node.key", error);
  identity.directory = is_volume ? node_directory_of(given) : given;
  if (!std::filesystem::exists(identity.directory / "node.key", error)) {
    return fail(Error::not_found, given.string() + " is no directory of a node or volume");
  }
  std::filesystem::path config = parsed.value("--config");
  if (config.empty() && is_volume && std::filesystem::exists(given / "config.yaml", error))
    config = given / "config.yaml";
  MountOptions options;
  EPHFS_TRY_VOID(apply_config(config, "", options));
  identity.static_peers = std::move(options.peers);
  return identity;
}

Result<net::ShareLink> read_link(std::string text) {
  if (text == "-") {
    text.clear();
    for (int c = 0; (c = std::getchar()) != EOF && text.size() <= kLinkBytesMax && (c != '\n' || text.empty());) {
      text.push_back(static_cast<char>(c));
    }
  }
  return net::parse_share_link(text);
}

/// A member of the pool for as long as a fetch takes, beside its node if that runs.
class Member {
 public:
  static Result<std::unique_ptr<Member>> open(const Identity& identity, const core::PoolId& pool) {
    EPHFS_TRY(const auto file, node::read_pool_file(identity.directory));
    if (!file || file->pool != pool) {
      return fail(Error::not_permitted, "the link is of another pool than " + identity.directory.string() + " is in");
    }
    EPHFS_TRY(const auto seed, node::load_or_create_seed(identity.directory));
    std::unique_ptr<Member> member(new Member(seed));
    EPHFS_TRY(member->pool_, node::Pool::open(identity.directory, member->clock_, file->self, identity.static_peers));
    // This machine's own node is one of many here: it may run, and it is reached as the others are.
    member->peers_ = std::make_unique<node::PoolPeers>(member->links(), core::NodeId{}, nullptr, kSessionsPerPeer);
    return member;
  }
  ~Member() {
    if (peers_) peers_->close();
    loop_.run(tasks_.join());
  }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  [[nodiscard]] net::LinkContext links() { return {loop_.executor(), clock_, *transport_, *pool_, tasks_}; }
  [[nodiscard]] const net::PeerDirectory& peers() const { return *peers_; }
  [[nodiscard]] core::Clock& clock() { return clock_; }
  [[nodiscard]] Loop& loop() { return loop_; }

 private:
  explicit Member(const core::SigningSeed& seed)
      : transport_(net::make_tls_transport(loop_.executor(), clock_, seed)) {}

  core::SystemClock clock_;
  Loop loop_{kLoopThreads};
  std::unique_ptr<net::Transport> transport_;
  std::unique_ptr<node::Pool> pool_;
  core::TaskGroup tasks_;
  std::unique_ptr<node::PoolPeers> peers_;
};

core::Failure explained(const core::Failure& failure) {
  if (failure.code == Error::not_found)
    return fail(Error::not_found, "the share has ended: by its deadline, or because the file was deleted");
  return failure;
}

/// Asks the share's nodes one after the other; the first that gives it counts the fetch.
awaitable<Result<net::TakenShare>> take(Member* member, const net::ShareLink* link, std::stop_token stop) {
  const net::ShareClaim claim{link->share, core::share_token(link->secret, link->share)};
  core::Failure last = fail(Error::unreachable);
  for (const auto& holder : link->holders) {
    const auto peer = std::make_shared<net::RemotePeer>(member->links(), holder);
    const net::CallLimits limits{member->clock().boot_now() + kTakePatience, stop};
    auto taken = co_await peer->take_share(claim, limits);
    peer->close();
    if (taken) co_return taken;
    // What a node says of the share counts for more than that another one is silent.
    const bool silent = taken.error().code == Error::unreachable || taken.error().code == Error::timed_out;
    if (!silent || last.code == Error::unreachable) last = explained(taken.error());
    if (stop.stop_requested()) break;
  }
  co_return last;
}

struct Opened {
  meta::SharedFile file;
  meta::Manifest manifest;
};
Result<Opened> open_share(const net::TakenShare& taken, const net::ShareLink& link) {
  Opened opened;
  EPHFS_TRY(opened.file, meta::open_shared_file(taken.content.view(), link.secret, link.share));
  EPHFS_TRY(opened.manifest, meta::open_manifest(opened.file.manifest));
  EPHFS_TRY(const auto grant, core::open_share_grant(taken.grant));
  if (grant.owner != opened.manifest.owner) return fail(Error::damaged, "the share is of another owner than its file");
  return opened;
}

struct Destination {
  std::filesystem::path directory;
  std::string name;        // empty: what the file is called
  bool is_output = false;  // standard output; the directory is where it lies until it is whole
  FetchedFile::Existing existing = FetchedFile::Existing::refuse;
};
Result<Destination> understand_output(const ParsedArguments& parsed) {
  Destination to;
  if (parsed.has("--force")) to.existing = FetchedFile::Existing::replace;
  const std::filesystem::path output = parsed.value("-o");
  std::error_code error;
  if (output == "-") {
    to.is_output = true;
    to.directory = std::filesystem::temp_directory_path(error);
    if (error) return core::fail_errno("the directory for temporary files", error.value());
    return to;
  }
  if (output.empty() || std::filesystem::is_directory(output, error)) {
    to.directory = output.empty() ? "." : output;
    // Its name is not known before it is fetched, and to refuse it then would waste the fetch.
    if (!parsed.has("--force")) to.existing = FetchedFile::Existing::step_aside;
    return to;
  }
  to.directory = output.has_parent_path() ? output.parent_path() : ".";
  to.name = output.filename().string();
  if (!parsed.has("--force") && std::filesystem::exists(std::filesystem::symlink_status(output, error))) {
    return fail(Error::exists, shown_name(output.string()) + " (--force replaces it)");
  }
  return to;
}

Result<> fetch(Member& member, const net::ShareLink& link, const Destination& to) {
  // Before there is a file that an end would have to clean up.
  std::stop_source stop;
  core::asio::signal_set signals(member.loop().executor(), SIGTERM, SIGINT, SIGHUP);
  signals.async_wait([stop](const boost::system::error_code& error, int) mutable {
    if (!error) stop.request_stop();
  });
  // Before the fetch is counted: whether there is somewhere to put the file.
  EPHFS_TRY(auto file, FetchedFile::begin(to.directory));
  EPHFS_TRY(const auto taken, member.loop().run(take(&member, &link, stop.get_token())));
  EPHFS_TRY(auto opened, open_share(taken, link));
  EPHFS_TRY_VOID(file.set_size(opened.manifest.size));
  fs::ManifestReader reader({member.peers(), member.clock(), member.loop().executor()}, std::move(opened.manifest),
                            std::move(opened.file.key));
  {
    Progress progress(reader.data_bytes());
    fs::ManifestReader::Sink sink = [&](std::uint64_t offset, core::ByteView bytes) -> Result<> {
      EPHFS_TRY_VOID(file.write(offset, bytes));
      progress.add(bytes.size());
      return {};
    };
    EPHFS_TRY_VOID(member.loop().run(reader.read_all(std::move(sink), stop.get_token())));
  }
  if (to.is_output) return file.copy_to(STDOUT_FILENO);
  const std::string name = to.name.empty() ? opened.file.name : to.name;
  EPHFS_TRY(const auto path, file.finish(name, opened.file.mode, opened.file.modified.ns, to.existing));
  if (to.name.empty()) std::puts(shown_name(path.lexically_normal().string()).c_str());
  return {};
}

constexpr std::array kFetchOptions{
    ArgumentOption{"-o", "FILE", "what it is to be called, a directory to put it in, or - for standard output"},
    ArgumentOption{"--dir", "DIR", "the node or volume of this machine that is in the pool"},
    ArgumentOption{"--config", "FILE", "YAML with peers and pool"},
    ArgumentOption{"--force", "", "replace a file that is there"},
};

}  // namespace

const Synopsis kFetch{"ephfs fetch", "LINK|- [-o FILE|-] [--dir DIR] [--config FILE] [--force]",
                      "fetch what a link shares; - reads it from standard input, where ps does not show it",
                      kFetchOptions};

Result<> run_fetch(const Arguments& arguments) {
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, kFetch));
  if (parsed.words.size() != 1) return usage(kFetch);
  EPHFS_TRY(const auto link, read_link(parsed.words[0]));
  if (link.deadline.passed(core::SystemClock().now())) {
    return fail(Error::not_found, "the share has ended, at " + core::format_instant(link.deadline.instant()));
  }
  EPHFS_TRY(const auto identity, understand_directory(parsed));
  EPHFS_TRY(const auto to, understand_output(parsed));
  EPHFS_TRY(const auto member, Member::open(identity, link.pool));
  return fetch(*member, link, to);
}

}  // namespace ephfs::cli
