// SPDX-License-Identifier: Apache-2.0
// Audits of a whole volume: clean when all is well, and each kind of fault found by its name when it is planted.
#include <fstream>

#include <boost/json.hpp>
#include <fcntl.h>
#include <gmock/gmock.h>

#include "fs/ttl_audit.hpp"
#include "meta/sqlite_catalog.hpp"
#include "tests/fs/engine_fixture.hpp"
#include "tests/support/sample_shard.hpp"

namespace ephfs::fs::testing {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::IsEmpty;

class AuditsTest : public ::testing::Test {
 protected:
  AuditsTest() {
    volume.options.profile = core::Profile{2, 1};
    volume.options.durability = Durability::full;
    volume.open();
    volume.start();
  }
  net::CallLimits limits() const { return {volume.clock.boot_now() + 3s, {}}; }
  /// A file on all three nodes.
  InodeNumber placed(const std::string& name, const std::string& ttl = "1d") {
    const auto number = volume.write_file(core::kRootInode, name, std::string(100'000, 'x')).number;
    EXPECT_TRUE(volume.set_xattr(number, "user.ephfs.ttl", ttl));
    auto file = volume.engine().open_file(number, O_RDWR);
    EXPECT_TRUE(file) << file.error();
    EXPECT_TRUE(volume.run(volume.engine().fsync(*file)));
    volume.engine().release(*file);
    volume.clock.run_for(20s);  // what it left in another bucket is moved, and gone
    EXPECT_EQ(volume.xattr(number, "user.ephfs.state").value(), "placed");
    return number;
  }
  core::ShardId a_shard_on(std::size_t node) const { return volume.nodes[node]->store.all().at(0).lease.shard; }

  std::multiset<std::string> audit(bool all) {
    std::multiset<std::string> results;
    const auto page = volume.run(volume.engine().audit({0}, all, limits()));
    EXPECT_TRUE(page) << page.error();
    const json::value said = json::parse(*page);
    for (const auto& finding : said.at("audited").as_array()) {
      results.insert(std::string(finding.at("result").as_string()));
    }
    return results;
  }
  std::multiset<std::string> verify(InodeNumber number) {
    std::multiset<std::string> results;
    const auto page = volume.run(volume.engine().verify(number, {0}, limits()));
    EXPECT_TRUE(page) << page.error();
    const json::value said = json::parse(*page);
    for (const auto& finding : said.at("audited").as_array()) {
      results.insert(std::string(finding.at("result").as_string()));
    }
    return results;
  }
  /// Names of the kinds of faults that the volume and all its nodes have.
  std::multiset<std::string> ttl_faults() {
    std::multiset<std::string> kinds;
    const auto take = [&kinds](const Result<std::string>& said) {
      EXPECT_TRUE(said) << said.error();
      const json::value page = json::parse(*said);
      for (const auto& fault : page.at("faults").as_array()) {
        kinds.insert(std::string(fault.at("kind").as_string()));
      }
    };
    const auto local = volume.engine().audit_ttl();
    take(local);
    const json::value listed = json::parse(*local);
    for (const auto& node : listed.at("nodes").as_array()) {
      const auto id = *core::NodeId::from_hex(std::string_view(node.as_string()));
      take(volume.run(volume.engine().audit_ttl(id, limits())));
    }
    return kinds;
  }
  /// Changes the catalog behind the engine's back; then the engine is open again, and at rest.
  void plant(const std::function<void(meta::Catalog&, meta::Changes&)>& change) {
    volume.close();
    {
      auto catalog = meta::open_sqlite_catalog(volume.options.directory / "catalog").value();
      meta::Changes changes;
      change(*catalog, changes);
      ASSERT_TRUE(catalog->commit(changes));
    }
    volume.open();
  }
  static meta::PlacementRecord first_placement(const meta::Catalog& catalog, const core::NodeId& node) {
    for (const auto& stripe : catalog.stripes_after({0}, 100).value()) {
      for (const auto& row : catalog.placements(stripe.number).value()) {
        if (row.node == node && row.stored) return row;
      }
    }
    ADD_FAILURE() << "nothing is placed there";
    return {};
  }

  TestVolume volume{3};
};

TEST_F(AuditsTest, AHealthyVolumeIsClean) {
  const auto number = placed("a");
  EXPECT_EQ(audit(true), (std::multiset<std::string>{"passed", "passed", "passed"}));
  EXPECT_EQ(audit(false), (std::multiset<std::string>{"passed"}));
  EXPECT_EQ(verify(number), (std::multiset<std::string>{"passed", "passed", "passed"}));
  EXPECT_THAT(ttl_faults(), IsEmpty());
  const auto proof = json::parse(volume.engine().proof(number).value()).as_object();
  const auto& shard = proof.at("stripes").as_array().at(0).at("shards").as_array().at(0);
  EXPECT_TRUE(shard.at("audit").at("passed").as_bool()) << "the last audit is part of the proof";
}

TEST_F(AuditsTest, FindsDamageAndLossAndSilence) {
  const auto number = placed("a");
  volume.nodes[0]->store.flip_byte(a_shard_on(0), 7);
  volume.nodes[1]->store.lose_bytes(a_shard_on(1));
  // A few leaves at random may miss the damaged one; a shard without its bytes can prove none.
  const auto sampled = audit(true);
  EXPECT_EQ(sampled.size(), 3U);
  EXPECT_THAT(sampled, Contains("failed"));
  EXPECT_EQ(verify(number), (std::multiset<std::string>{"failed", "failed", "passed"}));
  volume.peers.peers.pop_back();
  EXPECT_EQ(verify(number), (std::multiset<std::string>{"failed", "failed", "unreachable"}));
}

TEST_F(AuditsTest, FindsWhatOutlivedItsTimeInTheVolumeAndOnItsNodes) {
  placed("a", "10m");
  volume.reopen();  // and not started: nothing is reaped, here or on the nodes
  volume.clock.run_for(10min + 2 * kTtlGrace);
  const auto faults = ttl_faults();
  EXPECT_THAT(faults, Contains(std::string(kExpiredFile)));
  EXPECT_THAT(faults, Contains(std::string(kExpiredStripe)));
  EXPECT_THAT(faults, Contains(std::string(kExpiredLocalData)));
  EXPECT_EQ(faults.count(std::string(kShardWithoutLease)), 3U);
}

TEST_F(AuditsTest, FindsALocalFileOfNoStripe) {
  placed("a");
  std::ofstream(volume.options.directory / "cache" / ("99-" + std::string(32, 'a') + ".stripe")) << "left over";
  EXPECT_EQ(ttl_faults(), (std::multiset<std::string>{std::string(kExpiredLocalData)}));
}

TEST_F(AuditsTest, FindsAProviderRecordWhoseLeaseIsOver) {
  placed("a");
  plant([&](meta::Catalog& catalog, meta::Changes& changes) {
    auto row = first_placement(catalog, volume.nodes[0]->peer.id());
    row.lease_deadline = Deadline(volume.clock.now() - 10min);
    changes.emplace_back(meta::PutPlacement{row});
    changes.emplace_back(
        meta::PutRemoval{{row.shard, volume.nodes[1]->peer.id(), 1, Deadline(volume.clock.now() - 10min)}});
  });
  EXPECT_EQ(ttl_faults(),
            (std::multiset<std::string>{std::string(kExpiredProviderRecord), std::string(kExpiredProviderRecord)}));
}

TEST_F(AuditsTest, FindsAPeerWhoseLeasesAreOverAndTellsItFromOneThatIsAway) {
  placed("a");
  const auto gone = volume.nodes[2]->peer.id();
  volume.peers.peers.pop_back();
  EXPECT_EQ(ttl_faults(), (std::multiset<std::string>{std::string(kUnreachableNode)}));
  plant([&](meta::Catalog& catalog, meta::Changes& changes) {
    for (const auto& stripe : catalog.stripes_after({0}, 100).value()) {
      for (auto row : catalog.placements(stripe.number).value()) {
        if (row.node != gone) continue;
        row.lease_deadline = Deadline(volume.clock.now() - 10min);
        changes.emplace_back(meta::PutPlacement{row});
      }
    }
  });
  EXPECT_THAT(ttl_faults(), Contains(std::string(kExpiredPeer)));
}

TEST_F(AuditsTest, FindsALeaseWithoutItsShardAndAShardWithoutItsRecord) {
  placed("a");
  volume.nodes[0]->store.lose_bytes(a_shard_on(0));
  EXPECT_EQ(ttl_faults(), (std::multiset<std::string>{std::string(kLeaseWithoutShard)}));
  ASSERT_TRUE(volume.nodes[1]->store.remove(a_shard_on(1), node::RemovalSync::synced));
  EXPECT_EQ(ttl_faults().count(std::string(kLeaseWithoutShard)), 2U);
  ephfs::testing::Random random;
  const auto stray = ephfs::testing::make_shard(random, 5000);
  const core::Signer owner(volume.keys.owner);
  const auto lease = ephfs::testing::make_lease(stray, volume.nodes[2]->peer.id(), owner, volume.clock.now() + 1h);
  ASSERT_TRUE(volume.nodes[2]->store.put(ephfs::testing::make_held(lease, owner), stray.source));
  EXPECT_EQ(ttl_faults().count(std::string(kUnknownShard)), 1U);
}

}  // namespace
}  // namespace ephfs::fs::testing
