// SPDX-License-Identifier: Apache-2.0
// A process that works on a store is killed at seeded moments; what it had been told was done must be there afterwards,
// and what was under way must be there as a whole or not at all.
#include <map>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/node/node_test_support.hpp"

namespace ephfs::node::testing {
namespace {

constexpr std::size_t kShards = 6;

enum class Act : std::uint8_t { put, renew, remove };

/// What the worker says: that it begins an act on a shard, or that the act was done.
struct Word {
  Act act = Act::put;
  std::uint8_t shard = 0;
  bool done = true;
  std::uint64_t serial = 0;
};

class KilledStore : public ::testing::Test {
 protected:
  KilledStore() {
    for (std::size_t i = 0; i < kShards; ++i) shards_.push_back(make_shard(random_, 50'000 + 40'000 * i));
  }

  HeldLease lease(std::size_t shard, std::uint64_t serial) const {
    return make_held(make_lease(shards_[shard], {}, owner_, kStart + std::chrono::seconds{serial}, serial), owner_);
  }

  /// Works until it is killed. Runs in the child.
  [[noreturn]] void work(int out, Random random, std::uint64_t serial) const {
    auto opened = open_file_shard_store(directory_.path(), kSampleCapacity, kStart);
    if (!opened) ::_exit(1);
    for (;;) {
      const std::size_t i = random.below(kShards);
      Word word{Act::put, static_cast<std::uint8_t>(i), false, ++serial};
      const bool held = (*opened)->find(shards_[i].id).has_value();
      if (held) word.act = random.chance(2) ? Act::renew : Act::remove;
      if (::write(out, &word, sizeof word) != sizeof word) ::_exit(2);
      core::Result<> result;
      if (word.act == Act::put) result = (*opened)->put(lease(i, serial), shards_[i].source);
      if (word.act == Act::renew) result = (*opened)->set_lease(lease(i, serial));
      if (word.act == Act::remove) result = (*opened)->remove(shards_[i].id, RemovalSync::synced);
      if (!result) ::_exit(3);
      word.done = true;
      if (::write(out, &word, sizeof word) != sizeof word) ::_exit(2);
    }
  }

  /// Takes in what the worker said: the serial each shard is held under (0: not held), and what it said last.
  void listen(int in, std::size_t words) {
    Word word;
    for (std::size_t i = 0; i < words && ::read(in, &word, sizeof word) == sizeof word; ++i) {
      if (word.done) held_[word.shard] = word.act == Act::remove ? 0 : word.serial;
      last_ = word;
    }
  }

  void check() {
    auto store = open_file_shard_store(directory_.path(), kSampleCapacity, kStart).value();
    for (std::size_t i = 0; i < kShards; ++i) {
      const auto found = store->find(shards_[i].id);
      const std::uint64_t serial = found ? found->lease.serial : 0;
      if (!last_.done && last_.shard == i) {
        const std::uint64_t after = last_.act == Act::remove ? 0 : last_.serial;
        EXPECT_TRUE(serial == held_[i] || serial == after) << serial << " " << held_[i] << " " << after;
        held_[i] = serial;
      } else {
        EXPECT_EQ(serial, held_[i]);
      }
      if (!found) continue;
      const auto got =
          store->get({.shard = shards_[i].id, .offset = 0, .length = shards_[i].bytes(), .with_proof = false});
      ASSERT_TRUE(got) << got.error();
      EXPECT_TRUE(std::ranges::equal(got->bytes.view(), shards_[i].source.bytes.view()));
    }
    EXPECT_EQ(shard_files(directory_.path()).size(), 2 * store->usage().shards + store->traces(2 * kShards).size());
  }

  const TempDir directory_;
  Random random_;
  core::Signer owner_ = make_signer(random_);
  std::vector<SampleShard> shards_;
  std::map<std::size_t, std::uint64_t> held_;
  Word last_;
};

TEST_F(KilledStore, HoldsWhatItWasToldIsDone) {
  EPHFS_TRACE_SEED(random_);
  constexpr int kKills = 30;
  for (int kill_number = 0; kill_number < kKills; ++kill_number) {
    SCOPED_TRACE(kill_number);
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const Random child_random(random_());
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::close(ends[0]);
      work(ends[1], child_random, last_.serial);
    }
    ::close(ends[1]);
    listen(ends[0], random_.between(1, 12));
    ::usleep(static_cast<useconds_t>(random_.below(2000)));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the worker gave up with " << WEXITSTATUS(status);
    listen(ends[0], std::numeric_limits<std::size_t>::max());
    ::close(ends[0]);
    check();
  }
}

}  // namespace
}  // namespace ephfs::node::testing
