// SPDX-License-Identifier: Apache-2.0
// Strangers, invitations and news of members, in virtual time.
#include "net/peer_server.hpp"

#include "net/remote_peer.hpp"
#include "tests/net/net_rig.hpp"
#include "tests/support/fake_membership.hpp"
#include "tests/support/fake_peer.hpp"

namespace ephfs::net::testing {
namespace {

using ephfs::testing::FakeMembership;
using ephfs::testing::FakePeer;

class PeerServerTest : public SimulatedNet {
 protected:
  void SetUp() override {
    auto listener = node_transport_->listen("node:7");
    ASSERT_TRUE(listener) << listener.error();
    membership_.add({node_id_.id, "node:7"});
    LogLine log = [this](std::string line) { lines_.push_back(std::move(line)); };
    server_ = std::make_unique<PeerServer>(context_.get_executor(), clock_, std::move(*listener), node_, membership_,
                                           std::move(log));
    server_->start();
  }
  void TearDown() override {
    EXPECT_TRUE(clock_.run(server_->stop(), 10s));
    EXPECT_TRUE(clock_.run(tasks_.join(), 10s));
    server_.reset();
    node_transport_.reset();
    network_.reset();
    clock_.settle();
  }

  std::unique_ptr<Transport> transport(const Identity& who, const std::string& host) {
    return network_->transport_for(who.id, who.key, host);
  }
  Result<JoinReply> join(const Identity& who, const Bytes& secret, const std::string& address = "new:7") {
    const auto from = transport(who, "new");
    return *clock_.run(
        join_pool(*from, "node:7", node_id_.id, secret, {who.id, address}, clock_, clock_.boot_now() + 10s));
  }
  // A session of a stranger's own making.
  std::shared_ptr<Session> open_session(Transport& from, Session::Setup setup = {}) {
    auto channel = clock_.run(from.connect("node:7", node_id_.id, clock_.boot_now() + 10s));
    if (!channel || !*channel) return nullptr;
    if (!setup.handler) {
      setup.handler = [](Message, CallLimits) -> awaitable<Result<Message>> {
        co_return core::fail(Error::not_supported);
      };
    }
    auto session = Session::make(context_.get_executor(), clock_, tasks_, std::move(**channel), std::move(setup));
    const auto opened = clock_.run(session->open(clock_.boot_now() + 10s));
    if (!opened || !*opened) return nullptr;
    hello_ = **opened;
    return session;
  }
  Result<Message> call(const std::shared_ptr<Session>& session, Message request) {
    CallLimits limits{clock_.boot_now() + 10s, {}};
    return *clock_.run(session->call(std::move(request), std::move(limits)));
  }
  Identity node_id_ = make_identity(random_);
  Identity stranger_ = make_identity(random_);
  FakeMembership membership_{*core::PoolId::from_bytes(random_.bytes(core::PoolId::kSize))};
  Bytes secret_ = random_.bytes(kJoinSecretBytes);
  FakePeer node_{clock_, node_id_.seed, 1U << 20U};
  std::unique_ptr<Transport> node_transport_ = transport(node_id_, "node");
  core::TaskGroup tasks_;
  std::vector<std::string> lines_;
  Hello hello_;
  std::unique_ptr<PeerServer> server_;
};

TEST_F(PeerServerTest, TakesInWhoeverShowsTheSecret) {
  membership_.invite(secret_);
  const auto joined = join(stranger_, secret_);
  ASSERT_TRUE(joined) << joined.error();
  EXPECT_EQ(joined->pool, membership_.pool());
  EXPECT_EQ(joined->members.size(), 2U);
  EXPECT_TRUE(membership_.knows({stranger_.id, "new:7"}));
  clock_.run_for(3s);
  EXPECT_EQ(server_->session_count(), 0U);
}

TEST_F(PeerServerTest, RefusesAWrongSecretAndAUsedOne) {
  membership_.invite(secret_);
  EXPECT_EQ(code_of(join(stranger_, random_.bytes(kJoinSecretBytes))), Error::not_permitted);
  EXPECT_FALSE(membership_.admits(stranger_.id));
  ASSERT_TRUE(join(stranger_, secret_));
  const Identity second = make_identity(random_);
  EXPECT_EQ(code_of(join(second, secret_)), Error::not_permitted);
  EXPECT_FALSE(membership_.admits(second.id));
  EXPECT_EQ(code_of(join(second, Bytes(3))), Error::protocol);
}

TEST_F(PeerServerTest, AMemberMayAskAgainWhenTheAnswerWasLost) {
  membership_.invite(secret_);
  ASSERT_TRUE(join(stranger_, secret_, "new:7"));
  const auto again = join(stranger_, secret_, "new:8");
  ASSERT_TRUE(again) << again.error();
  EXPECT_TRUE(membership_.knows({stranger_.id, "new:8"}));
}

TEST_F(PeerServerTest, ShowsTheSecretToNobodyElse) {
  membership_.invite(secret_);
  const auto from = transport(stranger_, "new");
  const Identity other = make_identity(random_);
  const auto joined =
      clock_.run(join_pool(*from, "node:7", other.id, secret_, {stranger_.id, ""}, clock_, clock_.boot_now() + 10s));
  EXPECT_EQ(code_of(*joined), Error::not_permitted);
  EXPECT_EQ(network_->frames(), 0U);
}

TEST_F(PeerServerTest, GivesAStrangerNothingButTheChanceToJoin) {
  const auto from = transport(stranger_, "new");
  const auto session = open_session(*from);
  ASSERT_TRUE(session);
  EXPECT_TRUE(hello_.pool.is_zero());
  EXPECT_TRUE(hello_.members.empty());
  EXPECT_EQ(code_of(call(session, pack_status_request())), Error::not_permitted);
  EXPECT_EQ(code_of(call(session, pack_fetch({core::ShardId{}, 0, 1, false}))), Error::not_permitted);
  EXPECT_EQ(code_of(call(session, pack_members({{stranger_.id, "evil:1"}}))), Error::not_permitted);
  EXPECT_FALSE(membership_.admits(stranger_.id));
  EXPECT_EQ(node_.calls(), 0U);
  // And not for long, however lively it is.
  for (int i = 0; i < 10; ++i) {
    (void)call(session, pack_status_request());
    clock_.run_for(1s);
  }
  EXPECT_FALSE(session->is_open());
  EXPECT_EQ(server_->session_count(), 0U);
}

TEST_F(PeerServerTest, AStrangersHelloTeachesNothing) {
  Session::Setup setup;
  setup.hello.pool = membership_.pool();
  setup.hello.members = {{stranger_.id, "evil:1"}};
  const auto from = transport(stranger_, "new");
  ASSERT_TRUE(open_session(*from, std::move(setup)));
  EXPECT_FALSE(membership_.admits(stranger_.id));
}

TEST_F(PeerServerTest, BoundsTheNumberOfStrangersButNotMembersByThem) {
  const Identity member = make_identity(random_);
  membership_.add({member.id, ""});
  const auto from = transport(stranger_, "new");
  std::vector<std::shared_ptr<Session>> sessions;
  for (std::size_t i = 0; i < PeerServerLimits{}.strangers_max; ++i) sessions.push_back(open_session(*from));
  for (const auto& session : sessions) EXPECT_TRUE(session);
  EXPECT_FALSE(open_session(*from));
  const auto members = transport(member, "member");
  EXPECT_TRUE(open_session(*members));
}

TEST_F(PeerServerTest, TellsThoseConnectedOfANewMember) {
  const Identity member = make_identity(random_);
  membership_.add({member.id, ""});
  FakeMembership theirs(membership_.pool());
  theirs.add({node_id_.id, "node:7"});
  const auto from = transport(member, "member");
  LinkContext link{context_.get_executor(), clock_, *from, theirs, tasks_};
  RemotePeer peer(std::move(link), {node_id_.id, "node:7"});
  CallLimits limits{clock_.boot_now() + 10s, {}};
  ASSERT_TRUE(*clock_.run(peer.status(std::move(limits))));
  membership_.invite(secret_);
  ASSERT_TRUE(join(stranger_, secret_));
  clock_.run_for(1s);
  EXPECT_TRUE(theirs.knows({stranger_.id, "new:7"}));
  peer.close();
  EXPECT_TRUE(clock_.run(tasks_.join(), 10s));
}

TEST_F(PeerServerTest, MembersMayBringNews) {
  const Identity member = make_identity(random_);
  membership_.add({member.id, ""});
  const auto from = transport(member, "member");
  const auto session = open_session(*from);
  ASSERT_TRUE(session);
  const Member news{make_identity(random_).id, "far:1"};
  EXPECT_TRUE(call(session, pack_members({news})));
  EXPECT_TRUE(membership_.knows(news));
  EXPECT_EQ(code_of(call(session, pack_members({{news.id, "two words"}}))), Error::protocol);
  Message unknown;
  unknown.kind = static_cast<MessageKind>(99);
  EXPECT_EQ(code_of(call(session, std::move(unknown))), Error::not_supported);
  EXPECT_TRUE(session->is_open());
}

TEST_F(PeerServerTest, LogsAPeerOfAnotherVersionOnceAMinute) {
  const Identity member = make_identity(random_);
  membership_.add({member.id, ""});
  const auto from = transport(member, "member");
  for (int i = 0; i < 10; ++i) {
    Session::Setup setup;
    setup.hello.version = 9;
    EXPECT_FALSE(open_session(*from, std::move(setup)));
    clock_.run_for(3s);
  }
  ASSERT_EQ(lines_.size(), 1U);
  EXPECT_NE(lines_[0].find("version 9"), std::string::npos) << lines_[0];
  EXPECT_EQ(lines_[0].find('\n'), std::string::npos);
  EXPECT_EQ(server_->session_count(), 0U);
}

TEST_F(PeerServerTest, StopsWithSessionsAndCallsUnderWay) {
  const Identity member = make_identity(random_);
  membership_.add({member.id, ""});
  const auto from = transport(member, "member");
  const auto session = open_session(*from);
  ASSERT_TRUE(session);
  node_.set_delay(1h);
  std::optional<Result<Message>> outcome;
  tasks_.spawn(context_.get_executor(), [&]() -> awaitable<void> {
    Message request = pack_status_request();
    CallLimits limits{clock_.boot_now() + 2h, {}};
    outcome.emplace(co_await session->call(std::move(request), std::move(limits)));
  });
  clock_.run_for(1s);
  EXPECT_EQ(node_.calls_now(), 1U);
  EXPECT_TRUE(clock_.run(server_->stop(), 1s));
  clock_.run_for(1s);
  EXPECT_EQ(node_.calls_now(), 0U);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(code_of(*outcome), Error::unreachable);
}

}  // namespace
}  // namespace ephfs::net::testing
