// SPDX-License-Identifier: Apache-2.0
// Everything that a machine is in the pool, in one object: its key, its shards and their reaper, its knowledge of the
// pool, its sessions to others, and, when it listens, the server for theirs. `ephfs node` is this and little else; a
// mount has one inside it.
//
// Files in its directory: node.key, lock, shards/, receipts/, shares/, pool, pool.lock, invitations, address.
#pragma once

#include <functional>

#include "core/clock.hpp"
#include "core/config.hpp"
#include "core/signing.hpp"
#include "net/peer_server.hpp"
#include "node/file_receipt_store.hpp"
#include "node/file_shard_store.hpp"
#include "node/lease_reaper.hpp"
#include "node/pool.hpp"
#include "node/pool_peers.hpp"

namespace ephfs::node {

struct NodeOptions {
  std::filesystem::path directory;
  std::string listen;                     // HOST:PORT, port 0 for any; empty: it does not listen
  std::string advertise;                  // where others reach it; empty: where it listens
  std::uint64_t capacity = 10ULL << 30U;  // bytes of shards
  std::vector<core::PeerAddress> static_peers;
  bool include_local = true;  // whether peers() lists this machine's own node
  std::size_t sessions_per_peer = 1;
};

/// What a node runs on. All of it is used until stop() has been awaited.
struct NodeContext {
  core::asio::any_io_executor executor;  // for the network and timers
  core::asio::any_io_executor disk;      // for blocking work; a simulation gives the same one twice
  core::Clock& clock;
  /// Makes the transport for a node with this seed.
  std::function<std::unique_ptr<net::Transport>(const core::SigningSeed& seed)> make_transport;
};
/// Real sockets with TLS.
[[nodiscard]] NodeContext tls_node_context(core::asio::any_io_executor executor, core::asio::any_io_executor disk,
                                           core::Clock& clock);

/// The signing seed of the node in `directory`, made when there is none. not_found, naming the file, when it is gone
/// from a directory that holds what others count on that very node for: shards, or its place in a pool.
[[nodiscard]] Result<core::SigningSeed> load_or_create_seed(const std::filesystem::path& directory);

class Node {
 public:
  /// Opens or makes the directory, and sweeps what expired while it was closed. Listens when it is to, but serves only
  /// from start() on. busy when another process has the directory open or the address is taken; invalid_argument for a
  /// bad address or peer.
  [[nodiscard]] static Result<std::unique_ptr<Node>> open(NodeOptions options, NodeContext context);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  /// Reaps and serves from now on, writes DIR/address, and tells the other members where this one is. Once.
  [[nodiscard]] Result<> start();
  /// Ends every session and task; afterwards the node may be destroyed. Also after a failed or missing start().
  [[nodiscard]] awaitable<void> stop();

  /// The clock was set, held or confirmed: the reaper looks again. Any thread.
  void clock_changed() { reaper_->look_again(); }

  [[nodiscard]] core::NodeId id() const { return local_->id(); }
  /// Where others reach it; empty when it does not listen.
  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] const core::Signer& signer() const { return signer_; }
  [[nodiscard]] LocalPeer& local() { return *local_; }
  [[nodiscard]] Pool& pool() { return *pool_; }
  [[nodiscard]] const ShardStore& store() const { return *store_; }
  [[nodiscard]] PoolPeers& peers() { return *peers_; }
  [[nodiscard]] net::Transport& transport() { return *transport_; }
  [[nodiscard]] std::size_t session_count() const { return server_ ? server_->session_count() : 0; }

 private:
  struct Stores {
    std::unique_ptr<FileShardStore> shards;
    std::unique_ptr<FileReceiptStore> receipts;
    std::unique_ptr<ShareStore> shares;
  };
  Node(NodeOptions options, NodeContext context, const core::SigningSeed& seed, Stores stores);
  [[nodiscard]] Result<> listen();
  [[nodiscard]] awaitable<void> announce(net::Member member);
  void announce_to_all(const core::NodeId& but);
  [[nodiscard]] std::filesystem::path address_file() const { return options_.directory / "address"; }

  const NodeOptions options_;
  const NodeContext context_;
  const core::Signer signer_;
  std::string address_;
  std::unique_ptr<net::Transport> transport_;
  std::unique_ptr<FileShardStore> store_;
  std::unique_ptr<FileReceiptStore> receipts_;
  std::unique_ptr<ShareStore> shares_;
  std::shared_ptr<LocalPeer> local_;
  std::unique_ptr<LeaseReaper> reaper_;
  std::unique_ptr<Pool> pool_;
  core::TaskGroup tasks_;  // of sessions to others, and announcements
  std::unique_ptr<PoolPeers> peers_;
  std::unique_ptr<net::PeerServer> server_;
  std::stop_source stopping_;
};

}  // namespace ephfs::node
