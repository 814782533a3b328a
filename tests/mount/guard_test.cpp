// SPDX-License-Identifier: Apache-2.0
// A daemon that is killed drops no pages; its guard does. What a process holds of files that were cached at
// that moment, open, mapped or written to, gives nothing at their deadline.
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/mount/death_watch.hpp"
#include "tests/mount/mounted_volume.hpp"

namespace ephfs::mount_tests {
namespace {

constexpr std::size_t kGuardedBytes = 5 * kPage;

/// The first byte of a page, as nobody has optimized away.
int touch(const volatile char* page) {
  return guarded([page] { (void)*page; });
}

/// The guards of a mountpoint, by the title that ps(1) shows.
std::vector<int> guards_of(const std::filesystem::path& mountpoint) {
  std::vector<int> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "cmdline");
    std::string words;
    std::getline(file, words, '\0');
    if (words == "ephfs: guard of " + mountpoint.string()) found.push_back(std::stoi(entry.path().filename()));
  }
  return found;
}

void wait_for_no_guard(const std::filesystem::path& mountpoint) {
  constexpr WallMs kPatience = 20'000;
  for (const WallMs end = wall_now() + kPatience; !guards_of(mountpoint).empty();) {
    ASSERT_LT(wall_now(), end) << "the guard of a dead daemon goes on";
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

class GuardTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(volume_.mounted()) << volume_.error();
    deadline_ = wall_now() + kLife;
  }
  void TearDown() override {
    for (const int fd : descriptors_) ::close(fd);
    for (auto* map : maps_) ::munmap(const_cast<char*>(map), kGuardedBytes);
  }

  /// A file that dies at the deadline, open.
  int make(const std::string& name) {
    const int fd = ::open((volume_.root() / name).c_str(), O_RDWR | O_CREAT | O_EXCL, 0644);
    EXPECT_GE(fd, 0) << name;
    descriptors_.push_back(fd);
    const std::string content(kGuardedBytes, 'x');
    EXPECT_EQ(::write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size()));
    const std::string value = "@" + std::to_string(deadline_);
    EXPECT_EQ(::fsetxattr(fd, "user.ephfs.expires", value.data(), value.size(), 0), 0) << name;
    return fd;
  }
  /// The same, staged and read back: its pages are clean and in the kernel's cache.
  int make_cached(const std::string& name) {
    const int fd = make(name);
    EXPECT_EQ(::fsync(fd), 0);
    EXPECT_EQ(read_all(fd), 0);
    return fd;
  }
  volatile char* map(int fd, int protection, int flags) {
    auto* bytes = static_cast<volatile char*>(::mmap(nullptr, kGuardedBytes, protection, flags, fd, 0));
    EXPECT_NE(bytes, MAP_FAILED);
    for (std::size_t at = 0; at < kGuardedBytes; at += kPage) EXPECT_EQ(touch(bytes + at), 0);
    maps_.push_back(bytes);
    return bytes;
  }
  static int read_all(int fd) {
    std::array<char, kGuardedBytes> room{};
    return ::pread(fd, room.data(), room.size(), 0) < 0 ? errno : 0;
  }
  /// Whether no byte of the file can be read.
  static void expect_nothing(int fd, const std::string& name) {
    for (std::size_t at = 0; at < kGuardedBytes; at += kPage) {
      char byte = 0;
      EXPECT_EQ(::pread(fd, &byte, 1, static_cast<off_t>(at)), -1) << name << " at " << at;
    }
  }
  static void expect_nothing(const volatile char* bytes, const std::string& name) {
    for (std::size_t at = 0; at < kGuardedBytes; at += kPage)
      EXPECT_EQ(touch(bytes + at), kSigbus) << name << " at " << at;
  }

  static constexpr WallMs kLife = 4000;

  MountedVolume volume_;
  WallMs deadline_ = 0;
  std::vector<int> descriptors_;
  std::vector<volatile char*> maps_;
};

TEST_F(GuardTest, KilledWithItsGroupTheDaemonLeavesNothingToRead) {
  const int open = make_cached("open");
  const int unlinked = make_cached("unlinked");
  ASSERT_EQ(::unlink((volume_.root() / "unlinked").c_str()), 0);
  const int mapped = make_cached("mapped");
  volatile char* shared = map(mapped, PROT_READ, MAP_SHARED);
  volatile char* owned = map(make_cached("private"), PROT_READ | PROT_WRITE, MAP_PRIVATE);
  volatile char* alone = map(make_cached("alone"), PROT_READ, MAP_SHARED);
  ::close(descriptors_.back());
  descriptors_.pop_back();
  const int unsynced = make("unsynced");
  const int dirtied = make_cached("dirtied");
  volatile char* dirty = map(dirtied, PROT_READ | PROT_WRITE, MAP_SHARED);
  for (std::size_t at = 0; at < kGuardedBytes; at += kPage) dirty[at] = 'w';
  EXPECT_EQ(read_all(open), 0);

  ASSERT_EQ(::kill(-volume_.daemon_pid(), SIGKILL), 0) << "the daemon leads a process group";
  sleep_until(deadline_);
  expect_nothing(open, "open");
  expect_nothing(unlinked, "unlinked");
  expect_nothing(mapped, "mapped");
  expect_nothing(shared, "shared map");
  expect_nothing(owned, "private map");
  expect_nothing(alone, "map without a descriptor");
  expect_nothing(unsynced, "never synced");
  expect_nothing(dirtied, "written by map");
  expect_nothing(dirty, "map that was written");
  ASSERT_EQ(::umount2(volume_.root().c_str(), MNT_DETACH), 0);
  EXPECT_TRUE(volume_.mount()) << volume_.error();
  EXPECT_TRUE(std::filesystem::is_empty(volume_.root()));
}

TEST_F(GuardTest, LinksThatWereReadAreForgottenToo) {
  const auto link = volume_.root() / "link";
  ASSERT_EQ(::symlink("target", link.c_str()), 0);
  const int held = ::open(link.c_str(), O_PATH | O_NOFOLLOW);
  descriptors_.push_back(held);
  std::array<char, 100> room{};
  ASSERT_EQ(::readlinkat(held, "", room.data(), room.size()), 6);
  ASSERT_TRUE(volume_.kill_daemon());
  wait_for_no_guard(volume_.root());
  EXPECT_EQ(::readlinkat(held, "", room.data(), room.size()), -1);
}

TEST_F(GuardTest, EndsWithTheMountAndWithTheDaemon) {
  const auto guards = guards_of(volume_.root());
  ASSERT_EQ(guards.size(), 1U) << "its title says whose it is";
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) EXPECT_EQ(::kill(guards.front(), signal), 0);
  EXPECT_EQ(guards_of(volume_.root()), guards) << "it is the daemon that these unmount";
  ASSERT_TRUE(volume_.unmount());
  EXPECT_TRUE(guards_of(volume_.root()).empty());
  ASSERT_TRUE(volume_.mount());
  ASSERT_EQ(guards_of(volume_.root()).size(), 1U);
  ASSERT_TRUE(volume_.kill_daemon());
  wait_for_no_guard(volume_.root());
}

}  // namespace
}  // namespace ephfs::mount_tests
