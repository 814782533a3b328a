// SPDX-License-Identifier: Apache-2.0
// What a ttl or deadline that somebody writes means, and who inherits what.
#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>

#include "tests/fs/engine_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

class TtlTest : public EngineTest {
 protected:
  InodeNumber make_file(InodeNumber parent, const std::string& name) {
    const auto made = volume.engine().make_node(parent, name, S_IFREG | 0644, 0, kUser);
    EXPECT_TRUE(made) << name << ": " << made.error();
    return made ? made->number : InodeNumber{};
  }
  InodeNumber make_directory(InodeNumber parent, const std::string& name) {
    const auto made = volume.engine().make_node(parent, name, S_IFDIR | 0755, 0, kUser);
    EXPECT_TRUE(made) << name << ": " << made.error();
    return made ? made->number : InodeNumber{};
  }
  /// Milliseconds that a file has left.
  Milliseconds left(InodeNumber number) { return volume.expires(number) - volume.clock.now(); }
  void reopen_with(const std::function<void(TtlPolicy&)>& change) {
    volume.close();
    change(volume.options.ttl);
    volume.open();
  }
};

struct WishRow {
  std::string value;
  int error;
  Milliseconds left;  // when it is taken
};

TEST_F(TtlTest, FileTakesWhatIsWithinBounds) {
  const core::Instant start = volume.clock.now();
  const auto instant = [&](Milliseconds from_now) { return core::format_instant(start + from_now); };
  const auto number = [&](Milliseconds from_now) { return "@" + std::to_string((start + from_now).ms); };
  const std::vector<WishRow> rows{
      {"2h", 0, 2h},
      {"90", 0, 90s},
      {"1s", 0, 1s},
      {"999ms", EINVAL, {}},
      {"1000ms", 0, 1s},
      {"365d", 0, 365 * 24h},
      {"366d", EINVAL, {}},
      {"+2h", 0, 5h},
      {"+365d", EINVAL, {}},
      {"+0s", EINVAL, {}},
      {"0", EINVAL, {}},
      {"-2h", EINVAL, {}},
      {"", EINVAL, {}},
      {"soon", EINVAL, {}},
      {"never", EINVAL, {}},
      {instant(1h), 0, 1h},
      {instant(1h + 1ms), 0, 1h + 1ms},
      {instant(0h), EINVAL, {}},
      {instant(-1h), EINVAL, {}},
      {instant(366 * 24h), EINVAL, {}},
      {number(30min), 0, 30min},
      {number(500ms), EINVAL, {}},
      {"@", EINVAL, {}},
      {"2026-13-01T00:00:00Z", EINVAL, {}},
  };
  for (const auto* attribute : {kTtl, kExpires}) {
    int count = 0;
    for (const auto& row : rows) {
      SCOPED_TRACE(std::string(attribute) + "=" + row.value);
      const auto file = make_file(kRoot, std::string(attribute) + std::to_string(count++));
      ASSERT_TRUE(volume.set_xattr(file, kTtl, "3h"));
      EXPECT_EQ(errno_of(volume.set_xattr(file, attribute, row.value)), row.error);
      EXPECT_EQ(left(file), row.error == 0 ? row.left : Milliseconds(3h));
    }
  }
}

/// A clock that is read a millisecond later each time.
class TickingClock final : public core::Clock {
 public:
  explicit TickingClock(VirtualClock& clock) : clock_(clock) {}
  [[nodiscard]] core::Instant now() const override { return clock_.now() + Milliseconds(ticks_++); }
  [[nodiscard]] core::Boottime boot_now() const override { return clock_.boot_now(); }
  [[nodiscard]] std::unique_ptr<core::Timer> call_at(core::asio::any_io_executor executor, core::Boottime when,
                                                     std::function<void()> handler) override {
    return clock_.call_at(std::move(executor), when, std::move(handler));
  }

 private:
  VirtualClock& clock_;
  mutable std::atomic<std::int64_t> ticks_{0};
};

TEST_F(TtlTest, ShortestTtlIsTakenWhileTimeGoesOn) {
  volume.close();
  TickingClock clock(volume.clock);
  auto catalog = meta::open_sqlite_catalog(volume.options.directory / "catalog");
  ASSERT_TRUE(catalog);
  auto engine = Engine::open({volume.options,
                              *std::move(catalog),
                              volume.keys,
                              std::make_unique<ephfs::testing::FakeEpochKeys>(volume.keys.master),
                              volume.peers,
                              clock,
                              volume.context.get_executor(),
                              {}});
  ASSERT_TRUE(engine) << engine.error();
  const auto file = (*engine)->make_node(kRoot, "file", S_IFREG | 0644, 0, kUser);
  ASSERT_TRUE(file);
  EXPECT_EQ(errno_of((*engine)->set_xattr(file->number, kTtl, core::as_bytes("1s"), XattrMode::any)), 0);
  engine->reset();
  volume.open();
}

TEST_F(TtlTest, NoDeadlineIsPastTheLastInstant) {
  static constexpr Milliseconds kMillennia = 9000 * 365 * 24h;
  reopen_with([](TtlPolicy& policy) { policy.initial = policy.longest = kMillennia; });
  const auto file = make_file(kRoot, "file");
  EXPECT_EQ(volume.expires(file), core::kInstantMax);
  EXPECT_EQ(errno_of(volume.set_xattr(file, kTtl, core::format_span(kMillennia))), EINVAL);
  EXPECT_EQ(errno_of(volume.set_xattr(file, kTtl, "+1h")), EINVAL);
  ASSERT_TRUE(volume.set_xattr(file, kTtl, "1000d"));
}

TEST_F(TtlTest, ClampingIsSaidOnceAMinute) {
  const auto directory = make_directory(kRoot, "directory");
  ASSERT_TRUE(volume.set_xattr(directory, kTtl, "100d"));
  reopen_with([](TtlPolicy& policy) { policy.longest = 30 * 24h; });
  volume.log.clear();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(left(make_file(directory, std::to_string(i))), 30 * 24h);
  EXPECT_THAT(volume.log, ::testing::ElementsAre(::testing::HasSubstr("100d")));
  volume.clock.run_for(1min);
  make_file(directory, "later");
  EXPECT_EQ(volume.log.size(), 2U);
}

TEST_F(TtlTest, NeverOnlyWhereTheVolumeAllowsIt) {
  reopen_with([](TtlPolicy& policy) { policy.allow_permanent = true; });
  const auto file = make_file(kRoot, "file");
  ASSERT_TRUE(volume.set_xattr(file, kTtl, "never"));
  EXPECT_EQ(*volume.xattr(file, kTtl), "never");
  EXPECT_EQ(*volume.xattr(file, kExpires), "never");
  EXPECT_EQ(errno_of(volume.set_xattr(file, kTtl, "+1h")), EINVAL);
  ASSERT_TRUE(volume.set_xattr(file, kTtl, "1h"));
  EXPECT_EQ(left(file), 1h);

  const auto directory = make_directory(kRoot, "directory");
  ASSERT_TRUE(volume.set_xattr(directory, kTtl, "never"));
  EXPECT_EQ(*volume.xattr(directory, kTtl), "never");
  EXPECT_EQ(*volume.xattr(make_file(directory, "file"), kTtl), "never");
  reopen_with([](TtlPolicy& policy) { policy.allow_permanent = false; });
  EXPECT_EQ(left(make_file(directory, "clamped")), 365 * 24h);
}

TEST_F(TtlTest, FileInheritsFromDirectoryElseFromVolume) {
  EXPECT_EQ(left(make_file(kRoot, "file")), 7 * 24h);
  const auto directory = make_directory(kRoot, "directory");
  EXPECT_EQ(*volume.xattr(directory, kTtl), "7d");
  EXPECT_EQ(errno_of(volume.xattr(directory, kExpires)), ENODATA);

  ASSERT_TRUE(volume.set_xattr(directory, kTtl, "2h"));
  EXPECT_EQ(*volume.xattr(directory, kTtl), "2h");
  EXPECT_EQ(left(make_file(directory, "file")), 2h);
  EXPECT_EQ(left(make_file(make_directory(directory, "sub"), "file")), 2h) << "subdirectories copy the default";

  ASSERT_TRUE(volume.set_xattr(directory, kTtl, "+1h"));
  EXPECT_EQ(*volume.xattr(directory, kTtl), "3h");
  const core::Instant end = volume.clock.now() + 10h;
  ASSERT_TRUE(volume.set_xattr(directory, kExpires, core::format_instant(end)));
  volume.clock.run_for(1h);
  EXPECT_EQ(volume.expires(make_file(directory, "dated")), end);
  EXPECT_EQ(*volume.xattr(directory, kTtl), "9h");
  ASSERT_TRUE(volume.set_xattr(directory, kExpires, "+1h"));
  EXPECT_EQ(volume.expires(directory), end + 1h);
  volume.clock.run_for(24h);
  EXPECT_EQ(left(make_file(directory, "late")), 1s) << "an instant that has passed is clamped to the shortest ttl";

  ASSERT_TRUE(volume.engine().remove_xattr(directory, kTtl));
  EXPECT_EQ(left(make_file(directory, "again")), 7 * 24h);
  EXPECT_EQ(errno_of(volume.engine().remove_xattr(directory, kTtl)), ENODATA);
}

TEST_F(TtlTest, DirectoryDefaultIsBounded) {
  const auto directory = make_directory(kRoot, "directory");
  for (const auto* value : {"366d", "500ms", "never", "yesterday", "2020-01-01T00:00:00Z"}) {
    EXPECT_EQ(errno_of(volume.set_xattr(directory, kTtl, value)), EINVAL) << value;
  }
  EXPECT_EQ(left(make_file(directory, "file")), 7 * 24h);
  ASSERT_TRUE(volume.set_xattr(directory, kTtl, "30d"));
  reopen_with([](TtlPolicy& policy) {
    policy.longest = 24h;
    policy.initial = 1h;
  });
  EXPECT_EQ(left(make_file(directory, "clamped")), 24h);
}

TEST_F(TtlTest, SymbolicLinksAndPipesDieToo) {
  ASSERT_TRUE(volume.set_xattr(kRoot, kTtl, "1h"));
  const auto link = volume.engine().make_symlink(kRoot, "link", "target", kUser);
  const auto pipe = volume.engine().make_node(kRoot, "pipe", S_IFIFO | 0600, 0, kUser);
  ASSERT_TRUE(link);
  ASSERT_TRUE(pipe);
  volume.clock.run_for(1h);
  EXPECT_EQ(errno_of(volume.engine().read_link(link->number)), ENOENT);
  EXPECT_EQ(errno_of(volume.engine().attributes(pipe->number, false)), ENOENT);
}

TEST_F(TtlTest, WhatHasNoUserAttributesHasSystemOnes) {
  const auto link = volume.engine().make_symlink(kRoot, "link", "target", kUser);
  ASSERT_TRUE(link);
  EXPECT_TRUE(volume.engine().list_xattrs(link->number)->empty());
  ASSERT_TRUE(volume.set_xattr(link->number, "system.ephfs.ttl", "3h"));
  EXPECT_EQ(left(link->number), 3h);
  EXPECT_THAT(*volume.engine().list_xattrs(link->number), ::testing::ElementsAre("system.ephfs.expires"));
  EXPECT_EQ(errno_of(volume.set_xattr(link->number, "system.ephfs.nonsense", "3h")), EINVAL);
  EXPECT_EQ(errno_of(volume.set_xattr(link->number, "system.other", "3h")), EOPNOTSUPP);
}

TEST_F(TtlTest, RemovingGoesBackToWhatIsInherited) {
  const auto directory = make_directory(kRoot, "directory");
  ASSERT_TRUE(volume.set_xattr(directory, kTtl, "2h"));
  const auto file = make_file(directory, "file");
  EXPECT_EQ(errno_of(volume.engine().remove_xattr(file, kExpires)), ENODATA);
  ASSERT_TRUE(volume.set_xattr(file, kTtl, "5h"));
  volume.clock.run_for(1h);
  ASSERT_TRUE(volume.engine().remove_xattr(file, kExpires));
  EXPECT_EQ(left(file), 2h) << "counted from now";
  EXPECT_TRUE(volume.engine().list_xattrs(file)->empty());
}

TEST_F(TtlTest, OnlyAnExplicitDeadlineIsListed) {
  const auto file = make_file(kRoot, "file");
  EXPECT_TRUE(volume.engine().list_xattrs(file)->empty());
  ASSERT_TRUE(volume.set_xattr(file, kTtl, "2h"));
  EXPECT_THAT(*volume.engine().list_xattrs(file), ::testing::ElementsAre(kExpires));
  EXPECT_EQ(errno_of(volume.set_xattr(file, kExpires, "2h", XattrMode::create)), EEXIST);
  EXPECT_EQ(errno_of(volume.set_xattr(make_file(kRoot, "other"), kExpires, "2h", XattrMode::replace)), ENODATA);
  const auto directory = make_directory(kRoot, "directory");
  ASSERT_TRUE(volume.set_xattr(directory, kTtl, "2h"));
  EXPECT_TRUE(volume.engine().list_xattrs(directory)->empty());
  ASSERT_TRUE(volume.set_xattr(directory, kExpires, "2h"));
  EXPECT_THAT(*volume.engine().list_xattrs(directory), ::testing::ElementsAre(kExpires));
}

TEST_F(TtlTest, RemainingTimeReadsAsASpan) {
  const auto file = make_file(kRoot, "file");
  ASSERT_TRUE(volume.set_xattr(file, kTtl, "2h"));
  EXPECT_EQ(*volume.xattr(file, kTtl), "2h");
  volume.clock.run_for(1300ms);
  EXPECT_EQ(*volume.xattr(file, kTtl), "1h59m59s");
  volume.clock.run_for(2h - 1300ms - 250ms);
  EXPECT_EQ(*volume.xattr(file, kTtl), "250ms");
}

TEST_F(TtlTest, ExtendingIsPossibleBeforeTheDeadlineOnly) {
  const auto file = make_file(kRoot, "file");
  ASSERT_TRUE(volume.set_xattr(file, kTtl, "10s"));
  volume.clock.run_for(10s - kLastMoment - 1ms);
  ASSERT_TRUE(volume.set_xattr(file, kTtl, "+10s"));
  volume.clock.run_for(10s + 1ms);
  EXPECT_EQ(errno_of(volume.set_xattr(file, kTtl, "+10s")), ENOENT);
}

TEST_F(TtlTest, ExtendedFileIsStillReadableAfterReopening) {
  const auto file = volume.write_file(kRoot, "file", "content").number;
  ASSERT_TRUE(volume.set_xattr(file, kTtl, "3h"));
  EXPECT_EQ(volume.read_file(file), "content");
  volume.reopen();
  EXPECT_EQ(volume.read_file(file), "content") << "the key is wrapped for the new deadline";
}

TEST_F(TtlTest, ModeIsInheritedFromDirectoryElseFromVolume) {
  EXPECT_EQ(*volume.xattr(make_file(kRoot, "a"), kMode), "fixed");
  const auto directory = make_directory(kRoot, "directory");
  ASSERT_TRUE(volume.set_xattr(directory, kMode, "fixed"));
  reopen_with([](TtlPolicy& policy) { policy.mode = meta::TtlMode::modified; });
  EXPECT_EQ(*volume.xattr(kRoot, kMode), "modified");
  EXPECT_EQ(*volume.xattr(make_file(kRoot, "b"), kMode), "modified");
  EXPECT_EQ(*volume.xattr(make_file(directory, "c"), kMode), "fixed");
  ASSERT_TRUE(volume.engine().remove_xattr(directory, kMode));
  EXPECT_EQ(*volume.xattr(make_file(directory, "d"), kMode), "modified");
  EXPECT_EQ(errno_of(volume.set_xattr(directory, kMode, "sometimes")), EINVAL);
}

struct SlideRow {
  const char* mode;
  bool on_write, on_read;
};

TEST_F(TtlTest, DeadlineSlidesAsTheModeSays) {
  for (const auto& row :
       {SlideRow{"fixed", false, false}, SlideRow{"modified", true, false}, SlideRow{"accessed", true, true}}) {
    SCOPED_TRACE(row.mode);
    for (const bool write : {true, false}) {
      const auto name = std::string(row.mode) + (write ? "w" : "r");
      const auto number = volume.write_file(kRoot, name, "content").number;
      ASSERT_TRUE(volume.set_xattr(number, kMode, row.mode));
      ASSERT_TRUE(volume.set_xattr(number, kTtl, "1h"));
      const core::Instant before = volume.expires(number);
      volume.clock.run_for(30min);
      if (write) {
        const auto file = volume.engine().open_file(number, O_WRONLY);
        ASSERT_TRUE(file);
        ASSERT_TRUE(volume.engine().try_write(**file, 0, core::as_bytes("C")));
        ASSERT_TRUE(volume.run(volume.engine().flush(*file)));
        volume.engine().release(*file);
      } else {
        ASSERT_EQ(volume.read_file(number), "content");
      }
      const bool slides = write ? row.on_write : row.on_read;
      EXPECT_EQ(volume.expires(number), slides ? volume.clock.now() + 1h : before) << (write ? "write" : "read");
    }
  }
}

}  // namespace
}  // namespace ephfs::fs::testing
