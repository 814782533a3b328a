// SPDX-License-Identifier: Apache-2.0
// RemotePeer over PeerServer: the contract of a Peer on both transports, and connecting, losing and finding each other
// again in virtual time.
#include "net/remote_peer.hpp"

#include "net/peer_server.hpp"
#include "tests/net/net_rig.hpp"
#include "tests/support/fake_membership.hpp"
#include "tests/support/fake_peer.hpp"
#include "tests/support/peer_contract.hpp"

namespace ephfs::net::testing {
namespace {

using ephfs::testing::FakeMembership;
using ephfs::testing::FakePeer;
using ephfs::testing::PeerContract;
using ephfs::testing::PeerMaker;
using ephfs::testing::PeerSubject;
using ephfs::testing::SampleShard;

core::PoolId make_pool(Random& random) {
  return *core::PoolId::from_bytes(random.bytes(core::PoolId::kSize));
}

class RemoteSubject final : public PeerSubject {
 public:
  explicit RemoteSubject(const RigKind& kind) : rig_(kind.make()) {
    membership_.add({client_id_.id, ""});
    auto listener = server_transport_->listen(rig_->any_address("node"));
    EXPECT_TRUE(listener) << listener.error();
    const Member member{node_id_.id, (*listener)->address()};
    membership_.add(member);
    server_ = std::make_unique<PeerServer>(rig_->executor(), rig_->clock(), std::move(*listener), fake_, membership_);
    server_->start();
    LinkContext context{rig_->executor(), rig_->clock(), *client_transport_, membership_, tasks_};
    peer_ = std::make_unique<RemotePeer>(std::move(context), member);
  }
  ~RemoteSubject() override {
    peer_->close();
    rig_->run([this]() -> awaitable<void> {
      co_await server_->stop();
      co_await tasks_.join();
    });
    peer_.reset();
    server_.reset();
  }
  RemoteSubject(const RemoteSubject&) = delete;
  RemoteSubject& operator=(const RemoteSubject&) = delete;

  [[nodiscard]] Peer& peer() override { return *peer_; }
  [[nodiscard]] core::Clock& clock() override { return rig_->clock(); }
  [[nodiscard]] core::Instant node_now() override { return fake_.wall_now(); }
  void pass_time(core::Milliseconds span) override { fake_.skip_wall(span); }
  void damage(const core::ShardId& shard) override { EXPECT_TRUE(fake_.damage(shard)); }
  void run(std::function<awaitable<void>()> body) override { rig_->run(std::move(body)); }

 private:
  Random random_;
  Identity client_id_ = make_identity(random_);
  Identity node_id_ = make_identity(random_);
  FakeMembership membership_{make_pool(random_)};
  std::unique_ptr<NetRig> rig_;
  std::unique_ptr<Transport> client_transport_ = rig_->transport(client_id_, "client");
  std::unique_ptr<Transport> server_transport_ = rig_->transport(node_id_, "node");
  FakePeer fake_{rig_->clock(), node_id_.seed, ephfs::testing::kContractCapacity, FakePeer::Wall::stopped};
  core::TaskGroup tasks_;
  std::unique_ptr<PeerServer> server_;
  std::unique_ptr<RemotePeer> peer_;
};

// The fake without a network, so that it can be trusted as the other end of one.
class FakeSubject final : public PeerSubject {
 public:
  [[nodiscard]] Peer& peer() override { return fake_; }
  [[nodiscard]] core::Clock& clock() override { return rig_.clock(); }
  [[nodiscard]] core::Instant node_now() override { return fake_.wall_now(); }
  void pass_time(core::Milliseconds span) override { fake_.skip_wall(span); }
  void damage(const core::ShardId& shard) override { EXPECT_TRUE(fake_.damage(shard)); }
  void run(std::function<awaitable<void>()> body) override { rig_.run(std::move(body)); }

 private:
  Random random_;
  SimRig rig_;
  FakePeer fake_{rig_.clock(), make_identity(random_).seed, ephfs::testing::kContractCapacity};
};

PeerMaker remote(const RigKind& kind) {
  return {std::string("Remote") + kind.name, [kind] { return std::make_unique<RemoteSubject>(kind); }};
}
PeerMaker fake() {
  return {"Fake", [] { return std::make_unique<FakeSubject>(); }};
}

}  // namespace
}  // namespace ephfs::net::testing

namespace ephfs::testing {
const auto kRemotePeers = ::testing::Values(net::testing::fake(), net::testing::remote(net::testing::kSimulated),
                                            net::testing::remote(net::testing::kTls));
INSTANTIATE_TEST_SUITE_P(Peers, PeerContract, kRemotePeers, peer_maker_name);
INSTANTIATE_TEST_SUITE_P(Peers, ShareContract, kRemotePeers, peer_maker_name);
}  // namespace ephfs::testing

namespace ephfs::net::testing {
namespace {

// One node and one caller, in virtual time.
class RemotePeerTest : public SimulatedNet {
 protected:
  void SetUp() override {
    membership_.add({client_id_.id, ""});
    membership_.add({node_id_.id, "node:7"});
    start_node();
    peer_ = make_peer({node_id_.id, "node:7"});
  }
  void TearDown() override {
    if (peer_) peer_->close();
    stop_node();
    clock_.run(tasks_.join());
    peer_.reset();
    client_transport_.reset();
    node_transport_.reset();
    network_.reset();
    clock_.settle();
  }

  void start_node(PeerServerLimits limits = {}) {
    auto listener = node_transport_->listen("node:7");
    ASSERT_TRUE(listener) << listener.error();
    server_ = std::make_unique<PeerServer>(context_.get_executor(), clock_, std::move(*listener), node_,
                                           node_membership_ ? *node_membership_ : membership_, log(), limits);
    server_->start();
  }
  void stop_node() {
    if (!server_) return;
    EXPECT_TRUE(clock_.run(server_->stop(), 10s));
    server_.reset();
  }
  LogLine log() {
    return [this](std::string line) { lines_.push_back(std::move(line)); };
  }
  std::unique_ptr<RemotePeer> make_peer(const Member& member, std::size_t sessions = 1) {
    LinkContext context{context_.get_executor(), clock_, *client_transport_, membership_, tasks_};
    return std::make_unique<RemotePeer>(std::move(context), member, LinkLimits{}, sessions);
  }
  Result<NodeStatus> ask(core::Nanoseconds span = 10s) {
    CallLimits limits{clock_.boot_now() + span, {}};
    return *clock_.run(peer_->status(std::move(limits)));
  }
  Identity client_id_ = make_identity(random_);
  Identity node_id_ = make_identity(random_);
  FakeMembership membership_{make_pool(random_)};
  std::unique_ptr<FakeMembership> node_membership_;  // when the node sees the pool otherwise
  std::unique_ptr<Transport> client_transport_ = network_->transport_for(client_id_.id, client_id_.key, "client");
  std::unique_ptr<Transport> node_transport_ = network_->transport_for(node_id_.id, node_id_.key, "node");
  FakePeer node_{clock_, node_id_.seed, 1U << 20U};
  core::TaskGroup tasks_;
  std::vector<std::string> lines_;
  std::unique_ptr<PeerServer> server_;
  std::unique_ptr<RemotePeer> peer_;
};

TEST_F(RemotePeerTest, ConnectsWhenFirstNeeded) {
  clock_.run_for(1min);
  EXPECT_EQ(network_->frames(), 0U);
  EXPECT_EQ(server_->session_count(), 0U);
  EXPECT_TRUE(peer_->reachable());
  EXPECT_TRUE(ask());
  EXPECT_EQ(server_->session_count(), 1U);
  EXPECT_TRUE(ask());
  EXPECT_EQ(server_->session_count(), 1U);
}

TEST_F(RemotePeerTest, CallsAtOnceShareOneConnection) {
  std::size_t good = 0;
  for (int i = 0; i < 50; ++i) {
    tasks_.spawn(context_.get_executor(), [&]() -> awaitable<void> {
      CallLimits limits{clock_.boot_now() + 10s, {}};
      const auto status = co_await peer_->status(std::move(limits));
      good += status ? 1U : 0U;
    });
  }
  clock_.run_for(1s);
  EXPECT_EQ(good, 50U);
  EXPECT_EQ(server_->session_count(), 1U);
}

TEST_F(RemotePeerTest, SpreadsCallsOverItsSessions) {
  peer_->close();
  peer_ = make_peer({node_id_.id, "node:7"}, 3);
  for (int i = 0; i < 9; ++i) EXPECT_TRUE(ask());
  EXPECT_EQ(server_->session_count(), 3U);
}

TEST_F(RemotePeerTest, FailsQuicklyWhileTheNodeIsDownAndFindsItAgain) {
  ASSERT_TRUE(ask());
  network_->crash("node");
  clock_.run_for(10ms);
  // The first call tries; from then on calls fail at once until the next attempt is due.
  EXPECT_EQ(code_of(ask()), Error::unreachable);
  EXPECT_FALSE(peer_->reachable());
  EXPECT_TRUE(peer_->last_failure());
  const auto now = clock_.boot_now();
  EXPECT_EQ(code_of(ask()), Error::unreachable);
  EXPECT_EQ(clock_.boot_now(), now);
  clock_.run_for(100ms);
  EXPECT_TRUE(peer_->reachable());
  EXPECT_EQ(code_of(ask()), Error::unreachable);
  // The pause doubles, up to five seconds.
  clock_.run_for(100ms);
  EXPECT_FALSE(peer_->reachable());
  clock_.run_for(100ms);
  EXPECT_TRUE(peer_->reachable());
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(code_of(ask()), Error::unreachable);
    clock_.run_for(5s);
    EXPECT_TRUE(peer_->reachable());
  }
  stop_node();
  network_->restart("node");
  start_node();
  EXPECT_TRUE(ask());
  EXPECT_FALSE(peer_->last_failure());
}

TEST_F(RemotePeerTest, NeverHangsWhenNothingAnswers) {
  network_->partition("client", "node");
  auto begun = clock_.boot_now();
  EXPECT_EQ(code_of(ask(1s)), Error::timed_out);
  EXPECT_EQ(clock_.boot_now(), begun + 1s);
  EXPECT_EQ(code_of(ask(1min)), Error::unreachable);
  EXPECT_EQ(clock_.boot_now(), begun + LinkLimits{}.connect);  // the attempt that the first call began
  EXPECT_FALSE(peer_->reachable());
  network_->heal("client", "node");
  clock_.run_for(100ms);
  EXPECT_TRUE(ask());
}

TEST_F(RemotePeerTest, ACallerThatGivesUpLeavesTheConnectionToOthers) {
  std::stop_source stop;
  std::optional<Result<NodeStatus>> hasty;
  tasks_.spawn(context_.get_executor(), [&]() -> awaitable<void> {
    CallLimits limits{clock_.boot_now() + 10s, stop.get_token()};
    hasty.emplace(co_await peer_->status(std::move(limits)));
  });
  clock_.settle();
  stop.request_stop();
  clock_.settle();
  ASSERT_TRUE(hasty);
  EXPECT_EQ(code_of(*hasty), Error::cancelled);
  EXPECT_TRUE(ask());
  EXPECT_EQ(server_->session_count(), 1U);
}

TEST_F(RemotePeerTest, EndsMidCallWhenTheNodeDies) {
  ASSERT_TRUE(ask());
  node_.set_delay(5s);
  std::optional<Result<NodeStatus>> outcome;
  tasks_.spawn(context_.get_executor(), [&]() -> awaitable<void> {
    CallLimits limits{clock_.boot_now() + 10s, {}};
    outcome.emplace(co_await peer_->status(std::move(limits)));
  });
  clock_.run_for(1s);
  network_->crash("node");
  clock_.run_for(10ms);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(code_of(*outcome), Error::unreachable);
}

TEST_F(RemotePeerTest, ClosingEndsItsCallsAndItsConnecting) {
  network_->partition("client", "node");
  std::optional<Result<NodeStatus>> outcome;
  tasks_.spawn(context_.get_executor(), [&]() -> awaitable<void> {
    CallLimits limits{clock_.boot_now() + 1min, {}};
    outcome.emplace(co_await peer_->status(std::move(limits)));
  });
  clock_.run_for(1s);
  peer_->close();
  EXPECT_TRUE(clock_.run(tasks_.join(), 6s));
  ASSERT_TRUE(outcome);
  EXPECT_EQ(code_of(*outcome), Error::unreachable);
  EXPECT_EQ(code_of(ask()), Error::unreachable);
  EXPECT_FALSE(peer_->reachable());
}

TEST_F(RemotePeerTest, HasNoWayToOneThatDoesNotListen) {
  peer_->close();
  peer_ = make_peer({node_id_.id, ""});
  EXPECT_EQ(code_of(ask()), Error::unreachable);
}

TEST_F(RemotePeerTest, SaysWhenSomebodyElseAnswers) {
  peer_->close();
  peer_ = make_peer({make_identity(random_).id, "node:7"});
  const auto outcome = ask();
  EXPECT_EQ(code_of(outcome), Error::unreachable);
  EXPECT_NE(outcome.error().detail.find(node_id_.id.hex()), std::string::npos) << outcome.error();
}

TEST_F(RemotePeerTest, SaysWhenTheNodeBelongsToAnotherPool) {
  stop_node();
  node_membership_ = std::make_unique<FakeMembership>(make_pool(random_));
  node_membership_->add({client_id_.id, ""});
  start_node();
  const auto outcome = ask();
  EXPECT_EQ(code_of(outcome), Error::unreachable);
  EXPECT_NE(outcome.error().detail.find("another pool"), std::string::npos) << outcome.error();
}

TEST_F(RemotePeerTest, SaysWhenTheNodeDoesNotKnowThisMachine) {
  stop_node();
  node_membership_ = std::make_unique<FakeMembership>(membership_.pool());
  start_node();
  const auto outcome = ask();
  EXPECT_EQ(code_of(outcome), Error::unreachable);
  EXPECT_NE(outcome.error().detail.find("does not count this machine"), std::string::npos) << outcome.error();
}

TEST_F(RemotePeerTest, AMemberThatWasDroppedIsServedNoMore) {
  ASSERT_TRUE(ask());
  membership_.drop(client_id_.id);
  EXPECT_EQ(code_of(ask()), Error::not_permitted);
}

TEST_F(RemotePeerTest, HellosTellBothEndsOfMembers) {
  stop_node();
  node_membership_ = std::make_unique<FakeMembership>(membership_.pool());
  node_membership_->add({client_id_.id, ""});
  const Member known_there{make_identity(random_).id, "third:1"};
  const Member known_here{make_identity(random_).id, "fourth:1"};
  node_membership_->add(known_there);
  membership_.add(known_here);
  start_node();
  ASSERT_TRUE(ask());
  EXPECT_TRUE(membership_.knows(known_there));
  EXPECT_TRUE(node_membership_->knows(known_here));
}

TEST_F(RemotePeerTest, TurnsAwayMoreSessionsThanItsBound) {
  stop_node();
  PeerServerLimits limits;
  limits.sessions_max = 2;
  start_node(limits);
  peer_->close();
  peer_ = make_peer({node_id_.id, "node:7"}, 3);
  std::size_t good = 0;
  for (int i = 0; i < 6; ++i) good += ask() ? 1U : 0U;
  EXPECT_EQ(good, 4U);
  EXPECT_EQ(server_->session_count(), 2U);
  ASSERT_EQ(lines_.size(), 1U);
  EXPECT_NE(lines_[0].find("too many"), std::string::npos) << lines_[0];
}

// A node that answers with what was not asked for.
class LyingPeer final : public Peer {
 public:
  LyingPeer(FakePeer& inner, std::function<void(ShardRange&)> bend, std::function<void(Proof&)> bend_proof,
            std::function<core::Envelope(core::Envelope)> bend_receipt)
      : inner_(inner),
        bend_(std::move(bend)),
        bend_proof_(std::move(bend_proof)),
        bend_receipt_(std::move(bend_receipt)) {}

  [[nodiscard]] NodeId id() const override { return inner_.id(); }
  [[nodiscard]] bool reachable() const override { return true; }
  [[nodiscard]] bool is_local() const override { return true; }
  [[nodiscard]] awaitable<Result<core::Envelope>> store(core::Envelope lease, ShardSource shard,
                                                        CallLimits limits) override {
    EPHFS_CO_TRY(auto receipt, co_await inner_.store(std::move(lease), std::move(shard), std::move(limits)));
    co_return bend_receipt_ ? bend_receipt_(std::move(receipt)) : std::move(receipt);
  }
  [[nodiscard]] awaitable<Result<ShardRange>> fetch(FetchRequest request, CallLimits limits) override {
    EPHFS_CO_TRY(auto range, co_await inner_.fetch(request, std::move(limits)));
    if (bend_) bend_(range);
    co_return range;
  }
  [[nodiscard]] awaitable<Result<core::Envelope>> renew(core::Envelope lease, CallLimits limits) override {
    return inner_.renew(std::move(lease), std::move(limits));
  }
  [[nodiscard]] awaitable<Result<core::Envelope>> remove(core::Envelope removal, CallLimits limits) override {
    return inner_.remove(std::move(removal), std::move(limits));
  }
  [[nodiscard]] awaitable<Result<Proof>> prove(Challenge challenge, CallLimits limits) override {
    EPHFS_CO_TRY(auto proof, co_await inner_.prove(std::move(challenge), std::move(limits)));
    if (bend_proof_) bend_proof_(proof);
    co_return proof;
  }
  [[nodiscard]] awaitable<Result<NodeStatus>> status(CallLimits limits) override {
    return inner_.status(std::move(limits));
  }
  [[nodiscard]] awaitable<Result<std::vector<core::Envelope>>> deletions(ShardInquiry inquiry,
                                                                         CallLimits limits) override {
    EPHFS_CO_TRY(auto receipts, co_await inner_.deletions(std::move(inquiry), std::move(limits)));
    if (bend_receipt_) {
      for (auto& receipt : receipts) receipt = bend_receipt_(std::move(receipt));
    }
    co_return receipts;
  }
  [[nodiscard]] awaitable<Result<std::vector<Holding>>> holdings(ShardInquiry inquiry, CallLimits limits) override {
    return inner_.holdings(std::move(inquiry), std::move(limits));
  }

 private:
  FakePeer& inner_;
  const std::function<void(ShardRange&)> bend_;
  const std::function<void(Proof&)> bend_proof_;
  const std::function<core::Envelope(core::Envelope)> bend_receipt_;
};

class LyingNodeTest : public RemotePeerTest {
 protected:
  void serve(std::function<void(ShardRange&)> bend, std::function<void(Proof&)> bend_proof = {},
             std::function<core::Envelope(core::Envelope)> bend_receipt = {}) {
    stop_node();
    liar_ = std::make_unique<LyingPeer>(node_, std::move(bend), std::move(bend_proof), std::move(bend_receipt));
    auto listener = node_transport_->listen("node:7");
    ASSERT_TRUE(listener);
    server_ = std::make_unique<PeerServer>(context_.get_executor(), clock_, std::move(*listener), *liar_, membership_);
    server_->start();
    clock_.run_for(1s);
  }
  CallLimits limits() { return {clock_.boot_now() + 10s, {}}; }
  core::Envelope lease() {
    return core::sign_lease(ephfs::testing::make_lease(shard_, node_id_.id, owner_, clock_.now() + 1min, ++serial_),
                            owner_);
  }
  Result<core::Envelope> store() { return *clock_.run(peer_->store(lease(), shard_.source, limits())); }
  Result<ShardRange> fetch(bool with_proof) {
    FetchRequest request{shard_.id, 5000, 5000, with_proof};
    return *clock_.run(peer_->fetch(request, limits()));
  }

  std::uint64_t serial_ = 0;
  core::Signer owner_ = ephfs::testing::make_signer(random_);
  SampleShard shard_ = ephfs::testing::make_shard(random_, 40'000);
  std::unique_ptr<LyingPeer> liar_;
};

TEST_F(LyingNodeTest, ARangeThatWasNotAskedForIsAProtocolError) {
  ASSERT_TRUE(store());
  const std::vector<std::function<void(ShardRange&)>> bends{
      [](ShardRange& range) { range.offset += 1; },
      [](ShardRange& range) { range.bytes = range.bytes.slice(0, range.bytes.size() - 1); },
      [](ShardRange& range) { range.bytes = {}; },
      [](ShardRange& range) { range.shard_bytes = 100; },
      [](ShardRange& range) { range.shard_bytes = 0; },
      [](ShardRange& range) { range.shard_bytes = ~std::uint64_t{0}; },
  };
  for (const auto& bend : bends) {
    serve(bend);
    EXPECT_EQ(code_of(fetch(false)), Error::protocol);
    EXPECT_EQ(code_of(fetch(true)), Error::protocol);
  }
}

TEST_F(LyingNodeTest, ARangeThatFailsItsProofIsDamaged) {
  ASSERT_TRUE(store());
  const std::vector<std::function<void(ShardRange&)>> bends{
      [](ShardRange& range) {
        core::Buffer changed = core::Buffer::copy_of(range.bytes.view());
        changed.view()[7] ^= std::byte{1};
        range.bytes = core::SharedBytes(std::move(changed));
      },
      [](ShardRange& range) { range.proof.pop_back(); },
      [](ShardRange& range) { range.proof.emplace_back(); },
      [](ShardRange& range) { std::swap(range.proof.front(), range.proof.back()); },
  };
  for (const auto& bend : bends) {
    serve([&bend](ShardRange& range) {
      if (!range.proof.empty()) bend(range);
    });
    EXPECT_EQ(code_of(fetch(true)), Error::damaged);
    EXPECT_TRUE(fetch(false));
  }
}

TEST_F(LyingNodeTest, ALeafThatFailsItsProofIsDamaged) {
  ASSERT_TRUE(store());
  serve({}, [](Proof& proof) { std::swap(proof.leaves[0], proof.leaves[1]); });
  Challenge challenge{shard_.id, {}, {1, 2}};
  EXPECT_EQ(code_of(*clock_.run(peer_->prove(challenge, limits()))), Error::damaged);
  serve({}, [](Proof& proof) { proof.leaves.pop_back(); });
  EXPECT_EQ(code_of(*clock_.run(peer_->prove(challenge, limits()))), Error::protocol);
}

TEST_F(LyingNodeTest, AReceiptThatIsNoneIsAProtocolError) {
  serve({}, {}, [](core::Envelope receipt) {
    receipt.statement.pop_back();
    return receipt;
  });
  EXPECT_EQ(code_of(store()), Error::protocol);
  // Somebody else's receipt, well signed.
  serve({}, {}, [this](core::Envelope) {
    core::Receipt receipt;
    receipt.shard = shard_.id;
    receipt.node = core::node_id_of(owner_.public_key());
    receipt.owner = ephfs::testing::owner_id_of(owner_);
    receipt.at = clock_.now();
    receipt.deadline = core::Deadline(clock_.now() + 1min);
    receipt.bytes = shard_.bytes();
    return core::sign_receipt(receipt, owner_);
  });
  EXPECT_EQ(code_of(store()), Error::protocol);
}

TEST_F(LyingNodeTest, ADeletionReceiptThatIsNoneIsAProtocolError) {
  const auto ask = [this] {
    core::Inquiry asked;
    asked.node = node_id_.id;
    asked.owner = ephfs::testing::owner_id_of(owner_);
    asked.subject = core::subject_of(std::vector{shard_.id});
    ShardInquiry inquiry{core::sign_inquiry(asked, owner_), {shard_.id}};
    return *clock_.run(peer_->deletions(std::move(inquiry), limits()));
  };
  ASSERT_TRUE(store());
  clock_.run_for(2min);
  const auto good = ask();
  ASSERT_TRUE(good) << good.error();
  EXPECT_EQ(good->size(), 1U);
  serve({}, {}, [this](core::Envelope receipt) {
    receipt.signer = owner_.public_key();
    return receipt;
  });
  EXPECT_EQ(code_of(ask()), Error::protocol);
}

}  // namespace
}  // namespace ephfs::net::testing
