// SPDX-License-Identifier: Apache-2.0
// Whole nodes over real sockets with TLS on the loopback.
#include "node/node.hpp"

#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>

#include "core/keyring.hpp"
#include "net/tls_transport.hpp"
#include "node/invite.hpp"
#include "tests/node/node_test_support.hpp"

namespace ephfs::node::testing {
namespace {

namespace files = std::filesystem;
using namespace std::chrono_literals;

class NodeTest : public ::testing::Test {
 protected:
  ~NodeTest() override {
    for (auto& node : nodes_) {
      if (node) run(node->stop());
    }
    nodes_.clear();
    work_.reset();
    loop_thread_.join();
    disk_.join();
  }

  template <class T>
  T run(core::awaitable<T> task) {
    return core::asio::co_spawn(loop_, std::move(task), core::asio::use_future).get();
  }
  /// A directory for a node, which keeps it over restarts.
  files::path directory(const std::string& name) const { return directories_ / name; }
  NodeOptions listening(const std::string& name, std::vector<core::PeerAddress> peers = {}) const {
    NodeOptions options;
    options.directory = directory(name);
    options.listen = "127.0.0.1:0";
    options.capacity = kSampleCapacity;
    options.static_peers = std::move(peers);
    return options;
  }
  core::Result<std::unique_ptr<Node>> open(NodeOptions options) {
    return Node::open(std::move(options), tls_node_context(loop_.get_executor(), disk_.get_executor(), clock_));
  }
  Node& started(NodeOptions options) {
    auto node = open(std::move(options));
    EXPECT_TRUE(node) << node.error();
    EXPECT_TRUE((*node)->start());
    return *nodes_.emplace_back(std::move(*node));
  }
  void stop(Node& node) {
    run(node.stop());
    for (auto& mine : nodes_) {
      if (mine.get() == &node) mine.reset();
    }
  }
  core::Result<core::PoolId> join_with(const std::string& name, const std::string& token) {
    files::create_directories(directory(name));
    const auto seed = core::load_or_create_node_seed(directory(name) / "node.key").value();
    const auto transport = net::make_tls_transport(loop_.get_executor(), clock_, seed);
    const net::Member self{core::node_id_of(core::Signer(seed).public_key()), ""};
    return run(join(directory(name), token, self, *transport, clock_, clock_.boot_now() + 5s));
  }
  net::CallLimits limits() const { return {clock_.boot_now() + 5s, {}}; }
  core::Result<core::Envelope> store(net::Peer& peer, const SampleShard& shard) {
    const auto lease = make_lease(shard, peer.id(), owner_, clock_.now() + 1h);
    return run(peer.store(core::sign_lease(lease, owner_), {shard.source.bytes, nullptr, {}}, limits()));
  }
  core::Result<net::ShardRange> fetch(net::Peer& peer, const SampleShard& shard) {
    return run(peer.fetch({.shard = shard.id, .offset = 0, .length = shard.bytes(), .with_proof = false}, limits()));
  }
  /// Waits, by a limit that a sound run never comes near, for what another thread will do.
  static bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 1000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(5ms);
    }
    return false;
  }

  const TempDir directories_;
  Random random_;
  core::Signer owner_ = make_signer(random_);
  core::SystemClock clock_;
  core::asio::io_context loop_;
  std::optional<core::asio::executor_work_guard<core::asio::io_context::executor_type>> work_{loop_.get_executor()};
  std::thread loop_thread_{[this] { loop_.run(); }};
  core::asio::thread_pool disk_{2};
  std::vector<std::unique_ptr<Node>> nodes_;
};

TEST_F(NodeTest, ItsPeersAreWhoThePoolFileNamesNow) {
  Node& node = started(listening("one"));
  const net::Member self{node.id(), node.address()};
  const net::Member other{core::random_id<core::NodeId>(), "127.0.0.1:1"};
  const auto file = read_pool_file(directory("one"));
  ASSERT_TRUE(file && *file);
  EXPECT_EQ(node.peers().find(other.id), nullptr);

  ASSERT_TRUE(adopt_pool(directory("one"), (*file)->pool, self, {other}));
  const auto found = node.peers().find(other.id);
  ASSERT_TRUE(found);
  EXPECT_EQ(node.peers().find(other.id), found);

  ASSERT_TRUE(adopt_pool(directory("one"), (*file)->pool, self, {{other.id, "127.0.0.1:22"}}));
  EXPECT_NE(node.peers().find(other.id), found) << "it moved";

  ASSERT_TRUE(adopt_pool(directory("one"), (*file)->pool, self, {}));
  EXPECT_EQ(node.peers().find(other.id), nullptr);
}

TEST_F(NodeTest, TwoNodesJoinStoreAndFetch) {
  Node& first = started(listening("first"));
  const std::string token = invite(directory("first"), clock_.now(), 1h, 1).value();
  const auto pool = join_with("second", token);
  ASSERT_TRUE(pool) << pool.error();
  EXPECT_EQ(*pool, first.pool().pool());
  EXPECT_EQ(join_with("third", token).error().code, core::Error::not_permitted) << "used up";

  Node& second = started(listening("second"));
  EXPECT_EQ(second.pool().pool(), first.pool().pool());
  const auto remote = second.peers().find(first.id());
  ASSERT_TRUE(remote);
  EXPECT_FALSE(remote->is_local());
  const SampleShard shard = make_shard(random_, 100'000);
  const auto receipt = store(*remote, shard);
  ASSERT_TRUE(receipt) << receipt.error();
  EXPECT_EQ(core::open_receipt(*receipt)->node, first.id());
  EXPECT_TRUE(first.store().find(shard.id));
  EXPECT_FALSE(second.store().find(shard.id));
  const auto got = fetch(*remote, shard);
  ASSERT_TRUE(got) << got.error();
  EXPECT_TRUE(std::ranges::equal(got->bytes.view(), shard.source.bytes.view()));

  // The first learnt where the second listens, which it did not know when the second joined.
  ASSERT_TRUE(eventually([&] { return first.peers().find(second.id()) != nullptr; }));
  const SampleShard back = make_shard(random_, 1000);
  const auto stored_back = store(*first.peers().find(second.id()), back);
  EXPECT_TRUE(stored_back) << stored_back.error();
  EXPECT_EQ(first.peers().all().size(), 2U);
}

TEST_F(NodeTest, ComesBackOnAnotherPortAndIsFound) {
  Node& first = started(listening("first"));
  const std::string token = invite(directory("first"), clock_.now(), 1h, 1).value();
  ASSERT_TRUE(join_with("second", token));
  Node* second = &started(listening("second"));
  const SampleShard shard = make_shard(random_, 1000);
  ASSERT_TRUE(eventually([&] { return first.peers().find(second->id()) != nullptr; }));
  ASSERT_TRUE(store(*first.peers().find(second->id()), shard));
  const core::NodeId id = second->id();
  const std::string old_address = second->address();
  stop(*second);
  EXPECT_FALSE(fetch(*first.peers().find(id), shard));

  NodeOptions moved = listening("second");
  moved.listen = "127.0.0.2:0";
  second = &started(moved);
  EXPECT_EQ(second->id(), id);
  EXPECT_NE(second->address(), old_address);
  EXPECT_TRUE(eventually([&] { return fetch(*first.peers().find(id), shard).has_value(); }));
}

TEST_F(NodeTest, PeersByHandNeedNoInvitation) {
  const auto pool = core::random_id<core::PoolId>();
  const auto id_of = [&](const std::string& name) {
    files::create_directories(directory(name));
    const auto seed = core::load_or_create_node_seed(directory(name) / "node.key").value();
    const core::NodeId id = core::node_id_of(core::Signer(seed).public_key());
    EXPECT_TRUE(adopt_pool(directory(name), pool, {id, ""}, {}));
    return id;
  };
  const core::NodeId first_id = id_of("first");
  const core::NodeId second_id = id_of("second");
  Node& first = started(listening("first", {{second_id, "127.0.0.1:1"}}));
  Node& second = started(listening("second", {{first_id, first.address()}}));
  const SampleShard shard = make_shard(random_, 1000);
  const auto receipt = store(*second.peers().find(first.id()), shard);
  EXPECT_TRUE(receipt) << receipt.error();
}

TEST_F(NodeTest, JoinsWhileItRuns) {
  started(listening("first"));
  Node& second = started(listening("second"));
  const auto pool = join_with("second", invite(directory("first"), clock_.now(), 1h, 1).value());
  ASSERT_TRUE(pool) << pool.error();
  EXPECT_EQ(second.pool().pool(), *pool);
  Node& first = *nodes_[0];
  const SampleShard shard = make_shard(random_, 1000);
  ASSERT_TRUE(second.peers().find(first.id()));
  EXPECT_TRUE(store(*second.peers().find(first.id()), shard));
  ASSERT_TRUE(first.peers().find(second.id())) << "it told where it listens";
  EXPECT_TRUE(store(*first.peers().find(second.id()), shard));
}

// Only the node that made the invitation sees the newcomer; the others would turn it away unless they are told.
TEST_F(NodeTest, EverybodyHearsOfANewcomer) {
  started(listening("first"));
  for (const std::string name : {"second", "third"}) {
    ASSERT_TRUE(join_with(name, invite(directory("first"), clock_.now(), 1h, 1).value()));
    started(listening(name));
    ASSERT_TRUE(eventually([&] { return nodes_[0]->peers().find(nodes_.back()->id()) != nullptr; }));
  }
  Node& second = *nodes_[1];
  Node& third = *nodes_[2];
  ASSERT_TRUE(third.peers().find(second.id()));
  const SampleShard shard = make_shard(random_, 1000);
  EXPECT_TRUE(eventually([&] { return store(*third.peers().find(second.id()), shard).has_value(); }));
  ASSERT_TRUE(eventually([&] { return second.peers().find(third.id()) != nullptr; }));
  const SampleShard back = make_shard(random_, 1000);
  EXPECT_TRUE(eventually([&] { return store(*second.peers().find(third.id()), back).has_value(); }));
}

TEST_F(NodeTest, ServesNoStranger) {
  Node& first = started(listening("first"));
  Node& stranger = started(listening("stranger", {{first.id(), first.address()}}));
  const SampleShard shard = make_shard(random_, 1000);
  const auto refused = store(*stranger.peers().find(first.id()), shard);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, core::Error::unreachable);
  EXPECT_EQ(first.store().usage().shards, 0U);
}

TEST_F(NodeTest, WritesWhereItListens) {
  Node& node = started(listening("node"));
  const files::path file = directory("node") / "address";
  EXPECT_EQ(core::as_text(core::read_file(file, 1000).value()), node.address() + "\n");
  EXPECT_FALSE(node.address().ends_with(":0"));
  stop(node);
  EXPECT_FALSE(files::exists(file));
}

TEST_F(NodeTest, WorksAloneWithoutListening) {
  NodeOptions options = listening("alone");
  options.listen.clear();
  Node& node = started(options);
  EXPECT_EQ(node.address(), "");
  EXPECT_EQ(invite(directory("alone"), clock_.now(), 1h, 1).error().code, core::Error::invalid_argument);
  const auto peers = node.peers().all();
  ASSERT_EQ(peers.size(), 1U);
  EXPECT_TRUE(peers[0]->is_local());
  const SampleShard shard = make_shard(random_, 1000);
  ASSERT_TRUE(store(*peers[0], shard));
  EXPECT_TRUE(fetch(*peers[0], shard));
}

TEST_F(NodeTest, ListsItselfOnlyWhereItIsTo) {
  NodeOptions options = listening("node");
  options.include_local = false;
  Node& node = started(options);
  EXPECT_TRUE(node.peers().all().empty());
  EXPECT_EQ(node.peers().find(node.id()), nullptr);
}

TEST_F(NodeTest, KeepsItsNameAndItsShardsOverARestart) {
  Node* node = &started(listening("node"));
  const core::NodeId id = node->id();
  const SampleShard shard = make_shard(random_, 1000);
  ASSERT_TRUE(store(node->local(), shard));
  EXPECT_EQ(open(listening("node")).error().code, core::Error::busy);
  stop(*node);
  node = &started(listening("node"));
  EXPECT_EQ(node->id(), id);
  EXPECT_TRUE(fetch(node->local(), shard));
}

TEST_F(NodeTest, SaysWhatIsWrongWithItsOptions) {
  Node& first = started(listening("first"));
  NodeOptions options = listening("second");
  options.listen = first.address();
  EXPECT_EQ(open(options).error().code, core::Error::busy);
  options.listen = "nonsense";
  EXPECT_EQ(open(options).error().code, core::Error::invalid_argument);
  options.listen = "127.0.0.1:0";
  options.static_peers = {{first.id(), "no-port"}};
  EXPECT_EQ(open(options).error().code, core::Error::invalid_argument);
  options.static_peers = {};
  EXPECT_TRUE(open(options)) << "a failed opening leaves the directory free";
}

TEST_F(NodeTest, RefusesToJoinASecondPool) {
  Node& first = started(listening("first"));
  Node& second = started(listening("second"));
  ASSERT_TRUE(join_with("third", invite(directory("first"), clock_.now(), 1h, 1).value()));
  EXPECT_EQ(join_with("third", invite(directory("second"), clock_.now(), 1h, 1).value()).error().code,
            core::Error::exists);
  EXPECT_EQ(join_with("first", invite(directory("first"), clock_.now(), 1h, 1).value()).error().code,
            core::Error::invalid_argument);
  EXPECT_EQ(join_with("fourth", "eph-invite-nonsense").error().code, core::Error::invalid_argument);
  EXPECT_NE(first.pool().pool(), second.pool().pool());
}

}  // namespace
}  // namespace ephfs::node::testing
