// SPDX-License-Identifier: Apache-2.0
// Tries to read the dead: every system call that could bring back bytes or names of a file, asked again and
// again over its deadline. All files here die at one instant.
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/mount/death_watch.hpp"
#include "tests/mount/mounted_volume.hpp"

namespace ephfs::mount_tests {
namespace {

constexpr std::size_t kFileBytes = 5 * kPage;
/// What a path that died is refused with, and a descriptor.
const std::set<int> kGone{ENOENT};
const std::set<int> kStale{ESTALE};

/// 0 for a call that went well, else its errno.
int status(long value) {
  return value < 0 ? errno : 0;
}

struct Descriptor {
  explicit Descriptor(int opened) : fd(opened) {}
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  const int fd;
};

struct Mapping {
  Mapping(int fd, int protection, int flags)
      : bytes(static_cast<volatile char*>(::mmap(nullptr, kFileBytes, protection, flags, fd, 0))) {}
  ~Mapping() { ::munmap(const_cast<char*>(bytes), kFileBytes); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  volatile char* const bytes;
};

class DeadTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(volume_.mounted()) << volume_.error();
    deadline_ = wall_now() + kLife;
  }

  [[nodiscard]] std::string at(const std::string& name) const { return (volume_.root() / name).string(); }

  /// A file of five pages that dies at the deadline.
  std::string make(const std::string& name) {
    const std::string path = at(name);
    const Descriptor made(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0755));
    const std::string content(kFileBytes, 'x');
    EXPECT_EQ(::write(made.fd, content.data(), content.size()), static_cast<ssize_t>(content.size())) << path;
    set_deadline(path);
    return path;
  }
  void set_deadline(const std::string& path) const {
    const std::string value = "@" + std::to_string(deadline_);
    EXPECT_EQ(::setxattr(path.c_str(), "user.ephfs.expires", value.data(), value.size(), 0), 0) << path;
  }
  int open_made(const std::string& name, int flags = O_RDONLY) {
    descriptors_.push_back(std::make_unique<Descriptor>(::open(make(name).c_str(), flags)));
    EXPECT_GE(descriptors_.back()->fd, 0) << name;
    return descriptors_.back()->fd;
  }
  volatile char* map_made(const std::string& name, int protection, int flags) {
    mappings_.push_back(std::make_unique<Mapping>(open_made(name, O_RDWR), protection, flags));
    EXPECT_NE(mappings_.back()->bytes, MAP_FAILED) << name;
    return mappings_.back()->bytes;
  }
  void watch(const std::string& name, const std::set<int>& refusals, std::function<int()> ask) {
    watches_.emplace_back(name, refusals, std::move(ask));
  }
  /// Asks all over the deadline and judges.
  void look_over_the_deadline() {
    for (auto& watch : watches_) watch.look();
    sleep_until(deadline_ - kLookBefore);
    while (wall_now() < deadline_ + kLookAfter) {
      for (auto& watch : watches_) watch.look();
    }
    for (auto& watch : watches_) EXPECT_EQ(watch.verdict(deadline_), "") << watch.name();
  }

  static constexpr WallMs kLife = 3000;
  static constexpr WallMs kLookBefore = 150;
  static constexpr WallMs kLookAfter = 150;

  MountedVolume volume_;
  WallMs deadline_ = 0;
  std::vector<DeathWatch> watches_;
  std::vector<std::unique_ptr<Descriptor>> descriptors_;
  std::vector<std::unique_ptr<Mapping>> mappings_;
};

bool is_listed(const std::string& directory, const std::string& name, bool with_stat) {
  DIR* listing = ::opendir(directory.c_str());
  bool found = false;
  while (const dirent* entry = ::readdir(listing)) {
    struct stat ignored {};
    const bool there = !with_stat || ::fstatat(::dirfd(listing), entry->d_name, &ignored, AT_SYMLINK_NOFOLLOW) == 0;
    found = found || (there && name == entry->d_name);
  }
  ::closedir(listing);
  return found;
}

TEST_F(DeadTest, ByPath) {
  const std::string path = make("file");
  const std::string parent = volume_.root().string();
  ASSERT_EQ(::mkdir(at("links").c_str(), 0755), 0);
  const std::string link = at("links/hard");
  ASSERT_EQ(::link(path.c_str(), link.c_str()), 0);
  const std::string renamed = make("saved.new");
  ASSERT_EQ(::rename(renamed.c_str(), make("saved").c_str()), 0);

  struct stat ignored {};
  for (const auto& name : {path, link, at("saved")}) {
    watch("stat " + name, kGone, [&, name] { return status(::stat(name.c_str(), &ignored)); });
    watch("open " + name, kGone, [name] {
      const Descriptor opened(::open(name.c_str(), O_RDONLY));
      return status(opened.fd);
    });
  }
  watch("statx without asking", kGone, [&] {
    struct statx got {};
    return status(::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &got));
  });
  watch("access", kGone, [&] { return status(::access(path.c_str(), R_OK)); });
  watch("getxattr", kGone, [&] { return status(::getxattr(path.c_str(), "user.ephfs.expires", nullptr, 0)); });
  watch("listxattr", kGone, [&] { return status(::listxattr(path.c_str(), nullptr, 0)); });
  watch("chmod", kGone, [&] { return status(::chmod(path.c_str(), 0700)); });
  watch("link", kGone, [&] {
    const int made = status(::link(path.c_str(), at("another").c_str()));
    if (made == 0) ::unlink(at("another").c_str());
    return made;
  });
  watch("truncate", kGone, [&] { return status(::truncate(path.c_str(), kFileBytes)); });
  watch("readdir", kGone, [&] { return is_listed(parent, "file", false) ? 0 : ENOENT; });
  watch("readdir and stat", kGone, [&] { return is_listed(parent, "file", true) ? 0 : ENOENT; });
  watch("readdir of the link", kGone, [&] { return is_listed(at("links"), "hard", true) ? 0 : ENOENT; });
  const Descriptor directory(::open(parent.c_str(), O_RDONLY | O_DIRECTORY));
  watch("openat", kGone, [&] {
    const Descriptor opened(::openat(directory.fd, "file", O_RDONLY));
    return status(opened.fd);
  });
  look_over_the_deadline();
  EXPECT_EQ(::mknod(path.c_str(), S_IFREG | 0644, 0), 0) << "the name is free again";
}

TEST_F(DeadTest, ByDescriptor) {
  std::array<char, kPage> room{};
  struct stat ignored {};
  const int fd = open_made("read", O_RDWR);
  watch("pread", kStale, [&] { return status(::pread(fd, room.data(), room.size(), 0)); });
  watch("fstat", kStale, [&] { return status(::fstat(fd, &ignored)); });
  watch("lseek to the end", kStale, [&] { return status(::lseek(fd, 0, SEEK_END)); });
  watch("lseek to data", kStale, [&] { return status(::lseek(fd, 0, SEEK_DATA)); });
  watch("fgetxattr", kStale, [&] { return status(::fgetxattr(fd, "user.ephfs.expires", nullptr, 0)); });
  watch("fchmod", kStale, [&] { return status(::fchmod(fd, 0700)); });
  const int rewound = open_made("rewound");
  watch("read", kStale, [&] {
    ::lseek(rewound, 0, SEEK_SET);
    return status(::read(rewound, room.data(), room.size()));
  });
  const int vector = open_made("vector");
  iovec parts{room.data(), room.size()};
  watch("preadv", kStale, [&] { return status(::preadv(vector, &parts, 1, 0)); });
  const int sent = open_made("sent");
  const Descriptor sink(::memfd_create("sink", 0));
  watch("sendfile", kStale, [&] {
    off_t from = 0;
    ::lseek(sink.fd, 0, SEEK_SET);
    return status(::sendfile(sink.fd, sent, &from, kPage));
  });
  const int spliced = open_made("spliced");
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  watch("splice", kStale, [&] {
    loff_t from = 0;
    const int got = status(::splice(spliced, &from, pipe[1], nullptr, kPage, 0));
    return got != 0 ? got : status(::read(pipe[0], room.data(), kPage));
  });
  const int copied = open_made("copied");
  const Descriptor copy(::open(at("copy").c_str(), O_RDWR | O_CREAT, 0644));
  watch("copy_file_range", kStale, [&] {
    loff_t from = 0;
    loff_t to = 0;
    return status(::copy_file_range(copied, &from, copy.fd, &to, kPage, 0));
  });
  const int readahead = open_made("ahead");
  watch("readahead and pread", kStale, [&] {
    (void)::readahead(readahead, 0, kFileBytes);
    return status(::pread(readahead, room.data(), room.size(), kPage));
  });
  const int direct = open_made("direct", O_RDONLY | O_DIRECT);
  alignas(kPage) static std::array<char, kPage> aligned;
  watch("O_DIRECT pread", kStale, [&] { return status(::pread(direct, aligned.data(), aligned.size(), 0)); });
  const int by_path = open_made("reopened");
  const std::string proc = "/proc/self/fd/" + std::to_string(by_path);
  watch("open of /proc/self/fd", {ESTALE, ENOENT}, [&] {
    const Descriptor opened(::open(proc.c_str(), O_RDONLY));
    return status(opened.fd);
  });
  const int handle_only = open_made("handle", O_PATH);
  watch("fstat of O_PATH", {ESTALE, ENOENT}, [&] { return status(::fstat(handle_only, &ignored)); });
  look_over_the_deadline();
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST_F(DeadTest, ByWriting) {
  const std::string page(kPage, 'y');
  const int fd = open_made("written", O_RDWR);
  watch("pwrite", kStale, [&] { return status(::pwrite(fd, page.data(), page.size(), 0)); });
  const int part = open_made("part", O_RDWR);
  watch("pwrite of part of a page", kStale, [&] { return status(::pwrite(part, page.data(), 10, 5000)); });
  const int synced = open_made("synced", O_RDWR);
  watch("fsync", kStale, [&] { return status(::fsync(synced)); });
  watch("fdatasync", kStale, [&] { return status(::fdatasync(synced)); });
  const int cut = open_made("cut", O_RDWR);
  watch("ftruncate", kStale, [&] { return status(::ftruncate(cut, kFileBytes)); });
  watch("fallocate", kStale, [&] { return status(::fallocate(cut, 0, 0, kFileBytes)); });
  const int appended = open_made("appended", O_RDWR | O_APPEND);
  watch("append", kStale, [&] { return status(::write(appended, page.data(), 1)); });
  const int reread = open_made("reread", O_RDWR);
  watch("pwrite and pread", kStale, [&] {
    std::array<char, kPage> room{};
    (void)!::pwrite(reread, page.data(), page.size(), 0);
    return status(::pread(reread, room.data(), room.size(), 0));
  });
  look_over_the_deadline();
}

TEST_F(DeadTest, ByMap) {
  const std::set<int> gone{kSigbus};
  volatile char* shared = map_made("shared", PROT_READ, MAP_SHARED);
  watch("shared map", gone, [=] { return guarded([=] { (void)shared[kPage]; }); });
  volatile char* written = map_made("written", PROT_READ | PROT_WRITE, MAP_SHARED);
  watch("written map", gone, [=] { return guarded([=] { written[kPage] = 'w'; }); });
  watch("map of what was written", gone, [=] { return guarded([=] { (void)written[kPage]; }); });
  volatile char* owned = map_made("private", PROT_READ | PROT_WRITE, MAP_PRIVATE);
  watch("private map", gone, [=] { return guarded([=] { (void)owned[kPage]; }); });
  owned[0] = 'o';
  // Mapped when it is too late: the mapping is only made of addresses.
  const int fd = open_made("fresh");
  watch("fresh map", {kSigbus, ESTALE}, [=] {
    const Mapping fresh(fd, PROT_READ, MAP_SHARED);
    if (fresh.bytes == MAP_FAILED) return errno;
    return guarded([&] { (void)fresh.bytes[0]; });
  });
  volatile char* closed = nullptr;
  {
    const Descriptor opened(::open(make("closed").c_str(), O_RDONLY));
    mappings_.push_back(std::make_unique<Mapping>(opened.fd, PROT_READ, MAP_SHARED));
    closed = mappings_.back()->bytes;
  }
  watch("map without a descriptor", gone, [=] { return guarded([=] { (void)closed[2 * kPage]; }); });
  look_over_the_deadline();
  EXPECT_EQ(guarded([=] { (void)owned[0]; }), 0);
  EXPECT_EQ(owned[0], 'o') << "a page that the process has copied is the process's own";
}

TEST_F(DeadTest, BySymbolicLink) {
  // A link's deadline is what its directory says: the kernel allows nobody to set an attribute of it.
  ASSERT_EQ(::mkdir(at("d").c_str(), 0755), 0);
  set_deadline(at("d"));
  const std::string link = at("d/link");
  ASSERT_EQ(::symlink("target", link.c_str()), 0);
  std::array<char, 100> room{};
  watch("readlink", kGone, [&] { return status(::readlink(link.c_str(), room.data(), room.size())); });
  struct stat ignored {};
  watch("lstat", kGone, [&] { return status(::lstat(link.c_str(), &ignored)); });
  const Descriptor held(::open(link.c_str(), O_PATH | O_NOFOLLOW));
  watch("readlink by descriptor", {ENOENT, ESTALE},
        [&] { return status(::readlinkat(held.fd, "", room.data(), room.size())); });
  look_over_the_deadline();
}

TEST_F(DeadTest, ByHandle) {
  alignas(file_handle) std::array<std::byte, sizeof(file_handle) + MAX_HANDLE_SZ> room{};
  auto* handle = reinterpret_cast<file_handle*>(room.data());
  handle->handle_bytes = MAX_HANDLE_SZ;
  const std::string path = make("file");
  // A handle means something while the kernel remembers the file, which it may forget when nobody has it open.
  const Descriptor remembered(::open(path.c_str(), O_PATH));
  int mount = 0;
  ASSERT_EQ(::name_to_handle_at(AT_FDCWD, path.c_str(), handle, &mount, 0), 0) << std::strerror(errno);
  const Descriptor root(::open(volume_.root().c_str(), O_RDONLY | O_DIRECTORY));
  watch("open_by_handle_at", {ESTALE, ENOENT}, [&] {
    const Descriptor opened(::open_by_handle_at(root.fd, handle, O_RDONLY));
    if (opened.fd < 0) return errno;
    char byte = 0;
    return status(::read(opened.fd, &byte, 1));
  });
  look_over_the_deadline();
}

TEST_F(DeadTest, ByExecuting) {
  ASSERT_EQ(run("cp /bin/true " + at("program")), 0);
  set_deadline(at("program"));
  const std::string path = at("program");
  watch("execve", kGone, [&] {
    std::array<char*, 2> words{const_cast<char*>(path.c_str()), nullptr};
    pid_t child = 0;
    const int refused = ::posix_spawn(&child, path.c_str(), nullptr, nullptr, words.data(), environ);
    if (refused != 0) return refused;
    int how = 0;
    ::waitpid(child, &how, 0);
    // Its pages may go while it starts: the kernel then ends it.
    return how == 0 ? 0 : ENOENT;
  });
  look_over_the_deadline();
}

TEST_F(DeadTest, ByAsynchronousReads) {
  aio_context_t context = 0;
  ASSERT_EQ(::syscall(SYS_io_setup, 4, &context), 0);
  const int fd = open_made("aio");
  std::array<char, kPage> room{};
  watch("io_submit", kStale, [&] {
    iocb request{};
    request.aio_fildes = static_cast<std::uint32_t>(fd);
    request.aio_lio_opcode = IOCB_CMD_PREAD;
    request.aio_buf = reinterpret_cast<std::uint64_t>(room.data());
    request.aio_nbytes = room.size();
    std::array<iocb*, 1> list{&request};
    if (::syscall(SYS_io_submit, context, 1, list.data()) != 1) return errno;
    io_event event{};
    if (::syscall(SYS_io_getevents, context, 1, 1, &event, nullptr) != 1) return errno;
    return event.res < 0 ? static_cast<int>(-event.res) : 0;
  });
  look_over_the_deadline();
  ::syscall(SYS_io_destroy, context);
}

TEST_F(DeadTest, AfterWaitingForALock) {
  const int holder = open_made("locked", O_RDWR);
  const Descriptor waiter(::open(at("locked").c_str(), O_RDWR));
  struct flock whole {};
  whole.l_type = F_WRLCK;
  ASSERT_EQ(::fcntl(holder, F_OFD_SETLK, &whole), 0);
  int locked = -1;
  int got = 0;
  std::thread waiting([&] {
    struct flock mine = whole;
    locked = ::fcntl(waiter.fd, F_OFD_SETLKW, &mine);
    char byte = 0;
    got = status(::pread(waiter.fd, &byte, 1, 0));
  });
  sleep_until(deadline_);
  struct flock none = whole;
  none.l_type = F_UNLCK;
  EXPECT_EQ(::fcntl(holder, F_OFD_SETLK, &none), 0);
  waiting.join();
  EXPECT_EQ(locked, 0) << "locks are the kernel's";
  EXPECT_EQ(got, ESTALE) << "and what they guard is gone";
}

}  // namespace
}  // namespace ephfs::mount_tests
