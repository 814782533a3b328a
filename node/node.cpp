// SPDX-License-Identifier: Apache-2.0
#include "node/node.hpp"

#include "core/keyring.hpp"
#include "core/log.hpp"
#include "net/tls_transport.hpp"
#include "node/invite.hpp"

namespace ephfs::node {
namespace {

namespace files = std::filesystem;

constexpr std::chrono::seconds kAnnounceTime{10};

net::LogLine to_log() {
  return [](std::string line) { core::log_line(line); };
}

Result<> make_private_directory(const files::path& directory) {
  std::error_code error;
  if (files::exists(directory, error)) return {};
  files::create_directories(directory, error);
  if (!error) files::permissions(directory, files::perms::owner_all, error);
  if (error) return core::fail_errno("create " + directory.string(), error.value());
  return {};
}

bool holds_shards(const files::path& directory) {
  std::error_code error;
  files::recursive_directory_iterator entries(directory / "shards", error);
  for (; !error && entries != files::recursive_directory_iterator(); entries.increment(error)) {
    if (entries->is_regular_file(error)) return true;
  }
  return false;
}

}  // namespace

NodeContext tls_node_context(core::asio::any_io_executor executor, core::asio::any_io_executor disk,
                             core::Clock& clock) {
  return {executor, std::move(disk), clock, [executor, &clock](const core::SigningSeed& seed) {
            return net::make_tls_transport(executor, clock, seed, to_log());
          }};
}

Result<core::SigningSeed> load_or_create_seed(const files::path& directory) {
  const auto path = directory / "node.key";
  std::error_code ignored;
  if (!files::exists(path, ignored) && (files::exists(directory / "pool", ignored) || holds_shards(directory))) {
    return core::fail(core::Error::not_found, path.string() + ": the node's key is gone");
  }
  return core::load_or_create_node_seed(path);
}

Result<std::unique_ptr<Node>> Node::open(NodeOptions options, NodeContext context) {
  EPHFS_TRY_VOID(make_private_directory(options.directory));
  EPHFS_TRY(const auto seed, load_or_create_seed(options.directory));
  const core::Instant now = context.clock.destruction_now();
  EPHFS_TRY(auto store, open_file_shard_store(options.directory, options.capacity, now));
  EPHFS_TRY(auto shares, ShareStore::open(options.directory, now));
  EPHFS_TRY(auto receipts, FileReceiptStore::open(options.directory, context.clock.confirmed_now()));
  std::unique_ptr<Node> node(new Node(std::move(options), std::move(context), seed,
                                      {std::move(store), std::move(receipts), std::move(shares)}));
  if (const auto listening = node->listen(); !listening) return listening.error();
  return node;
}

Node::Node(NodeOptions options, NodeContext context, const core::SigningSeed& seed, Stores stores)
    : options_(std::move(options)),
      context_(std::move(context)),
      signer_(seed),
      transport_(context_.make_transport(seed)),
      store_(std::move(stores.shards)),
      receipts_(std::move(stores.receipts)),
      shares_(std::move(stores.shares)),
      local_(std::make_shared<LocalPeer>(*store_, *receipts_, context_.clock, signer_, context_.disk, shares_.get())),
      reaper_(std::make_unique<LeaseReaper>(*local_, context_.clock, context_.executor, context_.disk)) {}

Node::~Node() = default;

Result<> Node::listen() {
  std::error_code ignored;
  files::remove(address_file(), ignored);  // a run before this one may have been killed
  std::unique_ptr<net::Listener> listener;
  if (!options_.listen.empty()) {
    EPHFS_TRY(listener, transport_->listen(options_.listen));
    address_ = options_.advertise;
    if (address_.empty()) {
      EPHFS_TRY(address_, reachable_address(listener->address()));
    }
  }
  EPHFS_TRY(pool_, Pool::open(options_.directory, context_.clock, {id(), address_}, options_.static_peers));
  // The newcomer was told of the others; the others are told of the newcomer, or they would turn it away.
  pool_->on_admitted([this](const net::Member& newcomer) {
    if (!stopping_.stop_requested()) announce_to_all(newcomer.id);
  });
  net::LinkContext links{context_.executor, context_.clock, *transport_, *pool_, tasks_};
  peers_ = std::make_unique<PoolPeers>(std::move(links), id(), options_.include_local ? local_ : nullptr,
                                       options_.sessions_per_peer);
  if (listener) {
    server_ = std::make_unique<net::PeerServer>(context_.executor, context_.clock, std::move(listener), *local_, *pool_,
                                                to_log());
  }
  return {};
}

Result<> Node::start() {
  reaper_->start();
  if (!server_) return {};
  server_->start();
  const std::string line = address_ + '\n';
  EPHFS_TRY_VOID(core::replace_file(address_file(), core::as_bytes(line), 0644));
  announce_to_all({});
  return {};
}

void Node::announce_to_all(const core::NodeId& but) {
  for (auto& member : pool_->members()) {
    if (member.id == id() || member.id == but || member.address.empty()) continue;
    tasks_.spawn(context_.executor, [this, member] { return announce(member); });
  }
}

/// Opening a session tells the other end who this machine knows and where it listens itself. A node that only serves
/// would open none, and one that comes back on another port would not be found.
awaitable<void> Node::announce(net::Member member) {
  net::LinkContext links{context_.executor, context_.clock, *transport_, *pool_, tasks_};
  net::RemotePeer peer(std::move(links), std::move(member));
  net::CallLimits limits{context_.clock.boot_now() + kAnnounceTime, stopping_.get_token()};
  (void)co_await peer.status(std::move(limits));
}

awaitable<void> Node::stop() {
  stopping_.request_stop();
  if (server_) {
    co_await server_->stop();
    std::error_code ignored;
    files::remove(address_file(), ignored);
  }
  peers_->close();
  co_await tasks_.join();
  co_await reaper_->stop();
  co_await local_->stop();
}

}  // namespace ephfs::node
