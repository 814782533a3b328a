// SPDX-License-Identifier: Apache-2.0
// The wheel's file: what it holds, what it no longer holds, and what becomes of one that somebody changed.
#include "core/key_wheel.hpp"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "core/aead.hpp"
#include "core/files.hpp"
#include "core/little_endian.hpp"
#include "tests/support/seeded.hpp"
#include "tests/support/temp_dir.hpp"

namespace ephfs::core {
namespace {

using ::testing::HasSubstr;

constexpr Instant kNow{1'767'225'600'000};
constexpr Instant kLater{kNow.ms + 3'600'000};
constexpr std::size_t kSumBytes = 32;

class KeyWheelTest : public ::testing::Test {
 protected:
  KeyWheelTest() { EXPECT_TRUE(KeyWheel::create(path_, keys_)); }

  std::unique_ptr<KeyWheel> open() {
    auto wheel = KeyWheel::open(path_, keys_);
    EXPECT_TRUE(wheel) << wheel.error();
    return wheel ? *std::move(wheel) : nullptr;
  }
  Failure open_failure() {
    const auto wheel = KeyWheel::open(path_, keys_);
    EXPECT_FALSE(wheel);
    return wheel ? Failure{} : wheel.error();
  }
  [[nodiscard]] Bytes content() const { return read_file(path_, 1 << 20).value(); }
  void put(ByteView bytes) const { ASSERT_TRUE(replace_file(path_, bytes, 0600)); }
  static std::string key_at(const KeyWheel& wheel, Instant at) {
    const auto key = wheel.key_for(Deadline(at));
    return key ? std::string(as_text(key->view())) : key.error().message();
  }
  static void with_new_sum(MutableByteView slot) {
    std::ranges::copy(sha256(slot.first(slot.size() - kSumBytes)).view(), slot.last(kSumBytes).begin());
  }

  const VolumeKeys keys_{random_id<VolumeId>(), random_key(), random_key()};
  ephfs::testing::TempDir dir_;
  const std::filesystem::path path_ = dir_ / "wheel";
};

TEST_F(KeyWheelTest, RemembersWhatItHasForgotten) {
  std::string later;
  std::string permanent;
  {
    const auto wheel = open();
    later = key_at(*wheel, kLater);
    permanent = std::string(as_text(wheel->key_for(Deadline::never())->view()));
    ASSERT_TRUE(wheel->puncture(kNow));
  }
  const auto wheel = open();
  EXPECT_EQ(key_at(*wheel, kLater), later);
  EXPECT_EQ(as_text(wheel->key_for(Deadline::never())->view()), permanent);
  EXPECT_EQ(wheel->key_for(Deadline(Instant{kNow.ms - 1})).error().code, Error::stale);
  EXPECT_EQ(wheel->punctured(), (PunctureRecord{kNow, kNow}));
}

TEST_F(KeyWheelTest, IsForItsOwnerAlone) {
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
  EXPECT_EQ(status.st_size, static_cast<off_t>(KeyWheel::kFileBytes));
  ASSERT_EQ(::chmod(path_.c_str(), 0640), 0);
  const auto failure = open_failure();
  EXPECT_EQ(failure.code, Error::access_denied);
  EXPECT_THAT(failure.detail, HasSubstr(path_.string()));
}

TEST_F(KeyWheelTest, IsNeverMadeTwice) {
  const Bytes before = content();
  EXPECT_EQ(KeyWheel::create(path_, keys_).error().code, Error::exists);
  EXPECT_EQ(content(), before);
  std::filesystem::remove(path_);
  EXPECT_EQ(open_failure().code, Error::not_found);
}

TEST_F(KeyWheelTest, HasRandomSeedsUnderTheSameMaster) {
  const std::string one = key_at(*open(), kLater);
  std::filesystem::remove(path_);
  ASSERT_TRUE(KeyWheel::create(path_, keys_));
  EXPECT_NE(key_at(*open(), kLater), one);
}

TEST_F(KeyWheelTest, WritesInPlace) {
  struct stat before {};
  ASSERT_EQ(::stat(path_.c_str(), &before), 0);
  ASSERT_TRUE(open()->puncture(kNow));
  struct stat after {};
  ASSERT_EQ(::stat(path_.c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
  EXPECT_EQ(before.st_size, after.st_size);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_.path()), {}), 1);
}

TEST_F(KeyWheelTest, ASavedCopyIsTheOnlyWayBack) {
  // What docs/formats.md says that the wheel cannot undo.
  const Bytes saved = content();
  const std::string key = key_at(*open(), kNow);
  ASSERT_TRUE(open()->puncture(kLater));
  put(saved);
  EXPECT_EQ(key_at(*open(), kNow), key);
}

TEST_F(KeyWheelTest, IsReadAsTheDocumentSays) {
  ASSERT_TRUE(open()->puncture({kNow.ms + 60'001}));
  const Bytes file = content();
  ASSERT_EQ(file.size(), 8192U);
  EXPECT_TRUE(std::equal(file.begin(), file.begin() + 4096, file.begin() + 4096));
  const ByteView slot = ByteView(file).first(4096);
  EXPECT_EQ(as_text(slot.first(8)), "EPHFSWHL");
  EXPECT_EQ(load_le<std::uint16_t>(slot.subspan(8)), 1U);
  EXPECT_EQ(load_le<std::uint64_t>(slot.subspan(10)), 2U);
  EXPECT_TRUE(std::ranges::equal(slot.subspan(18, 16), keys_.volume.view()));
  EXPECT_TRUE(std::ranges::equal(slot.last(32), sha256(slot.first(4064)).view()));
  const Key sealing = derive_key(keys_.master, "keywheel", keys_.volume.view());
  Bytes plain(32 + 8 + 8 + 32 * 32);
  ASSERT_TRUE(open_small(sealing, slot.first(34), slot.subspan(34, plain.size() + 40), plain));
  const ByteView fields(plain);
  const std::uint64_t first = static_cast<std::uint64_t>(kNow.ms) / 60'000 + 1;
  EXPECT_EQ(load_le<std::uint64_t>(fields.subspan(32)), first);
  EXPECT_EQ(load_le<std::int64_t>(fields.subspan(40)), kNow.ms + 60'001);
  // The first seed covers the first minute; this one alone, as its number is odd.
  ASSERT_EQ(first % 2, 1U);
  const Key seed = Key::copy_of(fields.subspan(48, 32));
  EXPECT_EQ(key_at(*open(), {kNow.ms + 60'000}), as_text(derive_key(seed, "epochkey", {}).view()));
  EXPECT_TRUE(std::ranges::equal(fields.first(32), open()->key_for(Deadline::never())->view()));
}

TEST_F(KeyWheelTest, OneDamagedCopyIsMadeAgainFromTheOther) {
  ASSERT_TRUE(open()->puncture(kNow));
  const Bytes whole = content();
  const std::string key = key_at(*open(), kLater);
  for (std::size_t at = 0; at < whole.size(); at += at % 4096 < 1200 ? 1 : 97) {
    Bytes file = whole;
    file[at] ^= std::byte{0x40};
    put(file);
    ASSERT_EQ(key_at(*open(), kLater), key) << at;
    ASSERT_EQ(content(), whole) << at;
  }
}

TEST_F(KeyWheelTest, TwoDamagedCopiesAreDamage) {
  const Bytes whole = content();
  ephfs::testing::Random random;
  EPHFS_TRACE_SEED(random);
  for (int round = 0; round < 300; ++round) {
    Bytes file = whole;
    file[random.below(4096)] ^= std::byte{1};
    file[4096 + random.below(4096)] ^= std::byte{1};
    put(file);
    const auto failure = open_failure();
    ASSERT_EQ(failure.code, Error::damaged);
    ASSERT_THAT(failure.detail, HasSubstr(path_.string()));
  }
}

TEST_F(KeyWheelTest, ACutFileIsDamagedOrMadeWhole) {
  ASSERT_TRUE(open()->puncture(kNow));
  const Bytes whole = content();
  const std::string key = key_at(*open(), kLater);
  for (std::size_t size = 0; size < whole.size(); size += 61) {
    put(ByteView(whole).first(size));
    if (size < 4096) {
      ASSERT_EQ(open_failure().code, Error::damaged) << size;
    } else {
      ASSERT_EQ(key_at(*open(), kLater), key) << size;
      ASSERT_EQ(content(), whole);
    }
  }
  Bytes longer = whole;
  longer.push_back({});
  put(longer);
  EXPECT_EQ(open_failure().code, Error::damaged);
}

TEST_F(KeyWheelTest, ChangedFieldsWithTheirSumPutRightAreDamage) {
  Bytes file = content();
  for (const std::size_t at : {std::size_t{10}, std::size_t{18}, std::size_t{34}, std::size_t{60}, std::size_t{1100}}) {
    Bytes changed = file;
    for (const std::size_t slot : {std::size_t{0}, std::size_t{4096}}) {
      changed[slot + at] ^= std::byte{1};
      with_new_sum(MutableByteView(changed).subspan(slot, 4096));
    }
    put(changed);
    EXPECT_EQ(open_failure().code, Error::damaged) << at;
  }
}

TEST_F(KeyWheelTest, AnotherVersionIsRefusedAndLeftAlone) {
  Bytes file = content();
  file[8] = std::byte{2};
  with_new_sum(MutableByteView(file).first(4096));
  put(file);
  EXPECT_EQ(open_failure().code, Error::version);
  EXPECT_EQ(content(), file);
}

TEST_F(KeyWheelTest, TellsNothingWithoutTheMaster) {
  const VolumeKeys other_master{keys_.volume, random_key(), random_key()};
  EXPECT_EQ(KeyWheel::open(path_, other_master).error().code, Error::damaged);
  const VolumeKeys other_volume{random_id<VolumeId>(), keys_.master.copy(), random_key()};
  EXPECT_EQ(KeyWheel::open(path_, other_volume).error().code, Error::damaged);
}

}  // namespace
}  // namespace ephfs::core
