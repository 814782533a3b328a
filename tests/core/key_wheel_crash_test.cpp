// SPDX-License-Identifier: Apache-2.0
// The wheel on a disk that loses power: each write cut off at each byte, what was not synced lost or kept in
// part. What is opened afterwards is the old state or the new, and what was given up is on the disk no
// longer.
#include <algorithm>
#include <functional>
#include <utility>

#include <gtest/gtest.h>

#include "core/key_wheel.hpp"
#include "tests/support/seeded.hpp"

namespace ephfs::core {
namespace {

using ephfs::testing::Random;

constexpr Instant kOld{1'767'225'600'000};
constexpr Instant kNew{kOld.ms + 60'000};
constexpr Instant kSoon{kNew.ms + 86'400'000};

/// What is on the disk for certain, and what was written since: power may go while `fail_at` operations are
/// still to come, and is then gone for every one after it.
struct Disk {
  Bytes durable;
  Bytes written;               // what a reader sees
  std::size_t operations = 0;  // writes and syncs that began
  std::size_t fail_at = ~std::size_t{0};
  std::size_t torn_bytes = 0;  // of the write that fails

  void lose_power(const std::function<bool(std::size_t)>& kept) {
    for (std::size_t i = 0; i < written.size(); ++i) {
      if (kept(i)) durable[i] = written[i];
    }
    written = durable;
    operations = 0;
    fail_at = ~std::size_t{0};
  }
};

class DiskMedium final : public WheelMedium {
 public:
  explicit DiskMedium(Disk& disk) : disk_(disk) {}
  Result<Bytes> read(std::size_t) override { return disk_.written; }
  Result<> write(std::uint64_t offset, ByteView bytes) override {
    const bool fails = disk_.operations++ >= disk_.fail_at;
    const std::size_t reach = fails ? std::exchange(disk_.torn_bytes, 0) : bytes.size();
    std::ranges::copy(bytes.first(reach), disk_.written.begin() + static_cast<std::ptrdiff_t>(offset));
    if (fails) return fail(Error::io, "the disk");
    return {};
  }
  Result<> sync() override {
    if (disk_.operations++ >= disk_.fail_at) return fail(Error::io, "the disk");
    disk_.durable = disk_.written;
    return {};
  }

 private:
  Disk& disk_;
};

class KeyWheelCrashTest : public ::testing::Test {
 protected:
  KeyWheelCrashTest() {
    start_ = KeyWheel::new_file(keys_);
    Disk disk{start_, start_};
    const auto wheel = open(disk);
    EXPECT_TRUE(wheel->puncture(kOld));
    soon_ = key_at(*wheel, kSoon);
    start_ = disk.durable;
  }
  std::unique_ptr<KeyWheel> open(Disk& disk) {
    auto wheel = KeyWheel::open_on(std::make_unique<DiskMedium>(disk), "disk", keys_);
    EXPECT_TRUE(wheel) << wheel.error();
    return wheel ? *std::move(wheel) : nullptr;
  }
  static std::string key_at(const KeyWheel& wheel, Instant at) {
    const auto key = wheel.key_for(Deadline(at));
    return key ? std::string(as_text(key->view())) : key.error().message();
  }
  /// Opens what is left, which is the old state or the new, and goes on from there.
  void expect_whole(Disk& disk, bool must_be_new) {
    const auto wheel = open(disk);
    ASSERT_TRUE(wheel);
    const Instant until = wheel->punctured().until;
    ASSERT_TRUE(until == kNew || (until == kOld && !must_be_new)) << until.ms;
    ASSERT_EQ(key_at(*wheel, kSoon), soon_);
    ASSERT_TRUE(std::equal(disk.durable.begin(), disk.durable.begin() + KeyWheel::kSlotBytes,
                           disk.durable.begin() + KeyWheel::kSlotBytes))
        << "a slot keeps what the other has given up";
    ASSERT_TRUE(wheel->puncture(kSoon));
    ASSERT_EQ(wheel->key_for(Deadline(kNew)).error().code, Error::stale);
  }

  const VolumeKeys keys_{random_id<VolumeId>(), random_key(), random_key()};
  Bytes start_;
  std::string soon_;
};

TEST_F(KeyWheelCrashTest, EachWriteCutAtEachByte) {
  // A puncture is write, sync, write, sync.
  for (std::size_t operation = 0; operation < 4; ++operation) {
    const std::size_t cuts = operation % 2 == 0 ? KeyWheel::kSlotBytes : 1;
    for (std::size_t cut = 0; cut < cuts; cut += cut < 1200 || cut > 4050 ? 1 : 37) {
      SCOPED_TRACE("operation " + std::to_string(operation) + ", byte " + std::to_string(cut));
      // What the system had not written is lost wholly, or kept, or kept from the cut on only.
      for (int kind = 0; kind < 3; ++kind) {
        Disk disk{start_, start_};
        const auto wheel = open(disk);
        disk.operations = 0;
        disk.fail_at = operation;
        disk.torn_bytes = kind == 2 ? KeyWheel::kSlotBytes : cut;
        ASSERT_FALSE(wheel->puncture(kNew));
        disk.lose_power([&](std::size_t i) { return kind == 1 || (kind == 2 && i % KeyWheel::kSlotBytes >= cut); });
        ASSERT_NO_FATAL_FAILURE(expect_whole(disk, operation >= 2));
      }
    }
  }
}

TEST_F(KeyWheelCrashTest, PowerIsLostAgainAndAgain) {
  Random random;
  EPHFS_TRACE_SEED(random);
  Disk disk{start_, start_};
  std::int64_t durable_until = kOld.ms;
  std::int64_t now = kOld.ms;
  for (int round = 0; round < 1500; ++round) {
    disk.fail_at = disk.operations + random.below(12);
    disk.torn_bytes = random.below(KeyWheel::kSlotBytes);
    // Opening itself may lose power, and so may each of a few punctures.
    auto wheel = KeyWheel::open_on(std::make_unique<DiskMedium>(disk), "disk", keys_);
    if (wheel) {
      ASSERT_GE((*wheel)->punctured().until.ms, durable_until);
      for (int step = 0; step < 3; ++step) {
        now += static_cast<std::int64_t>(random.below(200'000));
        if ((*wheel)->puncture({now})) durable_until = now - now % 60'000;
        ASSERT_FALSE((*wheel)->key_for(Deadline(Instant{now - 60'000})));
      }
    } else {
      ASSERT_EQ(wheel.error().code, Error::io) << wheel.error();
    }
    // A killed process leaves what it wrote to be lost later.
    if (random.chance(3)) {
      disk.fail_at = ~std::size_t{0};
      continue;
    }
    const bool by_sectors = random.chance(2);
    const std::uint64_t mask = random();
    const std::size_t sector = random.chance(2) ? 512 : 1;
    disk.lose_power([&](std::size_t i) { return by_sectors && (mask >> (i / sector % 61) & 1U) != 0; });
  }
  const auto wheel = open(disk);
  EXPECT_GE(wheel->punctured().until.ms, durable_until);
  EXPECT_NE(key_at(*wheel, {now + 86'400'000}), "");
}

TEST_F(KeyWheelCrashTest, AFailedWriteIsMadeUpForLater) {
  for (std::size_t operation = 0; operation < 4; ++operation) {
    Disk disk{start_, start_};
    const auto wheel = open(disk);
    disk.operations = 0;
    disk.fail_at = operation;
    disk.torn_bytes = 100;
    ASSERT_FALSE(wheel->puncture(kNew));
    // Destroyed in memory at once; only what is destroyed on disk is said to be.
    EXPECT_EQ(wheel->key_for(Deadline(kOld)).error().code, Error::stale);
    EXPECT_EQ(wheel->punctured().until, kOld);
    ASSERT_FALSE(wheel->puncture(kNew)) << "the disk still fails";
    disk.fail_at = ~std::size_t{0};
    ASSERT_TRUE(wheel->puncture(kNew));
    EXPECT_EQ(wheel->punctured().until, kNew);
    disk.lose_power([](std::size_t) { return false; });
    ASSERT_NO_FATAL_FAILURE(expect_whole(disk, true));
  }
}

}  // namespace
}  // namespace ephfs::core
