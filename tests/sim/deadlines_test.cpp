// SPDX-License-Identifier: Apache-2.0
// Hundreds of files with deadlines of seconds to hours: each readable until its last moment and gone at its deadline,
// on every way to its bytes; in the end no machine holds anything.
#include <algorithm>

#include <fcntl.h>
#include <gmock/gmock.h>

#include "core/log.hpp"
#include "meta/sqlite_catalog.hpp"
#include "tests/sim/scenario.hpp"

namespace ephfs::sim {
namespace {

using namespace std::chrono_literals;

constexpr core::Milliseconds kJustBefore = fs::kLastMoment + 1ms;

struct Mortal {
  std::string name;
  core::Bytes content;
  core::Instant deadline;
  Descriptor descriptor;
};

class DeadlinesTest : public ::testing::Test {
 protected:
  DeadlinesTest() {
    core::set_log_sink([](const std::string&) {});
  }
  ~DeadlinesTest() override {
    mortals_.clear();
    core::set_log_sink(nullptr);
  }

  [[nodiscard]] fs::Engine& engine() { return *cluster_.mount()->engine; }
  template <class T>
  T run(core::awaitable<T> call) {
    auto value = cluster_.clock().run(std::move(call), 1min);
    EPHFS_CHECK(value.has_value(), "a call ends");
    return *std::move(value);
  }
  Result<std::size_t> read(const Mortal& mortal, core::Bytes& out) {
    const core::MutableByteView view(out);
    auto got = engine().try_read(*mortal.descriptor.file(), 0, view);
    if (!got && got.error().code == core::Error::would_block) {
      got = run(engine().read(mortal.descriptor.file(), 0, view, {}));
    }
    return got;
  }
  core::Milliseconds choose_ttl() {
    switch (random_.below(4)) {
      case 0:
        return core::Milliseconds(random_.between(20'000, 60'000));
      case 1:
        return core::Milliseconds(random_.between(60'000, 900'000));
      default:
        return core::Milliseconds(random_.between(900'000, 14'400'000));
    }
  }
  void make(const std::string& name) {
    auto created = engine().create(core::kRootInode, name, 0644, O_RDWR, {});
    ASSERT_TRUE(created) << created.error();
    Mortal mortal;
    mortal.name = name;
    mortal.content = random_.bytes(random_.chance(8) ? random_.between(1, 300'000) : random_.between(1, 20'000));
    mortal.descriptor = Descriptor(cluster_.mount(), created->second);
    ASSERT_TRUE(engine().try_write(*created->second, 0, mortal.content));
    // Set before or after the bytes have gone to the nodes: then they move to where they die in time.
    const bool late = random_.chance(2);
    if (late) {
      const auto saved = run(engine().fsync(created->second));
      ASSERT_TRUE(saved) << saved.error();
    }
    const auto ttl = choose_ttl();
    mortal.deadline = cluster_.clock().now() + ttl;
    ASSERT_TRUE(engine().set_xattr(created->first.number, "user.ephfs.ttl", core::as_bytes(core::format_span(ttl)),
                                   fs::XattrMode::any));
    if (!late && random_.chance(2)) {
      const auto saved = run(engine().fsync(created->second));
      ASSERT_TRUE(saved) << saved.error();
    }
    engine().forget(created->first.number, 1);
    mortals_.push_back(std::move(mortal));
  }
  void run_to(core::Instant at) {
    auto& clock = cluster_.clock();
    if (at > clock.now()) clock.run_for(at - clock.now());
  }

  testing::Random random_;
  SimCluster cluster_{testing::test_seed()};
  std::vector<Mortal> mortals_;
};

TEST_F(DeadlinesTest, EveryFileDiesOnTimeAndNothingIsLeft) {
  EPHFS_TRACE_SEED(random_);
  for (int i = 0; i < 200; ++i) make("file" + std::to_string(i));
  std::ranges::sort(mortals_, {}, &Mortal::deadline);
  for (const auto& mortal : mortals_) {
    SCOPED_TRACE(mortal.name + ", which dies at " + core::format_instant(mortal.deadline));
    core::Bytes out(mortal.content.size() + 1);
    // A read that asks the nodes takes some time of its own.
    run_to(mortal.deadline - kJustBefore - 20ms);
    if (cluster_.clock().now() < mortal.deadline - kJustBefore) {
      const auto before = read(mortal, out);
      if (cluster_.clock().now() < mortal.deadline - kJustBefore) {
        ASSERT_TRUE(before) << before.error();
        EXPECT_TRUE(std::ranges::equal(core::ByteView(out).first(*before), mortal.content));
      }
    }
    run_to(mortal.deadline - kJustBefore);
    if (cluster_.clock().now() == mortal.deadline - kJustBefore) {
      const auto found = engine().lookup(core::kRootInode, mortal.name);
      ASSERT_TRUE(found) << found.error();
      engine().forget(found->number, 1);
    }
    run_to(mortal.deadline);
    EXPECT_FALSE(engine().lookup(core::kRootInode, mortal.name));
    const auto after = read(mortal, out);
    ASSERT_FALSE(after);
    EXPECT_EQ(after.error().code, core::Error::stale);
  }
  const core::Instant last = mortals_.back().deadline;
  mortals_.clear();
  // A stripe may outlive the files in it by a bucket: 1/64 of a ttl.
  run_to(last + 4h / 64 + 1min);
  for (std::size_t i = 0; i < SimCluster::kNodes; ++i) {
    EXPECT_EQ(cluster_.node(i)->store().usage().shards, 0U) << "node " << i;
  }
  const auto directory = cluster_.mount()->directory;
  ASSERT_TRUE(run(cluster_.stop_mount()));
  const auto catalog = meta::open_sqlite_catalog(directory / "catalog.db");
  ASSERT_TRUE(catalog) << catalog.error();
  EXPECT_THAT(*(*catalog)->check(), ::testing::IsEmpty());
  const auto totals = *(*catalog)->totals();
  EXPECT_EQ(totals.inodes, 1U) << "the root";
  EXPECT_EQ(totals.stripes, 0U);
  EXPECT_THAT(*(*catalog)->removals(10), ::testing::IsEmpty());
  for (const char* kind : {"staging", "cache"}) {
    EXPECT_TRUE(std::filesystem::is_empty(directory / kind)) << kind;
  }
}

}  // namespace
}  // namespace ephfs::sim
