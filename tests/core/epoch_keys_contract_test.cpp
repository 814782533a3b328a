// SPDX-License-Identifier: Apache-2.0
// What every EpochKeys does: the key wheel, and the one that other tests stand on.
#include <functional>

#include <gtest/gtest.h>

#include "core/key_wheel.hpp"
#include "tests/support/fake_epoch_keys.hpp"
#include "tests/support/temp_dir.hpp"

namespace ephfs::core {
namespace {

struct EpochKeysFactory {
  std::string name;
  std::function<std::unique_ptr<EpochKeys>(const std::filesystem::path&)> make;
};
void PrintTo(const EpochKeysFactory& factory, std::ostream* out) {
  *out << factory.name;
}

VolumeKeys some_keys() {
  return {random_id<VolumeId>(), random_key(), random_key()};
}

class EpochKeysContract : public ::testing::TestWithParam<EpochKeysFactory> {
 protected:
  std::string key_at(std::int64_t ms) {
    const auto key = keys_->key_for(Deadline::from_raw(ms));
    return key ? std::string(as_text(key->view())) : key.error().message();
  }
  Error error_at(std::int64_t ms) {
    const auto key = keys_->key_for(Deadline::from_raw(ms));
    EXPECT_FALSE(key) << ms;
    return key ? Error::io : key.error().code;
  }

  static constexpr std::int64_t kNow = 1'767'225'600'000;  // a whole minute
  ephfs::testing::TempDir dir_;
  std::unique_ptr<EpochKeys> keys_ = GetParam().make(dir_ / "wheel");
};

TEST_P(EpochKeysContract, HasOneKeyAMinute) {
  EXPECT_EQ(key_at(120'000), key_at(179'999));
  EXPECT_NE(key_at(120'000), key_at(119'999));
  EXPECT_NE(key_at(179'999), key_at(180'000));
  EXPECT_NE(key_at(kInstantMax.ms), key_at(Deadline::never().raw()));
  EXPECT_EQ(key_at(Deadline::never().raw()), key_at(Deadline::never().raw()));
}

TEST_P(EpochKeysContract, KeepsAKeyUntilItsMinuteHasEnded) {
  const std::string key = key_at(kNow + 1);
  ASSERT_TRUE(keys_->puncture({kNow + 59'999}));
  EXPECT_EQ(key_at(kNow), key);
  EXPECT_EQ(key_at(kNow + 59'999), key);
  EXPECT_EQ(error_at(kNow - 1), Error::stale);
  ASSERT_TRUE(keys_->puncture({kNow + 60'000}));
  EXPECT_EQ(error_at(kNow), Error::stale);
  EXPECT_EQ(error_at(kNow + 59'999), Error::stale);
  EXPECT_EQ(key_at(kNow + 60'000), key_at(kNow + 119'999));
}

TEST_P(EpochKeysContract, GivesTheSameKeysAfterAPuncture) {
  const std::string later = key_at(kNow + 86'400'000);
  const std::string permanent = key_at(Deadline::never().raw());
  const std::string last = key_at(kInstantMax.ms);
  for (std::int64_t hours = -300; hours <= 0; ++hours) ASSERT_TRUE(keys_->puncture({kNow + hours * 3'777'777}));
  EXPECT_EQ(key_at(kNow + 86'400'000), later);
  EXPECT_EQ(key_at(Deadline::never().raw()), permanent);
  EXPECT_EQ(key_at(kInstantMax.ms), last);
}

TEST_P(EpochKeysContract, TimeThatComesBackChangesNothing) {
  ASSERT_TRUE(keys_->puncture({kNow}));
  const auto record = keys_->punctured();
  EXPECT_EQ(record, (PunctureRecord{{kNow}, {kNow}}));
  ASSERT_TRUE(keys_->puncture({kNow - 86'400'000}));
  ASSERT_TRUE(keys_->puncture({-5}));
  EXPECT_EQ(keys_->punctured(), record);
  EXPECT_EQ(error_at(kNow - 1), Error::stale);
}

TEST_P(EpochKeysContract, SaysWhatIsDestroyedAndSinceWhen) {
  EXPECT_EQ(keys_->punctured(), PunctureRecord{});
  ASSERT_TRUE(keys_->puncture({kNow + 61'234}));
  EXPECT_EQ(keys_->punctured(), (PunctureRecord{{kNow + 60'000}, {kNow + 61'234}}));
  ASSERT_TRUE(keys_->puncture({kNow + 70'000}));
  EXPECT_EQ(keys_->punctured(), (PunctureRecord{{kNow + 60'000}, {kNow + 61'234}}));
}

TEST_P(EpochKeysContract, HasNoKeysOutsideItsTime) {
  EXPECT_EQ(error_at(-1), Error::stale);
  EXPECT_EQ(error_at(Deadline::never().raw() - 1), Error::invalid_argument);
  EXPECT_EQ(error_at((std::int64_t{1} << 32U) * 60'000), Error::invalid_argument);
  EXPECT_TRUE(keys_->key_for(Deadline::from_raw((std::int64_t{1} << 32U) * 60'000 - 1)));
  ASSERT_TRUE(keys_->puncture(kInstantMax));
  EXPECT_TRUE(keys_->key_for(Deadline::never()));
}

INSTANTIATE_TEST_SUITE_P(
    Implementations, EpochKeysContract,
    ::testing::Values(EpochKeysFactory{"KeyWheel",
                                       [](const std::filesystem::path& path) -> std::unique_ptr<EpochKeys> {
                                         const VolumeKeys keys = some_keys();
                                         EXPECT_TRUE(KeyWheel::create(path, keys));
                                         return KeyWheel::open(path, keys).value();
                                       }},
                      EpochKeysFactory{"FakeEpochKeys",
                                       [](const std::filesystem::path&) -> std::unique_ptr<EpochKeys> {
                                         return std::make_unique<ephfs::testing::FakeEpochKeys>(random_key());
                                       }}),
    [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace ephfs::core
