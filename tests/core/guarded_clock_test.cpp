// SPDX-License-Identifier: Apache-2.0
// The rules of docs/clock.md, each by its number, and random sequences of clock events against what they
// promise.
#include "core/guarded_clock.hpp"

#include <thread>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "core/little_endian.hpp"
#include "core/log.hpp"
#include "core/signing.hpp"
#include "tests/support/seeded.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/virtual_clock.hpp"

namespace ephfs::core::testing {
namespace {

using namespace std::chrono_literals;
using ephfs::testing::Random;
using ephfs::testing::VirtualClock;

constexpr Milliseconds kSlack = GuardedClock::kSlack;
constexpr Milliseconds kYear = std::chrono::hours(24 * 365);
constexpr BootId kFirstBoot{std::byte{1}};
constexpr BootId kNextBoot{std::byte{2}};

class GuardedClockTest : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_sink([](const std::string&) {});
    open();
  }
  void TearDown() override { set_log_sink(nullptr); }

  void open(const BootId& boot = kFirstBoot) {
    clock_.reset();
    auto opened = GuardedClock::open(directory_ / "clock", base_, boot);
    ASSERT_TRUE(opened) << opened.error();
    clock_ = *std::move(opened);
    clock_->on_change([this] { ++changes_; });
    clock_->look();
  }
  /// Time passes, with a look each second.
  void pass(Nanoseconds span) {
    const Boottime end = base_.boot_now() + span;
    while (base_.boot_now() < end) {
      base_.run_for(std::min<Nanoseconds>(1s, end - base_.boot_now()));
      clock_->look();
    }
  }
  void step(Milliseconds by) {
    base_.set_wall(base_.now() + by);
    clock_->look();
  }
  Instant now() { return clock_->now(); }
  Instant confirmed() { return clock_->confirmed_now(); }

  ephfs::testing::TempDir directory_;
  boost::asio::io_context context_;
  VirtualClock base_{context_};
  std::unique_ptr<GuardedClock> clock_;
  int changes_ = 0;
};

TEST_F(GuardedClockTest, IsTheWallClockWhenNothingHappens) {
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(now(), base_.now());
    EXPECT_EQ(confirmed(), base_.now());
    pass(1234567us);
  }
  EXPECT_FALSE(clock_->is_held());
  EXPECT_EQ(changes_, 0);
}

TEST_F(GuardedClockTest, C2SetBackADayTimeGoesOn) {
  const Instant before = now();
  step(-24h);
  EXPECT_EQ(now(), before);
  pass(1h);
  EXPECT_EQ(now(), before + 1h);
  EXPECT_EQ(confirmed(), before + 1h);
  EXPECT_EQ(clock_->report().behind, Milliseconds(24h));
  EXPECT_EQ(changes_, 1) << "sleepers are told that the time was set";
}

TEST_F(GuardedClockTest, C3SetBackAcrossARestartOfTheProcess) {
  pass(10s);
  const Instant before = now();
  step(-24h);
  clock_.reset();
  base_.run_for(30min);
  open();
  EXPECT_EQ(now(), before + 30min);
}

TEST_F(GuardedClockTest, C3KilledWithoutAWordTimeGoesOnByBootTime) {
  // What kill -9 leaves: the file as it was written a while ago.
  pass(90s);
  const auto copy = directory_ / "copy";
  std::filesystem::copy_file(directory_ / "clock", copy);
  pass(30s);
  const Instant before = now();
  base_.set_wall(base_.now() - 24h);
  base_.run_for(5min);
  const auto again = GuardedClock::open(copy, base_, kFirstBoot);
  ASSERT_TRUE(again) << again.error();
  EXPECT_EQ((*again)->now(), before + 5min);
}

TEST_F(GuardedClockTest, C4AfterARebootTheMarkIsTheFloor) {
  const Instant before = now();
  base_.set_wall(base_.now() - 24h);
  open(kNextBoot);
  EXPECT_GE(now(), before);
  EXPECT_FALSE(clock_->is_held());
}

TEST_F(GuardedClockTest, C4AShortRebootIsBelievedAndALongOneWaits) {
  pass(1s);
  base_.set_wall(base_.now() + 9min);
  open(kNextBoot);
  EXPECT_FALSE(clock_->is_held());
  EXPECT_EQ(confirmed(), base_.now());
  const Instant before = confirmed();
  base_.set_wall(base_.now() + 8h);
  open({std::byte{3}});
  EXPECT_TRUE(clock_->is_held());
  EXPECT_EQ(now(), base_.now());
  EXPECT_EQ(confirmed(), before);
  pass(1min);
  EXPECT_EQ(confirmed(), before + 1min);
  EXPECT_TRUE(clock_->confirm_by_kernel(base_.now()));
  EXPECT_EQ(confirmed(), base_.now());
}

TEST_F(GuardedClockTest, C5ForwardAYearIsHeldAndACorrectionBringsEverythingBack) {
  const Instant before = now();
  step(kYear);
  EXPECT_TRUE(clock_->is_held());
  EXPECT_EQ(now(), before + kYear);
  EXPECT_EQ(confirmed(), before);
  EXPECT_EQ(clock_->destruction_now(), before);
  pass(10min);
  EXPECT_EQ(confirmed(), before + 10min);
  EXPECT_EQ(*clock_->report().held_since, before);
  step(-kYear);
  EXPECT_FALSE(clock_->is_held());
  EXPECT_EQ(now(), before + 10min);
  EXPECT_EQ(changes_, 2);
}

TEST_F(GuardedClockTest, C5AHoldOutlastsARestart) {
  const Instant before = now();
  step(kYear);
  clock_.reset();
  base_.run_for(1h);
  open();
  EXPECT_TRUE(clock_->is_held());
  EXPECT_EQ(confirmed(), before + 1h);
  step(-kYear);
  EXPECT_EQ(now(), before + 1h);
}

TEST_F(GuardedClockTest, C5CorrectedTooFarItGoesBackToConfirmedTimeOnly) {
  step(kYear);
  pass(1min);
  const Instant certain = confirmed();
  step(-2 * kYear);
  EXPECT_EQ(now(), certain);
}

TEST_F(GuardedClockTest, C6SmallStepsForwardAreBelievedUpToTheSlack) {
  const Instant before = now();
  step(30s);
  EXPECT_EQ(confirmed(), before + 30s);
  for (int i = 0; i < 100; ++i) step(30s);
  EXPECT_TRUE(clock_->is_held()) << "many small steps are a jump";
  EXPECT_LE(confirmed(), before + kSlack);
}

// What is left of the slack is in the file: it is not made whole by starting again, nor by killing and starting.
TEST_F(GuardedClockTest, C6NoRestartStretchesTheSlack) {
  const Instant before = now();
  std::byte boots{1};
  for (int i = 0; i < 30; ++i) {
    base_.set_wall(base_.now() + 9min);
    if (i % 3 == 2) boots = std::byte(std::to_integer<int>(boots) + 1);
    const auto kept = directory_ / "kept";
    std::filesystem::copy_file(directory_ / "clock", kept, std::filesystem::copy_options::overwrite_existing);
    clock_.reset();
    if (i % 3 == 1) std::filesystem::rename(kept, directory_ / "clock");
    open({boots});
    ASSERT_LE(confirmed(), before + kSlack) << "restart " << i;
  }
  EXPECT_EQ(confirmed(), before + 9min) << "the first step, and no more";
  EXPECT_TRUE(clock_->is_held());
  ASSERT_TRUE(clock_->accept());
  const Instant accepted = confirmed();
  open({boots});
  step(9min);
  EXPECT_EQ(confirmed(), accepted + 9min) << "a confirmation makes it whole, also for the next run";
}

TEST_F(GuardedClockTest, C6TheSlackGrowsBackWhileNobodyRuns) {
  step(10min);
  const Instant before = confirmed();
  clock_.reset();
  base_.run_for(100'000s);
  open();
  step(99s);
  EXPECT_EQ(confirmed(), before + 100'099s);
  step(2s);
  EXPECT_TRUE(clock_->is_held());
}

TEST_F(GuardedClockTest, C6DriftIsBelievedForWeeks) {
  // 500 ppm, the most that NTP lets a clock drift.
  for (int i = 0; i < 24 * 28; ++i) {
    base_.run_for(1h);
    step(1800ms);
    ASSERT_FALSE(clock_->is_held()) << "after " << i << " hours";
    ASSERT_EQ(confirmed(), base_.now());
  }
}

TEST_F(GuardedClockTest, C7AfterASmallStepBackTimeIsSlowerUntilTheyMeet) {
  pass(1s);
  step(-30s);
  Instant last = now();
  for (int i = 0; i < 600; ++i) {
    pass(1s);
    ASSERT_GE(now(), last);
    ASSERT_LE(now() - last, Milliseconds(1003ms));
    last = now();
  }
  EXPECT_LE(now() - base_.now(), 4ms);
  EXPECT_GE(now(), base_.now());
}

TEST_F(GuardedClockTest, C7ItNeverRunsBackwardsForAReaderInAnotherThread) {
  SystemClock system;
  auto opened = GuardedClock::open(directory_ / "system", system, kFirstBoot);
  ASSERT_TRUE(opened) << opened.error();
  auto& clock = **opened;
  std::atomic<bool> over{false};
  std::atomic<int> back{0};
  std::thread reader([&] {
    Instant last{0};
    while (!over) {
      const Instant at = clock.now();
      if (at < last) ++back;
      last = at;
    }
  });
  for (int i = 0; i < 2000; ++i) clock.look();
  over = true;
  reader.join();
  EXPECT_EQ(back, 0);
}

TEST_F(GuardedClockTest, C8TheKernelConfirmsOnlyWhatItAgreesWith) {
  const Instant before = now();
  step(kYear);
  EXPECT_FALSE(clock_->confirm_by_kernel(std::nullopt));
  EXPECT_FALSE(clock_->confirm_by_kernel(before));
  EXPECT_EQ(confirmed(), before);
  EXPECT_TRUE(clock_->confirm_by_kernel(base_.now() + 500ms));
  EXPECT_EQ(confirmed(), before + kYear);
  EXPECT_FALSE(clock_->is_held());
}

TEST_F(GuardedClockTest, C9NoMinorityOfPeersConfirms) {
  const Instant before = now();
  step(kYear);
  const Instant wall = base_.now();
  const auto confirms = [&](std::vector<Instant> answers, std::size_t asked) {
    return clock_->confirm_by_peers(answers, asked);
  };
  EXPECT_FALSE(confirms({}, 0));
  EXPECT_FALSE(confirms({wall, wall}, 2)) << "two are too few";
  EXPECT_FALSE(confirms({wall, wall, wall}, 6)) << "no majority of those asked";
  EXPECT_FALSE(confirms({wall, wall, before, before, before}, 5));
  EXPECT_FALSE(confirms({wall, wall, before, before}, 4)) << "half is no majority";
  EXPECT_FALSE(confirms({wall + 2 * kYear, wall, before}, 3)) << "the median alone, held up by liars on both sides";
  EXPECT_FALSE(confirms({wall + kSlack + 1ms, wall + kYear, wall + kYear}, 3));
  EXPECT_EQ(confirmed(), before);
  EXPECT_TRUE(confirms({wall + 9min, wall - 1s, before}, 3));
  EXPECT_EQ(confirmed(), wall);
}

TEST_F(GuardedClockTest, C10TheOwnerConfirms) {
  step(kYear);
  ASSERT_TRUE(clock_->accept());
  EXPECT_FALSE(clock_->is_held());
  EXPECT_EQ(confirmed(), base_.now());
  const Instant after = now();
  step(-kYear);
  EXPECT_EQ(now(), after) << "what was confirmed is not taken back";
}

TEST_F(GuardedClockTest, C11DestructionTimeIsOnDiskBeforeItIsGiven) {
  pass(20s);
  const Instant given = clock_->destruction_now();
  const auto copy = directory_ / "copy";
  std::filesystem::copy_file(directory_ / "clock", copy);
  base_.set_wall(given - 24h);
  const auto again = GuardedClock::open(copy, base_, kNextBoot);
  ASSERT_TRUE(again) << again.error();
  EXPECT_GE((*again)->now(), given);
}

TEST_F(GuardedClockTest, C12SuspensionCountsAndWakesSleepers) {
  const Instant before = now();
  base_.run_for(8h);  // nobody looks meanwhile
  clock_->look();
  EXPECT_EQ(confirmed(), before + 8h);
  EXPECT_FALSE(clock_->is_held());
  EXPECT_EQ(changes_, 1);
}

TEST_F(GuardedClockTest, OneProcessHasTheFile) {
  const auto other = GuardedClock::open(directory_ / "clock", base_, kFirstBoot);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, Error::busy);
}

// Whatever is set and however time passes, these hold.
TEST_F(GuardedClockTest, RandomEventsKeepThePromises) {
  Random random;
  EPHFS_TRACE_SEED(random);
  std::byte boots{1};
  Instant last_now = now();
  Instant last_confirmed = confirmed();
  const Instant first = last_confirmed;
  Milliseconds total{0};
  Instant vouched = first;  // at the last confirmation
  Milliseconds since{0};    // at least what passed since
  for (int i = 0; i < 5000; ++i) {
    const bool was_held = clock_->is_held();
    const Instant wall_before = base_.now();
    const Nanoseconds span{
        static_cast<std::int64_t>(random.below(random.chance(50) ? 36'000'000'000'000 : 3'000'000'000))};
    bool may_jump = false;
    switch (random.below(8)) {
      case 0:
        base_.set_wall(wall_before + Milliseconds(static_cast<std::int64_t>(random.below(7'200'000))) - 1h);
        break;
      case 1:
        base_.set_wall(wall_before + Milliseconds(static_cast<std::int64_t>(random.below(2000))) - 1s);
        break;
      case 2:
        if (random.chance(20))
          base_.set_wall(VirtualClock::kDefaultWall +
                         Milliseconds(static_cast<std::int64_t>(random.below(63'072'000'000))));
        break;
      case 3:
        may_jump = random.chance(10) && clock_->confirm_by_kernel(base_.now());
        break;
      case 4:
        if (random.chance(10)) open();
        break;
      case 5:
        if (random.chance(10)) {
          boots = std::byte(std::to_integer<int>(boots) + 1);
          open({boots});
        }
        break;
      default:
        break;
    }
    base_.run_for(span);
    if (!random.chance(3)) clock_->look();
    const Instant at = now();
    const Instant certain = confirmed();
    ASSERT_GE(certain, last_confirmed) << "event " << i;
    ASSERT_LE(certain, at) << "event " << i;
    ASSERT_GE(at, base_.now()) << "event " << i;
    if (!was_held) {
      ASSERT_GE(at, last_now) << "event " << i;
    }
    const auto passed = std::chrono::ceil<Milliseconds>(span);
    since += passed;
    if (may_jump) {
      vouched = certain;
      since = Milliseconds{0};
    }
    // Over all restarts, too.
    ASSERT_LE(certain - vouched, since + kSlack + since / 1000 + 5ms) << "event " << i;
    // Slowed, but never more than that; a restart may round a millisecond away.
    total += std::chrono::floor<Milliseconds>(span);
    ASSERT_GE(certain - first, total * 15 / 16 - Milliseconds(i + 5)) << "event " << i;
    last_now = at;
    last_confirmed = certain;
  }
}

class ClockFileTest : public ::testing::Test {
 protected:
  static ClockMark mark_at(std::int64_t ms) {
    return {Instant{ms}, Boottime{5}, ms * 1'000'000 - 5, ms * 1'000'000 + 5, kFirstBoot};
  }
  void write(std::int64_t ms) {
    auto file = ClockFile::open(path_);
    ASSERT_TRUE(file) << file.error();
    ASSERT_TRUE(file->write(mark_at(ms), true));
  }
  Bytes content() { return *read_file(path_, 4096); }
  void put(const Bytes& bytes) { ASSERT_TRUE(replace_file(path_, bytes, 0600)); }

  ephfs::testing::TempDir directory_;
  std::filesystem::path path_ = directory_ / "clock";
};

TEST_F(ClockFileTest, KeepsTheLastMark) {
  for (std::int64_t ms = 1; ms < 6; ++ms) {
    write(ms);
    const auto file = ClockFile::open(path_);
    ASSERT_TRUE(file) << file.error();
    EXPECT_EQ(file->mark(), mark_at(ms));
  }
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

// A write that a crash cuts short anywhere leaves the mark before it, or is whole.
TEST_F(ClockFileTest, ATornWriteLeavesTheOldMarkOrTheNew) {
  for (std::int64_t ms = 1; ms < 4; ++ms) write(ms);
  const Bytes before = content();
  write(4);
  const Bytes after = content();
  ASSERT_EQ(before.size(), after.size());
  for (std::size_t cut = 0; cut <= after.size(); ++cut) {
    Bytes torn = before;
    std::copy_n(after.begin(), cut, torn.begin());
    put(torn);
    const auto file = ClockFile::open(path_);
    ASSERT_TRUE(file) << "cut at " << cut << ": " << file.error();
    EXPECT_TRUE(file->mark()->confirmed.ms == 3 || file->mark()->confirmed.ms == 4) << "cut at " << cut;
  }
}

TEST_F(ClockFileTest, EveryDamagedByteIsFoundAndTheOtherSlotServes) {
  write(1);
  write(2);
  const Bytes good = content();
  for (std::size_t at = 0; at < good.size(); ++at) {
    Bytes bad = good;
    bad[at] ^= std::byte{0x10};
    put(bad);
    const auto file = ClockFile::open(path_);
    ASSERT_TRUE(file) << at;
    EXPECT_TRUE(file->mark()->confirmed.ms == 1 || file->mark()->confirmed.ms == 2);
  }
}

TEST_F(ClockFileTest, RefusesWhatHoldsNoMark) {
  Random random;
  EPHFS_TRACE_SEED(random);
  for (const std::size_t size : {1U, 89U, 512U, 602U, 610U, 5000U}) {
    put(random.bytes(size));
    const auto file = ClockFile::open(path_);
    ASSERT_FALSE(file) << size;
    EXPECT_EQ(file.error().code, Error::damaged) << size;
  }
}

// Version 1 did not say what is left of the slack: all of it.
TEST_F(ClockFileTest, ReadsVersion1AndRefusesALaterOne) {
  const auto slot_of = [](std::uint16_t version, std::size_t bytes) {
    Bytes slot = encode_clock_slot({7, mark_at(3)});
    slot.resize(bytes);
    store_le(MutableByteView(slot).subspan(8), version);
    const auto sum = sha256(ByteView(slot).first(bytes - 32));
    std::ranges::copy(sum.view(), slot.end() - 32);
    return slot;
  };
  put(slot_of(1, 90));
  {
    const auto file = ClockFile::open(path_);
    ASSERT_TRUE(file) << file.error();
    ClockMark expected = mark_at(3);
    expected.ceiling_ns = expected.offset_ns + Nanoseconds(kCeilingMax).count();
    EXPECT_EQ(file->mark(), expected);
  }
  write(4);
  EXPECT_EQ(ClockFile::open(path_)->mark(), mark_at(4));
  put(slot_of(3, kClockSlotBytes));
  EXPECT_EQ(ClockFile::open(path_).error().code, Error::version);
  put(slot_of(2, 90));
  EXPECT_EQ(ClockFile::open(path_).error().code, Error::damaged);
}

TEST_F(ClockFileTest, ReadsTheBootId) {
  const auto id = read_boot_id();
  ASSERT_TRUE(id) << id.error();
  EXPECT_EQ(*id, *read_boot_id());
  EXPECT_NE(*id, BootId{});
}

}  // namespace
}  // namespace ephfs::core::testing
