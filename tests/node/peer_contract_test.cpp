// SPDX-License-Identifier: Apache-2.0
// The contract of every Peer, held by a node in this process: over a store in memory, and over files.
#include "tests/support/peer_contract.hpp"

#include "node/file_receipt_store.hpp"
#include "node/lease_reaper.hpp"
#include "node/local_peer.hpp"
#include "tests/node/node_test_support.hpp"
#include "tests/support/virtual_clock.hpp"

namespace ephfs::node::testing {
namespace {

class LocalSubject : public ephfs::testing::PeerSubject {
 public:
  LocalSubject(ShardStore& store, ReceiptStore& receipts)
      : signer_(make_signer(random_)),
        peer_(store, receipts, clock_, signer_, context_.get_executor(), shares_.get()),
        reaper_(peer_, clock_, context_.get_executor(), context_.get_executor()) {
    reaper_.start();
  }
  ~LocalSubject() override {
    EXPECT_TRUE(clock_.run(reaper_.stop()));
    EXPECT_TRUE(clock_.run(peer_.stop()));
  }

  net::Peer& peer() override { return peer_; }
  core::Clock& clock() override { return clock_; }
  core::Instant node_now() override { return clock_.now(); }
  void pass_time(core::Milliseconds span) override { clock_.run_for(span); }
  void run(std::function<core::awaitable<void>()> body) override { EXPECT_TRUE(clock_.run(body())); }

 private:
  core::asio::io_context context_;
  ephfs::testing::VirtualClock clock_{context_};
  Random random_;
  core::Signer signer_;
  TempDir directory_;
  std::unique_ptr<ShareStore> shares_ = ShareStore::open(directory_.path(), core::Instant{0}).value();
  LocalPeer peer_;
  LeaseReaper reaper_;
};

/// What the subject's store is made from comes before the subject itself.
struct InMemory {
  MemoryShardStore memory{ephfs::testing::kContractCapacity};
  MemoryReceiptStore receipts;
};
class MemoryPeerSubject final : private InMemory, public LocalSubject {
 public:
  MemoryPeerSubject() : LocalSubject(memory, receipts) {}
  void damage(const core::ShardId& shard) override { ASSERT_TRUE(memory.flip_byte(shard, 0)); }
};

struct OnDisk {
  TempDir directory;
  std::unique_ptr<FileShardStore> files =
      open_file_shard_store(directory.path(), ephfs::testing::kContractCapacity, core::Instant{0}).value();
  std::unique_ptr<FileReceiptStore> receipts = FileReceiptStore::open(directory.path(), core::Instant{0}).value();
};
class FilePeerSubject final : private OnDisk, public LocalSubject {
 public:
  FilePeerSubject() : LocalSubject(*files, *receipts) {}
  void damage(const core::ShardId& shard) override { flip_byte_in_file(shard_file(directory.path(), shard), 0); }
};

}  // namespace
}  // namespace ephfs::node::testing

namespace ephfs::testing {

const auto kLocalPeers =
    ::testing::Values(PeerMaker{"LocalInMemory", [] { return std::make_unique<node::testing::MemoryPeerSubject>(); }},
                      PeerMaker{"LocalOnFiles", [] { return std::make_unique<node::testing::FilePeerSubject>(); }});
INSTANTIATE_TEST_SUITE_P(Peers, PeerContract, kLocalPeers, peer_maker_name);
INSTANTIATE_TEST_SUITE_P(Peers, ShareContract, kLocalPeers, peer_maker_name);

}  // namespace ephfs::testing
