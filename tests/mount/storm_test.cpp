// SPDX-License-Identifier: Apache-2.0
// Ten thousand files that die at random, or all at once, while readers hammer them by path, descriptor, map
// and listing. No byte is served at or after a deadline, no file refused more than 20 ms before it.
// RandomDeadlinesAndTenCrashes takes more than a minute, because its deadlines do.
//
// As in death_watch.hpp time is taken around every access, so load cannot make a verdict wrong. A refusal
// counts only when the same daemon was serving before and after it.
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <random>
#include <thread>

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/mount/death_watch.hpp"
#include "tests/mount/mounted_volume.hpp"

namespace ephfs::mount_tests {
namespace {

constexpr std::size_t kFiles = 10'000;
constexpr std::size_t kPerDirectory = 100;
constexpr std::size_t kFileBytes = 5000;
constexpr WallMs kEarlyMax = 20;
/// What is left to look at living files, at least.
constexpr WallMs kSpare = 5000;
/// A file that is dead for longer is not asked for again.
constexpr WallMs kAskedAfter = 500;

struct File {
  std::string path;
  WallMs deadline = 0;
};

/// How many answers came late and refusals early, and how close it was.
struct Tally {
  std::atomic<std::size_t> answers{0}, refusals{0}, late{0}, early{0}, wrong{0};
  std::atomic<WallMs> latest{-1'000'000};  // the last answer's beginning, after the deadline
  std::mutex mutex;
  std::vector<std::string> mistakes;  // what the first of them were
};

class StormTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(volume_.mounted()) << volume_.error();
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < kFiles + 1000) GTEST_SKIP() << "only " << limit.rlim_max << " descriptors are allowed";
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }

  /// Makes them all, then gives each the deadline that `deadline_of` says, counted from the instant it returns: later
  /// than it takes to set them all, however slow the machine is.
  template <class DeadlineOf>
  WallMs make_files(DeadlineOf deadline_of) {
    const WallMs began = wall_now();
    make_files();
    const WallMs now = wall_now();
    const WallMs start = now + (now - began) + kSpare;
    for (auto& file : files_) {
      file.deadline = start + deadline_of();
      const std::string value = "@" + std::to_string(file.deadline);
      EXPECT_EQ(::setxattr(file.path.c_str(), "user.ephfs.expires", value.data(), value.size(), 0), 0) << file.path;
    }
    return start;
  }

  void make_files() {
    const std::string content(kFileBytes, 'x');
    for (std::size_t i = 0; i < kFiles; ++i) {
      const std::string directory = (volume_.root() / std::to_string(i / kPerDirectory)).string();
      if (i % kPerDirectory == 0) {
        ASSERT_EQ(::mkdir(directory.c_str(), 0755), 0);
      }
      files_.push_back({directory + "/" + std::to_string(i), 0});
      const int fd = ::open(files_.back().path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0644);
      ASSERT_GE(fd, 0);
      ASSERT_EQ(::write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size()));
      ::close(fd);
    }
  }

  /// Whether one daemon was there all the time since `epoch` was read. What a killed one leaves in the
  /// kernel's cache is beyond anybody's reach, and a refusal by nobody is none.
  [[nodiscard]] bool was_served(std::size_t epoch) const { return epoch % 2 == 0 && epoch == epoch_; }

  /// Asks for file `i` of the mount of `epoch`; `ask` gives 0, an errno or kSigbus, or -1 when it answered
  /// wrong bytes.
  template <class Ask>
  void look(const char* how, std::size_t i, std::size_t epoch, Ask ask) {
    const WallMs began = wall_now();
    const WallMs deadline = files_[i].deadline;
    if (began > deadline + kAskedAfter) return;
    const int refusal = ask();
    const WallMs ended = wall_now();
    if (!was_served(epoch)) return;
    if (refusal == -1) ++tally_.wrong;
    if (refusal <= 0) {
      ++tally_.answers;
      if (began >= deadline) {
        ++tally_.late;
        note(how, i, began - deadline);
      }
      WallMs latest = tally_.latest;
      while (began - deadline > latest && !tally_.latest.compare_exchange_weak(latest, began - deadline)) {
      }
      return;
    }
    const bool says_dead = refusal == ENOENT || refusal == ESTALE || refusal == kSigbus;
    if (!says_dead) return;
    ++tally_.refusals;
    if (ended < deadline - kEarlyMax) {
      ++tally_.early;
      note(how, i, ended - deadline);
    }
  }

  void note(const char* how, std::size_t i, WallMs after) {
    constexpr std::size_t kNotesMax = 10;
    const std::lock_guard lock(tally_.mutex);
    if (tally_.mistakes.size() >= kNotesMax) return;
    tally_.mistakes.push_back(std::string(how) + " of file " + std::to_string(i) + ", " + std::to_string(after) +
                              " ms after its deadline, epoch " + std::to_string(epoch_) + ", " +
                              std::to_string(wall_now() - epoch_began_) + " ms old");
  }

  void read_by_path();
  void read_by_descriptor();
  void read_by_map();
  void list();

  void begin_epoch() {
    ++epoch_;
    epoch_began_ = wall_now();
  }

  /// Lets all readers run, and `meanwhile` in this thread.
  template <class Meanwhile>
  void hammer(Meanwhile meanwhile) {
    std::vector<std::thread> readers;
    readers.emplace_back([this] { read_by_path(); });
    readers.emplace_back([this] { read_by_descriptor(); });
    readers.emplace_back([this] { read_by_map(); });
    readers.emplace_back([this] { list(); });
    meanwhile();
    done_ = true;
    for (auto& reader : readers) reader.join();
    std::cout << tally_.answers << " answers, the latest began " << tally_.latest << " ms after its deadline; "
              << tally_.refusals << " refusals\n";
    EXPECT_THAT(tally_.mistakes, ::testing::IsEmpty());
    EXPECT_EQ(tally_.late, 0U) << "answered at or after the deadline";
    EXPECT_EQ(tally_.early, 0U) << "refused more than 20 ms before the deadline";
    EXPECT_EQ(tally_.wrong, 0U) << "answered with wrong bytes";
    EXPECT_GT(tally_.answers, 0U);
    EXPECT_GT(tally_.refusals, 0U);
  }

  MountedVolume volume_{"ttl=1d"};
  std::vector<File> files_;
  std::atomic<std::size_t> epoch_{0};  // odd while the daemon is being killed and started
  std::atomic<WallMs> epoch_began_{0};
  std::atomic<bool> done_{false};
  Tally tally_;
};

int read_first(int fd) {
  char byte = 0;
  const ssize_t got = ::pread(fd, &byte, 1, kFileBytes - 1);
  if (got < 0) return errno;
  return got == 1 && byte == 'x' ? 0 : -1;
}

void StormTest::read_by_path() {
  while (!done_) {
    for (std::size_t i = 0; i < kFiles && !done_; ++i) {
      look("stat", i, epoch_, [&] {
        struct stat got {};
        return ::stat(files_[i].path.c_str(), &got) != 0 ? errno : 0;
      });
      look("open", i, epoch_, [&] {
        const int fd = ::open(files_[i].path.c_str(), O_RDONLY);
        if (fd < 0) return errno;
        const int refusal = read_first(fd);
        ::close(fd);
        return refusal;
      });
    }
  }
}

/// What a reader holds of each file, for as long as one daemon serves.
struct Held {
  int fd = -1;
  const volatile char* bytes = nullptr;
  std::size_t epoch = 0;
};

void StormTest::read_by_descriptor() {
  std::vector<Held> held(kFiles);
  while (!done_) {
    for (std::size_t i = 0; i < kFiles && !done_; ++i) {
      auto& one = held[i];
      const std::size_t now = epoch_;
      if (one.fd < 0 || one.epoch != now) {
        if (one.fd >= 0) ::close(one.fd);
        one = {::open(files_[i].path.c_str(), O_RDONLY), nullptr, now};
      }
      if (one.fd >= 0) look("pread", i, one.epoch, [&] { return read_first(one.fd); });
    }
  }
  for (const auto& one : held) {
    if (one.fd >= 0) ::close(one.fd);
  }
}

void StormTest::read_by_map() {
  std::vector<Held> held(kFiles);
  while (!done_) {
    for (std::size_t i = 0; i < kFiles && !done_; ++i) {
      auto& one = held[i];
      const std::size_t now = epoch_;
      if (one.bytes == nullptr || one.epoch != now) {
        if (one.bytes != nullptr) ::munmap(const_cast<char*>(one.bytes), kFileBytes);
        one = {-1, nullptr, now};
        const int fd = ::open(files_[i].path.c_str(), O_RDONLY);
        if (fd < 0) continue;
        void* made = ::mmap(nullptr, kFileBytes, PROT_READ, MAP_SHARED, fd, 0);
        ::close(fd);
        if (made == MAP_FAILED) continue;
        one.bytes = static_cast<const volatile char*>(made);
      }
      look("map", i, one.epoch, [&] {
        volatile char byte = 0;
        const int refusal = guarded([&] { byte = one.bytes[kFileBytes - 1]; });
        return refusal != 0 || byte == 'x' ? refusal : -1;
      });
    }
  }
  for (const auto& one : held) {
    if (one.bytes != nullptr) ::munmap(const_cast<char*>(one.bytes), kFileBytes);
  }
}

void StormTest::list() {
  while (!done_) {
    for (std::size_t first = 0; first < kFiles && !done_; first += kPerDirectory) {
      const std::string directory = files_[first].path.substr(0, files_[first].path.rfind('/'));
      const std::size_t epoch = epoch_;
      const WallMs began = wall_now();
      DIR* listing = ::opendir(directory.c_str());
      if (listing == nullptr) continue;
      while (const dirent* entry = ::readdir(listing)) {
        if (entry->d_name[0] == '.') continue;
        // One call brings many names: it began when the listing did.
        const std::size_t i = std::strtoul(entry->d_name, nullptr, 10);
        if (i >= kFiles || began < files_[i].deadline || !was_served(epoch)) continue;
        ++tally_.late;
        note("listing", i, began - files_[i].deadline);
      }
      ::closedir(listing);
    }
  }
}

TEST_F(StormTest, RandomDeadlinesAndTenCrashes) {
  constexpr WallMs kSpan = 60'000;
  constexpr int kCrashes = 10;
  const char* given = std::getenv("EPHFS_SEED");
  const auto seed = given == nullptr ? std::random_device{}() : static_cast<unsigned>(std::strtoul(given, nullptr, 10));
  std::cout << "seed " << seed << "\n";
  std::mt19937 dice(seed);
  const WallMs start = make_files([&] { return static_cast<WallMs>(dice() % static_cast<unsigned>(kSpan)); });
  hammer([&] {
    for (int crash = 1; crash <= kCrashes; ++crash) {
      sleep_until(start + crash * kSpan / (kCrashes + 1));
      begin_epoch();
      EXPECT_TRUE(volume_.kill_daemon());
      EXPECT_TRUE(volume_.mount()) << volume_.error();
      begin_epoch();
    }
    sleep_until(start + kSpan + kAskedAfter);
  });
}

TEST_F(StormTest, OneDeadlineForAll) {
  const WallMs deadline = make_files([] { return 0; });
  hammer([&] { sleep_until(deadline + kAskedAfter); });
}

}  // namespace
}  // namespace ephfs::mount_tests
