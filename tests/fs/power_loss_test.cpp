// SPDX-License-Identifier: Apache-2.0
// What fsync promised is there after a loss of power, whatever else is lost.
#include <fcntl.h>

#include "tests/fs/engine_fixture.hpp"
#include "tests/meta/journal_head.hpp"
#include "tests/support/lost_power.hpp"

namespace ephfs::fs::testing {
namespace {

using ephfs::testing::LostPower;

struct ModelFile {
  std::string content;
  bool is_promised = false;  // synced since it was changed last
};

class PowerLossTest : public ::testing::Test {
 protected:
  void begin(Durability durability, bool caches = true) {
    volume.options.durability = durability;
    if (!caches) volume.options.cache_bytes = 0;
    volume.open();
    power = std::make_unique<LostPower>(volume.options.directory);
  }

  std::shared_ptr<OpenFile> open(const std::string& name) {
    if (!model.contains(name)) {
      auto created = volume.engine().create(core::kRootInode, name, 0644, O_RDWR, {});
      EXPECT_TRUE(created) << created.error();
      model[name];
      return created->second;
    }
    const auto found = volume.engine().lookup(core::kRootInode, name);
    EXPECT_TRUE(found) << name << ": " << found.error();
    return volume.engine().open_file(found->number, O_RDWR).value();
  }
  void write(const std::string& name, std::uint64_t offset, std::size_t size) {
    const auto file = open(name);
    auto& expected = model[name];
    const core::Bytes bytes = random.bytes(size);
    if (expected.content.size() < offset + size) expected.content.resize(offset + size);
    std::ranges::copy(core::as_text(bytes), expected.content.begin() + static_cast<std::ptrdiff_t>(offset));
    expected.is_promised = false;
    const auto written = volume.run(volume.engine().write(file, offset, core::to_bytes(bytes), {}));
    EXPECT_TRUE(written) << written.error();
    volume.engine().release(file);
  }
  void flush(const std::string& name) {
    const auto file = open(name);
    EXPECT_TRUE(volume.run(volume.engine().flush(file)));
    volume.engine().release(file);
  }
  void fsync(const std::string& name) {
    const auto file = open(name);
    auto synced = volume.engine().try_fsync(*file);
    if (!synced && synced.error().code == core::Error::would_block) synced = volume.run(volume.engine().fsync(file));
    EXPECT_TRUE(synced) << synced.error();
    model[name].is_promised = true;
    volume.engine().release(file);
  }
  void lose_power() {
    const auto image = volume.directory / ("image" + std::to_string(++images));
    power->leave(image, random);
    power.reset();
    volume.close();
    meta::testing::as_of_another_boot(image / "journal");
    volume.options.directory = image;
    ASSERT_NO_FATAL_FAILURE(volume.open());
    power = std::make_unique<LostPower>(image);
  }
  /// The content of those that were promised; the others are taken as they are, or removed.
  void check() {
    for (auto at = model.begin(); at != model.end();) {
      const auto found = volume.engine().lookup(core::kRootInode, at->first);
      if (at->second.is_promised) {
        ASSERT_TRUE(found) << at->first << ": " << found.error();
        const std::string content = volume.read_file(found->number);
        ASSERT_EQ(content.size(), at->second.content.size()) << at->first << ": " << content.substr(0, 100);
        ASSERT_TRUE(content == at->second.content) << at->first;
        ++at;
        continue;
      }
      if (found) {
        ASSERT_TRUE(volume.engine().unlink(core::kRootInode, at->first));
      }
      at = model.erase(at);
    }
    // Removed, and the removal was lost.
    for (const std::string& name : volume.list(core::kRootInode).value()) {
      if (name == "." || name == ".." || model.contains(name)) continue;
      ASSERT_TRUE(volume.engine().unlink(core::kRootInode, name));
    }
  }

  Random random;
  TestVolume volume{3};
  std::unique_ptr<LostPower> power;
  std::map<std::string, ModelFile> model;
  int images = 0;
};

TEST_F(PowerLossTest, ASmallWriteIsSafeWithTheCatalogAlone) {
  EPHFS_TRACE_SEED(random);
  begin(Durability::local);
  for (int i = 0; i < 20; ++i) {
    write("file", random.below(100'000), random.between(1, 20'000));
    fsync("file");
  }
  // Whatever is in the staged files, nobody has synced them.
  std::filesystem::remove_all(volume.options.directory / "staging");
  std::filesystem::create_directory(volume.options.directory / "staging");
  ASSERT_NO_FATAL_FAILURE(lose_power());
  check();
  ASSERT_EQ(model.size(), 1U);
}

TEST_F(PowerLossTest, WhatIsWrittenAndNotSyncedTakesNothingWithIt) {
  EPHFS_TRACE_SEED(random);
  begin(Durability::local);
  for (int round = 0; round < 20; ++round) {
    write("promised", 0, 10'000);
    fsync("promised");
    for (const auto* const name : {"one", "other", "third"}) {
      write(name, 0, random.between(1, 50'000));
      flush(name);
    }
    ASSERT_NO_FATAL_FAILURE(lose_power());
    ASSERT_NO_FATAL_FAILURE(check());
    ASSERT_TRUE(model.contains("promised"));
  }
}

class PowerLossAnywhere : public PowerLossTest, public ::testing::WithParamInterface<std::pair<Durability, bool>> {
 protected:
  void step() {
    const std::string name = "file" + std::to_string(random.below(6));
    switch (random.below(13)) {
      case 0:
        return write(name, random.below(2'000'000), random.between(1, 400'000));
      case 1:
        return flush(name);
      case 2:
        return truncate(name);
      case 3:
        return volume.clock.run_for(Milliseconds(random.between(1, 7000)));
      case 4:
        EXPECT_TRUE(volume.engine().sync_directory(core::kRootInode));
        return;
      case 5:
      case 6:
      case 7:
        return write(name, random.below(100'000), random.between(1, 40'000));
      case 8:
        if (model.erase(name) > 0) {
          EXPECT_TRUE(volume.engine().unlink(core::kRootInode, name));
        }
        return;
      default:
        write(name, random.below(100'000), random.between(1, 8'000));
        fsync(name);
    }
  }
  void truncate(const std::string& name) {
    const auto file = open(name);
    auto& expected = model[name];
    expected.content.resize(random.below(expected.content.size() + 1));
    expected.is_promised = false;
    EXPECT_TRUE(volume.engine().set_attributes(file->inode->number, with_size(expected.content.size()), true));
    volume.engine().release(file);
  }
};

TEST_P(PowerLossAnywhere, LeavesWhatWasPromised) {
  EPHFS_TRACE_SEED(random);
  begin(GetParam().first, GetParam().second);
  for (int round = 0; round < 15; ++round) {
    volume.start();
    for (std::uint64_t steps = random.between(1, 60); steps > 0; --steps) step();
    ASSERT_NO_FATAL_FAILURE(lose_power());
    ASSERT_NO_FATAL_FAILURE(check());
  }
}

INSTANTIATE_TEST_SUITE_P(Volumes, PowerLossAnywhere,
                         ::testing::Values(std::pair(Durability::local, true), std::pair(Durability::local, false),
                                           std::pair(Durability::quorum, true), std::pair(Durability::quorum, false)),
                         [](const auto& chosen) {
                           return std::string(chosen.param.first == Durability::local ? "Local" : "Quorum") +
                                  (chosen.param.second ? "" : "Uncached");
                         });

}  // namespace
}  // namespace ephfs::fs::testing
