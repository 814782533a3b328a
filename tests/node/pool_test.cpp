// SPDX-License-Identifier: Apache-2.0
#include "node/pool.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include "tests/node/node_test_support.hpp"
#include "tests/support/virtual_clock.hpp"

namespace ephfs::node::testing {
namespace {

using ephfs::testing::VirtualClock;
using namespace std::chrono_literals;

class PoolTest : public ::testing::Test {
 protected:
  std::unique_ptr<Pool> open(std::vector<core::PeerAddress> peers = {}) {
    auto pool = Pool::open(directory_.path(), clock_, {self_, "10.0.0.1:7000"}, std::move(peers));
    EXPECT_TRUE(pool) << pool.error();
    return std::move(*pool);
  }
  net::Member somebody() { return {*core::NodeId::from_bytes(random_.bytes(32)), "10.0.0.2:7000"}; }
  InvitationSecret invite(std::uint32_t uses = 1, core::Milliseconds lasts = 1h) {
    return create_invitation(directory_.path(), clock_.now(), clock_.now() + lasts, uses).value();
  }

  core::asio::io_context context_;
  VirtualClock clock_{context_};
  Random random_;
  const TempDir directory_;
  const core::NodeId self_ = *core::NodeId::from_bytes(random_.bytes(32));
};

TEST_F(PoolTest, RemembersItselfAndItsMembers) {
  const net::Member other = somebody();
  core::PoolId id;
  {
    const auto pool = open();
    id = pool->pool();
    EXPECT_FALSE(id.is_zero());
    EXPECT_TRUE(pool->admits(self_));
    EXPECT_FALSE(pool->admits(other.id));
    pool->learn({other});
  }
  const auto pool = open();
  EXPECT_EQ(pool->pool(), id);
  EXPECT_THAT(pool->members(), ::testing::ElementsAre(net::Member{self_, "10.0.0.1:7000"}, other));
  EXPECT_TRUE(pool->admits(other.id));
}

TEST_F(PoolTest, AdmitsOnceForAnInvitation) {
  const auto pool = open();
  const auto secret = invite();
  const net::Member first = somebody();
  const net::Member second = somebody();
  EXPECT_EQ(pool->admit(first, random_.bytes(16)).error().code, core::Error::not_permitted);
  EXPECT_EQ(pool->admit(first, {}).error().code, core::Error::not_permitted);
  EXPECT_FALSE(pool->admits(first.id));
  EXPECT_TRUE(pool->admit(first, secret.view()));
  EXPECT_TRUE(pool->admits(first.id));
  EXPECT_EQ(pool->admit(second, secret.view()).error().code, core::Error::not_permitted) << "used up";
  EXPECT_FALSE(pool->admits(second.id));
  EXPECT_TRUE(pool->admit(first, secret.view())) << "the answer may have been lost";
}

TEST_F(PoolTest, AnInvitationHasItsUses) {
  const auto pool = open();
  const auto secret = invite(3);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(pool->admit(somebody(), secret.view()));
  EXPECT_FALSE(pool->admit(somebody(), secret.view()));
  EXPECT_EQ(pool->members().size(), 4U);
}

TEST_F(PoolTest, AnInvitationExpires) {
  const auto pool = open();
  const auto secret = invite(2, 1h);
  clock_.run_for(1h - 1ms);
  EXPECT_TRUE(pool->admit(somebody(), secret.view()));
  clock_.run_for(1ms);
  EXPECT_EQ(pool->admit(somebody(), secret.view()).error().code, core::Error::not_permitted);
  EXPECT_FALSE(create_invitation(directory_.path(), clock_.now(), clock_.now(), 1));
  EXPECT_FALSE(create_invitation(directory_.path(), clock_.now(), clock_.now() + 1h, 0));
}

TEST_F(PoolTest, KeepsNoSecretOnDisk) {
  const auto pool = open();
  const auto secret = invite();
  for (const auto& entry : std::filesystem::directory_iterator(directory_.path())) {
    const auto content = core::read_file(entry.path(), 1U << 20U).value();
    EXPECT_EQ(core::as_text(content).find(core::to_hex(secret.view())), std::string_view::npos) << entry.path();
    EXPECT_EQ(core::as_text(content).find(core::as_text(secret.view())), std::string_view::npos) << entry.path();
    EXPECT_EQ(entry.status().permissions() & std::filesystem::perms::mask, std::filesystem::perms(0600));
  }
}

TEST_F(PoolTest, InvitationsAreBounded) {
  for (std::size_t i = 0; i < kInvitationsMax; ++i) (void)invite();
  const auto more = create_invitation(directory_.path(), clock_.now(), clock_.now() + 1h, 1);
  EXPECT_EQ(more.error().code, core::Error::no_space);
  clock_.run_for(1h);
  EXPECT_TRUE(create_invitation(directory_.path(), clock_.now(), clock_.now() + 1h, 1)) << "the others have expired";
}

TEST_F(PoolTest, StaticPeersBelongWithoutBeingWrittenDown) {
  const net::Member peer = somebody();
  {
    const auto pool = open({{peer.id, peer.address}});
    EXPECT_TRUE(pool->admits(peer.id));
    pool->learn({{peer.id, "10.9.9.9:1"}});
    EXPECT_THAT(pool->members(), ::testing::Contains(peer)) << "what was said by hand stays";
  }
  const auto bad = Pool::open(directory_.path(), clock_, {self_, ""}, {{peer.id, "nowhere"}});
  EXPECT_EQ(bad.error().code, core::Error::invalid_argument);
}

TEST_F(PoolTest, LearnsNothingImplausible) {
  const auto pool = open();
  pool->learn({{{}, "10.0.0.2:1"},
               {*core::NodeId::from_bytes(random_.bytes(32)), "10.0.0.2:1\nmember"},
               {*core::NodeId::from_bytes(random_.bytes(32)), std::string(300, 'a') + ":1"},
               {self_, "10.6.6.6:6"}});
  EXPECT_THAT(pool->members(), ::testing::ElementsAre(net::Member{self_, "10.0.0.1:7000"}));
}

TEST_F(PoolTest, SeesWhatAnotherProcessWrites) {
  const auto running = open();
  const net::Member other = somebody();
  const net::Member third = somebody();
  running->learn({third});
  EXPECT_EQ(adopt_pool(directory_.path(), core::random_id<core::PoolId>(), {self_, ""}, {other}).error().code,
            core::Error::exists);
  ASSERT_TRUE(adopt_pool(directory_.path(), running->pool(), {self_, ""}, {other, {self_, "1.1.1.1:1"}}));
  EXPECT_TRUE(running->admits(other.id));
  EXPECT_FALSE(running->admits(third.id));
}

TEST_F(PoolTest, JoinsWhenItHasNobody) {
  const auto running = open();
  const core::PoolId pool = core::random_id<core::PoolId>();
  const net::Member other = somebody();
  ASSERT_TRUE(adopt_pool(directory_.path(), pool, {self_, ""}, {other}));
  EXPECT_EQ(running->pool(), pool);
  EXPECT_TRUE(running->admits(other.id));
  EXPECT_EQ(open()->pool(), pool);
}

TEST_F(PoolTest, KeepsWhatItKnewWhenTheFileIsDamaged) {
  const auto pool = open();
  const net::Member other = somebody();
  pool->learn({other});
  std::ofstream(pool_path(directory_.path())) << "ephfs-pool 1\nnonsense\n";
  ::testing::internal::CaptureStderr();
  EXPECT_TRUE(pool->admits(other.id));
  EXPECT_TRUE(pool->admits(other.id));
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::ranges::count(log, '\n'), 1) << log;
  EXPECT_NE(log.find("line 2"), std::string::npos) << log;
  const auto reopened = Pool::open(directory_.path(), clock_, {self_, ""}, {});
  EXPECT_EQ(reopened.error().code, core::Error::damaged);
}

// An invitation with many uses, taken by several processes at once: never one use too many.
TEST_F(PoolTest, ConcurrentProcessesUseAnInvitationUpTogether) {
  constexpr int kProcesses = 4;
  constexpr int kTriesEach = 8;
  constexpr std::uint32_t kUses = 20;
  (void)open();
  const auto secret = invite(kUses);
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    const Random child_random(random_());
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      random_ = child_random;
      auto pool = Pool::open(directory_.path(), clock_, {self_, ""}, {});
      int admitted = 0;
      for (int i = 0; pool && i < kTriesEach; ++i) {
        if ((*pool)->admit(somebody(), secret.view())) ++admitted;
      }
      ::_exit(admitted);
    }
    children.push_back(child);
  }
  int admitted = 0;
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    admitted += WEXITSTATUS(status);
  }
  EXPECT_EQ(admitted, static_cast<int>(kUses));
  EXPECT_EQ(open()->members().size(), kUses + 1);
}

TEST(PoolFileText, ReadsBackWhatWasWritten) {
  Random random;
  const auto id = [&] { return *core::NodeId::from_bytes(random.bytes(32)); };
  PoolFile file{*core::PoolId::from_bytes(random.bytes(16)), {id(), "[::1]:7000"}, {{id(), ""}, {id(), "host:1"}}};
  std::ranges::sort(file.others, {}, &net::Member::id);
  const auto read = parse_pool_file(encode_pool_file(file));
  ASSERT_TRUE(read) << read.error();
  EXPECT_EQ(read->pool, file.pool);
  EXPECT_EQ(read->self, file.self);
  EXPECT_EQ(read->others, file.others);
  const std::vector<Invitation> invitations{{core::sha256(random.bytes(3)), core::Instant{5}, 7}};
  const auto again = parse_invitations(encode_invitations(invitations));
  ASSERT_TRUE(again) << again.error();
  ASSERT_EQ(again->size(), 1U);
  EXPECT_EQ((*again)[0].secret_hash, invitations[0].secret_hash);
  EXPECT_EQ((*again)[0].expires, core::Instant{5});
  EXPECT_EQ((*again)[0].uses, 7U);
}

TEST(PoolFileText, RefusesWhatIsNotOne) {
  const std::string pool = "pool " + std::string(32, '1') + "\n";
  const std::string self = "self " + std::string(64, '2') + "\n";
  const std::string member = "member " + std::string(64, '3') + "\n";
  const std::string title = "ephfs-pool 1\n";
  EXPECT_TRUE(parse_pool_file(title + pool + self + member));
  for (const auto& text : {std::string(), title, title + pool, title + self, title + pool + self + member + member,
                           title + pool + pool + self, title + pool + self + "member 33\n",
                           title + pool + self + "member " + std::string(64, '3') + " a b\n",
                           title + pool + self + "\n", (title + pool + self).substr(0, 100), "hello\n" + pool + self}) {
    EXPECT_EQ(parse_pool_file(text).error().code, core::Error::damaged) << text;
  }
  EXPECT_EQ(parse_pool_file("ephfs-pool 2\n" + pool + self).error().code, core::Error::version);
  const std::string invitations = "ephfs-invitations 1\n";
  for (const auto& line : {"invitation\n", "invitation 00 1 1\n", "x\n"}) {
    EXPECT_EQ(parse_invitations(invitations + line).error().code, core::Error::damaged) << line;
  }
  const std::string hash(64, '4');
  EXPECT_TRUE(parse_invitations(invitations + "invitation " + hash + " 1 1\n"));
  EXPECT_FALSE(parse_invitations(invitations + "invitation " + hash + " 1 0\n"));
  EXPECT_FALSE(parse_invitations(invitations + "invitation " + hash + " 1 -1\n"));
  EXPECT_FALSE(parse_invitations(invitations + "invitation " + hash + " 1x 1\n"));
}

}  // namespace
}  // namespace ephfs::node::testing
