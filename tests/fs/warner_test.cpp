// SPDX-License-Identifier: Apache-2.0
// Warnings of death: each file once for each deadline, the span before it, whatever becomes of the deadline meanwhile.
#include <gmock/gmock.h>

#include "tests/fs/engine_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class WarnerTest : public EngineTest {
 protected:
  WarnerTest() {
    volume.options.warn = 10min;
    volume.options.ttl.initial = 1h;
    volume.on_warning = [this](const DyingFile& file) { warned_.push_back(file.path); };
    volume.reopen();
    volume.start();
  }
  std::vector<std::string> warned_in(core::Milliseconds span) {
    warned_.clear();
    volume.clock.run_for(span);
    return warned_;
  }

  std::vector<std::string> warned_;
};

TEST_F(WarnerTest, TellsOnceTheSpanBefore) {
  const auto made = volume.write_file(kRoot, "f", "content");
  EXPECT_THAT(warned_in(50min - 1s), IsEmpty());
  EXPECT_EQ(errno_of(volume.xattr(made.number, "user.ephfs.warning")), ENODATA);
  EXPECT_THAT(warned_in(2s), ElementsAre("/f"));
  EXPECT_EQ(volume.xattr(made.number, "user.ephfs.warning").value(), "dies in 9 min 59 s");
  EXPECT_EQ(errno_of(volume.set_xattr(made.number, "user.ephfs.warning", "no")), EPERM);
  EXPECT_THAT(warned_in(20min), IsEmpty());
}

TEST_F(WarnerTest, NamesTheWholePath) {
  const auto outer = volume.engine().make_node(kRoot, "outer", S_IFDIR | 0755, 0, kUser).value();
  const auto inner = volume.engine().make_node(outer.number, "inner", S_IFDIR | 0755, 0, kUser).value();
  volume.write_file(inner.number, "a", "1");
  volume.write_file(inner.number, "b", "2");
  EXPECT_THAT(warned_in(51min), UnorderedElementsAre("/outer/inner/a", "/outer/inner/b"));
}

TEST_F(WarnerTest, IsArmedAgainByAnotherDeadline) {
  const auto made = volume.write_file(kRoot, "f", "content");
  EXPECT_THAT(warned_in(51min), ElementsAre("/f"));
  ASSERT_TRUE(volume.set_xattr(made.number, "user.ephfs.ttl", "1h"));
  EXPECT_THAT(warned_in(49min), IsEmpty());
  EXPECT_THAT(warned_in(2min), ElementsAre("/f"));
  // Moved within the span: told of at once, and once.
  ASSERT_TRUE(volume.set_xattr(made.number, "user.ephfs.ttl", "3m"));
  EXPECT_THAT(warned_in(10s), ElementsAre("/f"));
  EXPECT_THAT(warned_in(5min), IsEmpty());
}

TEST_F(WarnerTest, TellsOfAFileSetJustAtTheEdgeOnce) {
  const auto made = volume.write_file(kRoot, "f", "content");
  for (const char* ttl : {"603s", "604s", "603s"}) ASSERT_TRUE(volume.set_xattr(made.number, "user.ephfs.ttl", ttl));
  volume.engine().forget(made.number, 1);
  EXPECT_THAT(warned_in(1min), ElementsAre("/f"));
}

TEST_F(WarnerTest, TellsOfWhatIsMadeWithinTheSpan) {
  const auto directory = volume.engine().make_node(kRoot, "d", S_IFDIR | 0755, 0, kUser).value();
  ASSERT_TRUE(volume.set_xattr(directory.number, "user.ephfs.ttl", "2m"));
  volume.clock.run_for(1s);
  volume.write_file(directory.number, "f", "content");
  volume.clock.run_for(1min);
  EXPECT_THAT(warned_, ElementsAre("/d/f"));
}

TEST_F(WarnerTest, FollowsASlidingDeadline) {
  const auto made = volume.write_file(kRoot, "f", "content");
  ASSERT_TRUE(volume.set_xattr(made.number, "user.ephfs.ttl_mode", "accessed"));
  for (int i = 0; i < 6; ++i) {
    EXPECT_THAT(warned_in(40min), IsEmpty());
    EXPECT_EQ(volume.read_file(made.number), "content");
  }
  EXPECT_THAT(warned_in(51min), ElementsAre("/f"));
  EXPECT_EQ(volume.read_file(made.number), "content");
  EXPECT_THAT(warned_in(49min), IsEmpty());
  EXPECT_THAT(warned_in(2min), ElementsAre("/f"));
}

TEST_F(WarnerTest, GoesOnAfterARestart) {
  volume.write_file(kRoot, "first", "1");
  volume.clock.run_for(10min);
  volume.write_file(kRoot, "second", "2");
  EXPECT_THAT(warned_in(41min), ElementsAre("/first"));
  volume.close();
  // The second one's time to be told of comes while nobody is there to tell.
  volume.clock.run_for(12min);
  warned_.clear();
  volume.open();
  volume.start();
  EXPECT_THAT(warned_in(1min), ElementsAre("/second"));
  volume.reopen();
  volume.start();
  EXPECT_THAT(warned_in(1min), IsEmpty());
}

TEST_F(WarnerTest, TellsOfManyWithOneDeadline) {
  constexpr int kFiles = 1000;
  const core::Instant deadline = volume.clock.now() + 30min;
  for (int i = 0; i < kFiles; ++i) {
    const auto made = volume.write_file(kRoot, "f" + std::to_string(i), "content");
    ASSERT_TRUE(volume.set_xattr(made.number, "user.ephfs.expires", core::format_instant(deadline)));
  }
  EXPECT_THAT(warned_in(19min), IsEmpty());
  auto told = warned_in(2min);
  EXPECT_EQ(told.size(), std::size_t{kFiles});
  std::ranges::sort(told);
  EXPECT_EQ(std::ranges::adjacent_find(told), told.end());
  EXPECT_THAT(warned_in(30min), IsEmpty());
}

TEST_F(EngineTest, ListsWhatDiesByPagesWithNames) {
  for (int i = 0; i < 7; ++i) {
    const auto made = volume.write_file(kRoot, "f" + std::to_string(i), "content");
    ASSERT_TRUE(volume.set_xattr(made.number, "user.ephfs.ttl", std::to_string(70 - i) + "m"));
  }
  const core::Instant until = volume.clock.now() + 69min;
  std::vector<std::string> paths;
  std::optional<meta::ExpiringRecord> after = meta::ExpiringRecord::before({0});
  while (after) {
    const auto page = volume.engine().expiring(*after, until, 2);
    ASSERT_TRUE(page) << page.error();
    for (const auto& file : page->files) paths.push_back(file.path);
    after = page->next;
  }
  EXPECT_THAT(paths, ElementsAre("/f6", "/f5", "/f4", "/f3", "/f2"));
}

TEST_F(EngineTest, WarnsOfNothingUnlessItIsToldTo) {
  const auto made = volume.write_file(kRoot, "f", "content");
  ASSERT_TRUE(volume.set_xattr(made.number, "user.ephfs.ttl", "10s"));
  EXPECT_EQ(errno_of(volume.xattr(made.number, "user.ephfs.warning")), ENODATA);
}

}  // namespace
}  // namespace ephfs::fs::testing
