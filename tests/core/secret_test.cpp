// SPDX-License-Identifier: Apache-2.0
#include "core/secret.hpp"

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/sanitized.hpp"

namespace ephfs::core {
namespace {

using ephfs::testing::kSanitized;

// The kernel's flags of the mapping that `address` is in.
std::set<std::string> mapping_flags(const void* address) {
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t first = 0;
    std::uintptr_t last = 0;
    char dash = 0;
    if (std::istringstream(line) >> std::hex >> first >> dash >> last && dash == '-') {
      inside = first <= wanted && wanted < last;
    }
    if (inside && line.starts_with("VmFlags:")) {
      std::istringstream words(line.substr(line.find(':') + 1));
      return {std::istream_iterator<std::string>(words), {}};
    }
  }
  return {};
}

struct ChildEnd {
  int status = -1;
  std::string errors;  // what it wrote to standard error
};

// Runs `body` in a child of its own and waits for it; what `body` returns is the exit status.
template <class Body>
ChildEnd run_in_child(Body body) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::_exit(body());
  }
  ::close(ends[1]);
  ChildEnd end;
  char buffer[256];
  for (ssize_t count = 0; (count = ::read(ends[0], buffer, sizeof buffer)) > 0;) {
    end.errors.append(buffer, static_cast<std::size_t>(count));
  }
  ::close(ends[0]);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  if (WIFEXITED(status)) end.status = WEXITSTATUS(status);
  return end;
}

// Leaves root's right to lock as much as it likes.
bool become_nobody() {
  return ::geteuid() != 0 || ::setresuid(65534, 65534, 65534) == 0;
}

std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

bool all_are(ByteView bytes, std::byte value) {
  return std::all_of(bytes.begin(), bytes.end(), [value](std::byte byte) { return byte == value; });
}

TEST(Secret, HoldsMovesAndCopiesItsBytes) {
  Key empty;
  EXPECT_TRUE(empty.empty());
  const Key first = random_key();
  EXPECT_FALSE(first.empty());
  EXPECT_FALSE(all_are(first.view(), std::byte{0}));

  Key second = first.copy();
  EXPECT_NE(second.view().data(), first.view().data());
  EXPECT_TRUE(equal_in_constant_time(first.view(), second.view()));
  second.mutable_view()[31] ^= std::byte{1};
  EXPECT_FALSE(equal_in_constant_time(first.view(), second.view()));
  EXPECT_FALSE(equal_in_constant_time(first.view(), second.view().first(31)));

  const std::byte* const place = second.view().data();
  Key third = std::move(second);
  EXPECT_EQ(third.view().data(), place);
  EXPECT_TRUE(second.empty());  // NOLINT(bugprone-use-after-move): what a moved-from Secret is, is promised
  EXPECT_TRUE(all_are(Key::zeroed().view(), std::byte{0}));
}

TEST(Secret, IsWipedWhenFreed) {
  std::vector<const std::byte*> places;
  {
    std::vector<Secret<64>> secrets;
    for (int i = 0; i < 10; ++i) {
      secrets.push_back(Secret<64>::zeroed());
      std::fill_n(secrets.back().mutable_view().begin(), 64, std::byte{0x5a});
      places.push_back(secrets.back().view().data());
    }
  }
  // The arena keeps its memory, so that what is left there can be looked at.
  for (const std::byte* place : places) EXPECT_TRUE(all_are({place, 64}, std::byte{0}));
}

TEST(Secret, IsWipedWhenAssignedOverOrReset) {
  Key key = random_key();
  const std::byte* const first = key.view().data();
  Key other = random_key();
  const std::byte* const second = other.view().data();
  key = std::move(other);
  EXPECT_TRUE(all_are({first, 32}, std::byte{0}));
  key.reset();
  EXPECT_TRUE(all_are({second, 32}, std::byte{0}));
  EXPECT_TRUE(key.empty());
}

TEST(Secret, ManyOfEverySizeDoNotOverlap) {
  std::vector<Secret<32>> small;
  std::vector<Secret<33>> odd;
  std::vector<Secret<300>> large;
  for (unsigned i = 0; i < 1500; ++i) {
    const auto mark = static_cast<std::byte>(i);
    small.push_back(Secret<32>::zeroed());
    std::fill_n(small.back().mutable_view().begin(), 32, mark);
    odd.push_back(Secret<33>::zeroed());
    std::fill_n(odd.back().mutable_view().begin(), 33, mark);
    if (i % 100 != 0) continue;
    large.push_back(Secret<300>::zeroed());
    std::fill_n(large.back().mutable_view().begin(), 300, mark);
  }
  for (unsigned i = 0; i < 1500; ++i) {
    ASSERT_TRUE(all_are(small[i].view(), static_cast<std::byte>(i))) << i;
    ASSERT_TRUE(all_are(odd[i].view(), static_cast<std::byte>(i))) << i;
  }
  for (unsigned i = 0; i < large.size(); ++i) ASSERT_TRUE(all_are(large[i].view(), static_cast<std::byte>(i * 100)));
}

TEST(Secret, ThreadsGetSlotsOfTheirOwn) {
  std::vector<std::thread> threads;
  std::atomic<int> mixed{0};
  for (int t = 1; t <= 4; ++t) {
    threads.emplace_back([t, &mixed] {
      const auto mark = static_cast<std::byte>(t);
      std::vector<Key> held(16);
      for (std::size_t i = 0; i < 4000; ++i) {
        Key& key = held[i % held.size()];
        if (!key.empty() && !all_are(key.view(), mark)) ++mixed;
        key = Key::zeroed();
        std::fill_n(key.mutable_view().begin(), 32, mark);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(mixed, 0);
}

TEST(SecretDeathTest, ASecondFreeAborts) {
  std::byte* const slot = detail::allocate_secret(32);
  detail::free_secret(slot, 32);
  EXPECT_DEATH(detail::free_secret(slot, 32), "freed once");
  EXPECT_DEATH(detail::free_secret(slot + 1, 32), "slot of its size");
  EXPECT_DEATH(detail::free_secret(slot, 64), "slot of its size");
  std::byte elsewhere{};
  EXPECT_DEATH(detail::free_secret(&elsewhere, 32), "a freed secret is");
  std::byte* const large = detail::allocate_secret(1000);
  detail::free_secret(large, 1000);
  EXPECT_DEATH(detail::free_secret(large, 1000), "freed once");
}

TEST(Secret, MemoryIsLockedAndLeftOutOfDumps) {
  const Key key = random_key();
  const auto text = SecretText::copy_of(as_bytes("correct horse"));
  for (const std::byte* place : {key.view().data(), text.view().data()}) {
    const auto flags = mapping_flags(place);
    EXPECT_TRUE(flags.contains("dd"));
    EXPECT_TRUE(kSanitized || flags.contains("lo"));  // sanitizers take mlock away
  }
}

TEST(Secret, AForkedChildLocksAgain) {
  if (kSanitized) GTEST_SKIP() << "sanitizers take mlock away";
  const Key key = random_key();
  const auto end = run_in_child([&key] {
    const auto flags = mapping_flags(key.view().data());
    const Key more = random_key();  // and the arena still works
    return flags.contains("lo") && flags.contains("dd") && !more.empty() ? 0 : 1;
  });
  EXPECT_EQ(end.status, 0);
  EXPECT_EQ(end.errors, "");
}

// Enough to need new slabs whatever was freed before.
bool fill_new_slabs() {
  std::vector<Secret<200>> secrets;
  for (int i = 0; i < 400; ++i) secrets.push_back(Secret<200>::zeroed());
  std::fill_n(secrets.back().mutable_view().begin(), 200, std::byte{7});
  return all_are(secrets.back().view(), std::byte{7});
}

TEST(Secret, WarnsOnceAndWorksWhereNothingCanBeLocked) {
  if (kSanitized) GTEST_SKIP() << "sanitizers take mlock away";
  const auto end = run_in_child([] {
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_MEMLOCK, &none) != 0 || !become_nobody()) return 2;
    const auto text = SecretText::copy_of(as_bytes("correct horse"));
    return fill_new_slabs() && as_text(text.view()) == "correct horse" ? 0 : 1;
  });
  EXPECT_EQ(end.status, 0);
  EXPECT_EQ(count_of(end.errors, "cannot be locked"), 1U) << end.errors;
  EXPECT_EQ(count_of(end.errors, "\n"), 1U) << end.errors;
}

TEST(Secret, RaisesTheSoftLimitToTheHardOne) {
  rlimit now{};
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &now), 0);
  constexpr rlim_t kEnough = 4U << 20U;
  if (kSanitized || now.rlim_max < kEnough) GTEST_SKIP() << "needs a hard limit of 4 MiB and no sanitizer";
  const auto end = run_in_child([] {
    const rlimit limit{0, kEnough};
    if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || !become_nobody()) return 2;
    return fill_new_slabs() ? 0 : 1;
  });
  EXPECT_EQ(end.status, 0);
  EXPECT_EQ(end.errors, "");
}

TEST(Secret, ProtectingTheProcessTakesCoreDumpsAway) {
  const auto end = run_in_child([] {
    if (::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0 || !protect_process_memory()) return 2;
    rlimit core{1, 1};
    if (::getrlimit(RLIMIT_CORE, &core) != 0) return 3;
    if (::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0 || core.rlim_cur != 0 || core.rlim_max != 0) return 1;
    // Nor would a debugger's dump hold any memory but of files.
    std::string filter;
    std::ifstream("/proc/self/coredump_filter") >> filter;
    if (std::stoul(filter, nullptr, 16) != 0) return 4;
    // What it starts is as silent as itself.
    return run_in_child([] { return ::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0); }).status;
  });
  EXPECT_EQ(end.status, 0);
}

TEST(Dumps, LeaveOutThePagesThatWereNamed) {
  const auto memory = std::make_unique<std::byte[]>(1 << 20);
  EXPECT_FALSE(mapping_flags(memory.get() + 500'000).contains("dd"));
  keep_out_of_dumps({memory.get(), 1 << 20});
  for (const std::size_t at : {std::size_t{0}, std::size_t{500'000}, std::size_t{(1 << 20) - 1}}) {
    EXPECT_TRUE(mapping_flags(memory.get() + at).contains("dd")) << at;
  }
  keep_out_of_dumps({});
}

TEST(Wipe, OverwritesWithZeros) {
  Bytes bytes(100, std::byte{1});
  wipe(MutableByteView(bytes).first(60));
  EXPECT_EQ(std::count(bytes.begin(), bytes.end(), std::byte{0}), 60);
  wipe({});
}

TEST(SecretText, HoldsTextOfAnyLength) {
  EXPECT_TRUE(SecretText().view().empty());
  EXPECT_TRUE(SecretText::copy_of({}).view().empty());
  const std::string words(5000, 'w');
  auto text = SecretText::copy_of(as_bytes(words));
  EXPECT_EQ(as_text(text.view()), words);
  SecretText moved = std::move(text);
  EXPECT_TRUE(text.view().empty());  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(as_text(moved.view()), words);
  moved = SecretText::copy_of(as_bytes("short"));
  EXPECT_EQ(as_text(moved.view()), "short");
}

}  // namespace
}  // namespace ephfs::core
