// SPDX-License-Identifier: Apache-2.0
// Every operation on the mount against the same operation on a local file system: the same result, the same errno. Each
// test is a script that notes what it sees; it runs in a directory of each, and the two lists of notes must be equal.
#include <cerrno>
#include <cstdio>
#include <set>

#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/mount/mounted_volume.hpp"

namespace ephfs::mount_tests {
namespace {

/// Where a script runs, and what it noted.
class Script {
 public:
  explicit Script(std::filesystem::path root) : root_(std::move(root)) {}

  [[nodiscard]] std::string at(const std::string& name) const { return (root_ / name).string(); }
  /// Notes a system call: its value, or its errno's name.
  long note(const std::string& what, long value) {
    notes.push_back(what + " = " + (value < 0 ? std::string(strerrorname_np(errno)) : std::to_string(value)));
    return value;
  }
  /// Notes a call whose value (a descriptor) does not matter.
  int note_fd(const std::string& what, int fd) {
    notes.push_back(what + " = " + (fd < 0 ? std::string(strerrorname_np(errno)) : "open"));
    return fd;
  }
  void say(const std::string& what) { notes.push_back(what); }
  void note_stat(const std::string& name) {
    struct stat s {};
    if (::lstat(at(name).c_str(), &s) != 0) {
      say("stat " + name + " = " + strerrorname_np(errno));
      return;
    }
    // A directory's own size is a file system's private matter.
    const long size = S_ISDIR(s.st_mode) ? 0 : static_cast<long>(s.st_size);
    char text[160];
    std::snprintf(text, sizeof text, "stat %s = mode %o links %lu uid %u gid %u size %ld rdev %lu", name.c_str(),
                  s.st_mode, static_cast<unsigned long>(s.st_nlink), s.st_uid, s.st_gid, size,
                  static_cast<unsigned long>(s.st_rdev));
    say(text);
  }
  void note_list(const std::string& name) {
    std::set<std::string> names;
    DIR* directory = ::opendir(at(name).c_str());
    if (directory == nullptr) {
      say("list " + name + " = " + strerrorname_np(errno));
      return;
    }
    while (const dirent* entry = ::readdir(directory)) {
      names.insert(std::string(entry->d_name) + ":" + std::to_string(entry->d_type));
    }
    ::closedir(directory);
    std::string all;
    for (const auto& entry : names) all += " " + entry;
    say("list " + name + " =" + all);
  }
  void note_content(const std::string& name) {
    const int fd = ::open(at(name).c_str(), O_RDONLY);
    if (fd < 0) {
      say("content " + name + " = " + strerrorname_np(errno));
      return;
    }
    std::string bytes(1U << 20U, '\0');
    const ssize_t got = ::read(fd, bytes.data(), bytes.size());
    ::close(fd);
    bytes.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    say("content " + name + " = " + std::to_string(got) + " bytes, hash " +
        std::to_string(std::hash<std::string>{}(bytes)));
  }
  int make(const std::string& name, const std::string& content = "content") {
    const int fd = ::open(at(name).c_str(), O_CREAT | O_RDWR | O_TRUNC, 0644);
    note_fd("make " + name, fd);
    if (fd >= 0) {
      note("write " + name, ::write(fd, content.data(), content.size()));
      ::close(fd);
    }
    return fd;
  }

  std::vector<std::string> notes;

 private:
  std::filesystem::path root_;
};

class Operations : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { volume_ = new MountedVolume(); }
  static void TearDownTestSuite() {
    delete volume_;
    volume_ = nullptr;
  }

  void expect_same(void (*play)(Script&)) {
    ASSERT_TRUE(volume_->mounted()) << volume_->error();
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::vector<std::vector<std::string>> notes;
    for (const auto& root : {volume_->local(), volume_->root()}) {
      std::filesystem::create_directory(root / name);
      Script script(root / name);
      play(script);
      notes.push_back(std::move(script.notes));
    }
    ASSERT_FALSE(notes[0].empty());
    for (std::size_t i = 0; i < std::max(notes[0].size(), notes[1].size()); ++i) {
      ASSERT_TRUE(i < notes[0].size() && i < notes[1].size()) << "one has more notes than the other";
      EXPECT_EQ(notes[0][i], notes[1][i]) << "note " << i << " (first: local, second: mount)";
    }
  }

  static MountedVolume* volume_;
};

MountedVolume* Operations::volume_ = nullptr;

TEST_F(Operations, MakeAndRemoveFiles) {
  expect_same([](Script& s) {
    s.make("f");
    s.note_stat("f");
    s.note_content("f");
    s.note_fd("make exclusively", ::open(s.at("f").c_str(), O_CREAT | O_EXCL | O_RDWR, 0600));
    s.note_fd("open missing", ::open(s.at("missing").c_str(), O_RDONLY));
    s.note_fd("open below a file", ::open(s.at("f/x").c_str(), O_RDONLY));
    s.note_fd("open as directory", ::open(s.at("f").c_str(), O_RDONLY | O_DIRECTORY));
    s.note("unlink", ::unlink(s.at("f").c_str()));
    s.note("unlink again", ::unlink(s.at("f").c_str()));
    s.note_stat("f");
    s.note_fd("long name", ::open(s.at(std::string(256, 'n')).c_str(), O_CREAT | O_RDWR, 0600));
    s.make(std::string(255, 'n'));
    s.make("name with spaces, ünïcödé and \n a line end");
    s.note_list(".");
  });
}

TEST_F(Operations, MakeNodes) {
  expect_same([](Script& s) {
    ::umask(022);
    s.note("mknod file", ::mknod(s.at("file").c_str(), S_IFREG | 0666, 0));
    s.note("mknod fifo", ::mknod(s.at("fifo").c_str(), S_IFIFO | 0600, 0));
    s.note("mknod device", ::mknod(s.at("null").c_str(), S_IFCHR | 0666, makedev(1, 3)));
    s.note("mknod block", ::mknod(s.at("block").c_str(), S_IFBLK | 0600, makedev(7, 200)));
    s.note("mknod socket", ::mknod(s.at("socket").c_str(), S_IFSOCK | 0600, 0));
    s.note("mknod again", ::mknod(s.at("fifo").c_str(), S_IFIFO | 0600, 0));
    for (const char* name : {"file", "fifo", "null", "block", "socket"}) s.note_stat(name);
    s.note_list(".");
  });
}

TEST_F(Operations, Directories) {
  expect_same([](Script& s) {
    s.note("mkdir", ::mkdir(s.at("d").c_str(), 0751));
    s.note("mkdir again", ::mkdir(s.at("d").c_str(), 0700));
    s.note("mkdir below", ::mkdir(s.at("d/e").c_str(), 02755));
    s.note("mkdir below missing", ::mkdir(s.at("x/e").c_str(), 0755));
    s.note_stat("d");
    s.note_stat("d/e");
    s.make("d/f");
    s.note("rmdir not empty", ::rmdir(s.at("d").c_str()));
    s.note("rmdir a file", ::rmdir(s.at("d/f").c_str()));
    s.note("unlink a directory", ::unlink(s.at("d/e").c_str()));
    s.note_list("d");
    s.note("rmdir", ::rmdir(s.at("d/e").c_str()));
    s.note("unlink", ::unlink(s.at("d/f").c_str()));
    s.note_stat("d");
    s.note("rmdir", ::rmdir(s.at("d").c_str()));
    s.note_stat("d");
  });
}

TEST_F(Operations, SymbolicLinks) {
  expect_same([](Script& s) {
    s.make("target");
    s.note("symlink", ::symlink("target", s.at("link").c_str()));
    s.note("symlink again", ::symlink("target", s.at("link").c_str()));
    s.note("dangling", ::symlink("nowhere", s.at("dangling").c_str()));
    s.note("long", ::symlink(std::string(4095, 't').c_str(), s.at("long").c_str()));
    char room[8192];
    const long got = s.note("readlink", ::readlink(s.at("link").c_str(), room, sizeof room));
    s.say(std::string(room, static_cast<std::size_t>(std::max(got, 0L))));
    s.note("readlink of a file", ::readlink(s.at("target").c_str(), room, sizeof room));
    s.note("readlink long", ::readlink(s.at("long").c_str(), room, sizeof room));
    s.note_content("link");
    s.note_content("dangling");
    for (const char* name : {"link", "dangling", "long"}) s.note_stat(name);
  });
}

TEST_F(Operations, HardLinks) {
  expect_same([](Script& s) {
    s.make("a");
    s.note("link", ::link(s.at("a").c_str(), s.at("b").c_str()));
    s.note("link over", ::link(s.at("a").c_str(), s.at("b").c_str()));
    s.note("link a directory", (::mkdir(s.at("d").c_str(), 0755), ::link(s.at("d").c_str(), s.at("e").c_str())));
    s.note("link missing", ::link(s.at("zz").c_str(), s.at("b2").c_str()));
    s.note_stat("a");
    const int fd = ::open(s.at("b").c_str(), O_WRONLY | O_APPEND);
    s.note("append", ::write(fd, "more", 4));
    ::close(fd);
    s.note_content("a");
    s.note("unlink a", ::unlink(s.at("a").c_str()));
    s.note_stat("b");
    s.note_content("b");
  });
}

TEST_F(Operations, Rename) {
  expect_same([](Script& s) {
    const auto rename2 = [&](const char* from, const char* to, unsigned flags) {
      s.note(std::string("rename ") + from + " " + to + " " + std::to_string(flags),
             ::renameat2(AT_FDCWD, s.at(from).c_str(), AT_FDCWD, s.at(to).c_str(), flags));
    };
    s.make("a", "a");
    s.make("b", "bb");
    ::mkdir(s.at("d").c_str(), 0755);
    ::mkdir(s.at("empty").c_str(), 0755);
    ::mkdir(s.at("full").c_str(), 0755);
    s.make("full/x", "x");
    rename2("a", "c", 0);
    rename2("missing", "c", 0);
    rename2("c", "b", RENAME_NOREPLACE);
    rename2("c", "new", RENAME_NOREPLACE);
    rename2("new", "b", 0);
    s.note_content("b");
    s.make("p", "ppp");
    rename2("p", "b", RENAME_EXCHANGE);
    s.note_content("p");
    s.note_content("b");
    rename2("p", "missing", RENAME_EXCHANGE);
    rename2("full", "d", RENAME_EXCHANGE);
    s.note_list("d");
    s.note_list("full");
    rename2("p", "d", RENAME_EXCHANGE);
    s.note_list(".");
    s.note_list("p");
    rename2("p", "empty", 0);
    s.note_list("empty");
    rename2("b", "empty", 0);
    rename2("empty", "b", 0);
    rename2("empty", "empty/below", 0);
    rename2("full", "empty", 0);
    rename2("empty", "full", 0);
    rename2("b", "full/b", 0);
    rename2("full/b", "full/b", 0);
    s.note_list("full");
    s.note("link", ::link(s.at("full/b").c_str(), s.at("full/same").c_str()));
    rename2("full/b", "full/same", 0);
    s.note_list("full");
    rename2("full", ".", 0);
    rename2("d", "e", RENAME_WHITEOUT | RENAME_EXCHANGE);
    for (const char* name : {"d", "empty", "full", "full/same"}) s.note_stat(name);
    s.note_list(".");
  });
}

TEST_F(Operations, OpenUnlinkedFileLivesOn) {
  expect_same([](Script& s) {
    const int fd = ::open(s.at("f").c_str(), O_CREAT | O_RDWR, 0600);
    s.note("write", ::write(fd, "hello", 5));
    s.note("unlink", ::unlink(s.at("f").c_str()));
    struct stat st {};
    s.note("fstat", ::fstat(fd, &st));
    s.note("links", static_cast<long>(st.st_nlink));
    s.note("write more", ::pwrite(fd, "world", 5, 5));
    char room[16] = {};
    s.note("read", ::pread(fd, room, sizeof room, 0));
    s.say(room);
    s.note("fsync", ::fsync(fd));
    s.note("truncate", ::ftruncate(fd, 3));
    s.note("read", ::pread(fd, room, sizeof room, 0));
    s.note("close", ::close(fd));
    s.make("replaced", "old");
    const int old = ::open(s.at("replaced").c_str(), O_RDONLY);
    s.make("new", "new content");
    s.note("rename over an open file", ::rename(s.at("new").c_str(), s.at("replaced").c_str()));
    s.note("read old", ::pread(old, room, sizeof room, 0));
    s.note("close", ::close(old));
    s.note_content("replaced");
  });
}

/// Linux 6.2 and later ask FUSE file systems for them.
bool asks_for_unnamed_files() {
  utsname kernel{};
  ::uname(&kernel);
  int major = 0;
  int minor = 0;
  std::sscanf(kernel.release, "%d.%d", &major, &minor);
  return std::pair(major, minor) >= std::pair(6, 2);
}

TEST_F(Operations, FilesWithoutAName) {
  if (!asks_for_unnamed_files()) GTEST_SKIP() << "this kernel answers O_TMPFILE itself";
  expect_same([](Script& s) {
    ::mkdir(s.at("d").c_str(), 02755);
    const int fd = s.note_fd("open", ::open(s.at("d").c_str(), O_TMPFILE | O_RDWR, 0640));
    s.note("write", ::write(fd, "hello", 5));
    struct stat st {};
    s.note("fstat", ::fstat(fd, &st));
    s.note("links", static_cast<long>(st.st_nlink));
    s.note("mode", static_cast<long>(st.st_mode));
    s.note("chmod", ::fchmod(fd, 0600));
    s.note_list("d");
    const std::string self = "/proc/self/fd/" + std::to_string(fd);
    s.note("link", ::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, s.at("d/f").c_str(), AT_SYMLINK_FOLLOW));
    s.note_stat("d/f");
    s.note("write more", ::write(fd, " world", 6));
    s.note("close", ::close(fd));
    s.note_content("d/f");
    s.note_list("d");

    const int forgotten = s.note_fd("open", ::open(s.at("d").c_str(), O_TMPFILE | O_WRONLY, 0600));
    s.note("write", ::write(forgotten, "gone", 4));
    s.note("close", ::close(forgotten));

    const int never = s.note_fd("open", ::open(s.at("d").c_str(), O_TMPFILE | O_EXCL | O_RDWR, 0600));
    const std::string other = "/proc/self/fd/" + std::to_string(never);
    s.note("link", ::linkat(AT_FDCWD, other.c_str(), AT_FDCWD, s.at("d/g").c_str(), AT_SYMLINK_FOLLOW));
    s.note("close", ::close(never));
    s.note_fd("for reading", ::open(s.at("d").c_str(), O_TMPFILE | O_RDONLY, 0600));
    s.note_fd("in a file", ::open(s.at("d/f").c_str(), O_TMPFILE | O_RDWR, 0600));
    s.note_list("d");
    s.note("rmdir", ::unlink(s.at("d/f").c_str()) + ::rmdir(s.at("d").c_str()));
  });
}

TEST_F(Operations, ReadAndWrite) {
  expect_same([](Script& s) {
    const int fd = ::open(s.at("f").c_str(), O_CREAT | O_RDWR, 0600);
    std::string block(70'000, 'x');
    s.note("write", ::write(fd, block.data(), block.size()));
    s.note("write far", ::pwrite(fd, "far", 3, 10'000'000));
    s.note("overwrite", ::pwrite(fd, "over", 4, 4094));
    s.note("seek end", ::lseek(fd, 0, SEEK_END));
    s.note("seek past", ::lseek(fd, 5, SEEK_CUR));
    s.note("read past", ::read(fd, block.data(), 10));
    s.note("write past", ::write(fd, "z", 1));
    s.note("read far", ::pread(fd, block.data(), 16, 9'999'995));
    s.say(block.substr(0, 16));
    s.note("read hole", ::pread(fd, block.data(), 16, 500'000));
    s.note("read negative", ::pread(fd, block.data(), 16, -1));
    s.note("write zero", ::write(fd, "", 0));
    ::close(fd);
    s.note_stat("f");
    const int only_read = ::open(s.at("f").c_str(), O_RDONLY);
    s.note("write to a reader", ::write(only_read, "x", 1));
    ::close(only_read);
    const int only_write = ::open(s.at("f").c_str(), O_WRONLY);
    s.note("read from a writer", ::read(only_write, block.data(), 1));
    ::close(only_write);
    const int append = ::open(s.at("f").c_str(), O_RDWR | O_APPEND);
    s.note("pwrite appends", ::pwrite(append, "tail", 4, 0));
    s.note("seek end", ::lseek(append, 0, SEEK_END));
    ::close(append);
    ::close(::open(s.at("f").c_str(), O_WRONLY | O_TRUNC));
    s.note_stat("f");
    const int past_4g = ::open(s.at("large").c_str(), O_CREAT | O_RDWR, 0600);
    s.note("write past 4 GiB", ::pwrite(past_4g, "end", 3, 5L << 30));
    s.note("read past 4 GiB", ::pread(past_4g, block.data(), 8, (5L << 30) - 2));
    ::close(past_4g);
    s.note_stat("large");
    s.note("read a directory", ::read(::open(s.at(".").c_str(), O_RDONLY), block.data(), 1));
  });
}

TEST_F(Operations, Attributes) {
  expect_same([](Script& s) {
    s.make("f");
    const auto times = [&](const char* what) {
      struct stat st {};
      ::stat(s.at("f").c_str(), &st);
      s.say(std::string(what) + " atime " + std::to_string(st.st_atim.tv_sec) + "." +
            std::to_string(st.st_atim.tv_nsec) + " mtime " + std::to_string(st.st_mtim.tv_sec) + "." +
            std::to_string(st.st_mtim.tv_nsec));
    };
    s.note("chmod", ::chmod(s.at("f").c_str(), 06751));
    s.note_stat("f");
    s.note("chown", ::chown(s.at("f").c_str(), 1234, 4321));
    s.note_stat("f");
    s.note("chown one", ::chown(s.at("f").c_str(), static_cast<uid_t>(-1), 77));
    s.note_stat("f");
    const timespec exact[2] = {{1'000'000'000, 123'456'789}, {-5, 999'999'999}};
    s.note("utimens", ::utimensat(AT_FDCWD, s.at("f").c_str(), exact, 0));
    times("exact");
    const timespec omit[2] = {{0, UTIME_OMIT}, {42, 7}};
    s.note("utimens omit", ::utimensat(AT_FDCWD, s.at("f").c_str(), omit, 0));
    times("omit");
    s.note("truncate shorter", ::truncate(s.at("f").c_str(), 3));
    s.note_content("f");
    s.note("truncate longer", ::truncate(s.at("f").c_str(), 100'000));
    s.note_content("f");
    s.note("truncate negative", ::truncate(s.at("f").c_str(), -1));
    s.note("truncate a directory", ::truncate(s.at(".").c_str(), 0));
    s.note("symlink", ::symlink("f", s.at("l").c_str()));
    s.note("lchown", ::lchown(s.at("l").c_str(), 9, 9));
    s.note_stat("l");
    s.note_stat("f");
    s.note("utimens of a link", ::utimensat(AT_FDCWD, s.at("l").c_str(), exact, AT_SYMLINK_NOFOLLOW));
    s.note("access", ::access(s.at("f").c_str(), R_OK | W_OK));
    s.note("access missing", ::access(s.at("g").c_str(), F_OK));
    struct statvfs v {};
    s.note("statfs", ::statvfs(s.at("f").c_str(), &v));
    s.note("name length", static_cast<long>(v.f_namemax));
  });
}

TEST_F(Operations, PermissionsHold) {
  expect_same([](Script& s) {
    ::chmod(s.at(".").c_str(), 0755);
    s.make("private");
    ::chmod(s.at("private").c_str(), 0600);
    ::mkdir(s.at("closed").c_str(), 0700);
    ::mkdir(s.at("sticky").c_str(), 01777);
    s.make("sticky/f");
    ::chmod(s.at("sticky").c_str(), 01777);
    // What a user without rights may do, seen from a child that has given root up.
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(1);
      Script as_user(s.at(""));
      as_user.note_fd("open", ::open(s.at("private").c_str(), O_RDONLY));
      as_user.note_fd("make", ::open(s.at("mine").c_str(), O_CREAT | O_RDWR, 0600));
      as_user.note("list", ::access(s.at("closed").c_str(), R_OK));
      as_user.note("remove", ::unlink(s.at("sticky/f").c_str()));
      as_user.note("chmod", ::chmod(s.at("private").c_str(), 0666));
      as_user.note_fd("make in sticky", ::open(s.at("sticky/mine").c_str(), O_CREAT | O_RDWR, 0600));
      std::string all;
      for (const auto& note : as_user.notes) all += note + ";";
      (void)!::write(ends[1], all.data(), all.size());
      ::_exit(0);
    }
    ::close(ends[1]);
    char room[4096] = {};
    (void)!::read(ends[0], room, sizeof room - 1);
    ::close(ends[0]);
    ::waitpid(child, nullptr, 0);
    s.say(room);
    s.note_stat("sticky/mine");
  });
}

/// A file with set-user-ID and set-group-ID that anybody may write to.
void make_set_id(Script& s, const std::string& name, unsigned mode) {
  s.make(name);
  (void)!::chown(s.at(name).c_str(), 1000, 1000);
  s.note("chmod " + name, ::chmod(s.at(name).c_str(), mode));
}

/// Runs `act` as a user without rights, in a child.
template <class Act>
void as_nobody(Act act) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(1);
    act();
    ::_exit(0);
  }
  int status = 1;
  ::waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
}

TEST_F(Operations, ChangesByOthersDropSetId) {
  expect_same([](Script& s) {
    ::chmod(s.at(".").c_str(), 0755);
    const auto changes = [&s](const std::string& name, auto change) {
      for (const unsigned mode : {06777U, 04766U, 02766U, 02777U}) {
        make_set_id(s, name, mode);
        change(s.at(name));
        s.note_stat(name);
        s.note_content(name);
        make_set_id(s, name, mode);
        as_nobody([&] { change(s.at(name)); });
        s.note_stat(name);
        s.note_content(name);
      }
    };
    const auto with_open = [](int flags, auto act) {
      return [flags, act](const std::string& path) {
        const int fd = ::open(path.c_str(), flags, 0644);
        if (fd < 0) return;
        act(fd);
        ::close(fd);
      };
    };
    changes("written", with_open(O_WRONLY, [](int fd) { (void)!::write(fd, "new", 3); }));
    changes("written twice", with_open(O_WRONLY, [](int fd) {
              (void)!::write(fd, "new", 3);
              (void)!::write(fd, "er", 2);
            }));
    changes("appended", with_open(O_WRONLY | O_APPEND, [](int fd) { (void)!::write(fd, "new", 3); }));
    changes("opened empty", with_open(O_WRONLY | O_TRUNC, [](int) {}));
    changes("made again", with_open(O_WRONLY | O_CREAT | O_TRUNC, [](int) {}));
    changes("only opened", with_open(O_RDWR, [](int) {}));
    changes("cut", [](const std::string& path) { (void)!::truncate(path.c_str(), 3); });
    changes("cut open", with_open(O_WRONLY, [](int fd) { (void)!::ftruncate(fd, 3); }));
    changes("allocated", with_open(O_WRONLY, [](int fd) { (void)::fallocate(fd, 0, 0, 5000); }));
    for (const unsigned mode : {06777U, 04766U, 02766U}) {
      make_set_id(s, "given away", mode);
      s.note("chown", ::chown(s.at("given away").c_str(), 1001, 1001));
      s.note_stat("given away");
    }
  });
}

TEST_F(Operations, AWriteDropsCapabilities) {
  expect_same([](Script& s) {
    s.make("f");
    // cap_net_raw, permitted, in the second version of the format.
    const unsigned char capability[20] = {0, 0, 0, 2, 0, 0x20};
    const auto path = s.at("f");
    for (int round = 0; round < 2; ++round) {
      s.note("set", ::setxattr(path.c_str(), "security.capability", capability, sizeof capability, 0));
      char room[64];
      s.note("get", ::getxattr(path.c_str(), "security.capability", room, sizeof room));
      const int fd = ::open(path.c_str(), O_WRONLY);
      for (int turn = 0; turn < 3; ++turn) {
        s.note("write", ::write(fd, "new", 3));
        s.note("get after a write", ::getxattr(path.c_str(), "security.capability", room, sizeof room));
      }
      ::close(fd);
    }
  });
}

TEST_F(Operations, ExtendedAttributes) {
  expect_same([](Script& s) {
    s.make("f");
    const auto path = s.at("f");
    char room[65536];
    s.note("get missing", ::getxattr(path.c_str(), "user.a", room, sizeof room));
    s.note("set", ::setxattr(path.c_str(), "user.a", "value", 5, 0));
    s.note("create over", ::setxattr(path.c_str(), "user.a", "value", 5, XATTR_CREATE));
    s.note("replace missing", ::setxattr(path.c_str(), "user.b", "value", 5, XATTR_REPLACE));
    s.note("set empty", ::setxattr(path.c_str(), "user.empty", "", 0, 0));
    s.note("set binary", ::setxattr(path.c_str(), "user.binary", "\0\1\2", 3, XATTR_CREATE));
    s.note("get", ::getxattr(path.c_str(), "user.a", room, sizeof room));
    s.note("get size", ::getxattr(path.c_str(), "user.a", nullptr, 0));
    s.note("get too small", ::getxattr(path.c_str(), "user.a", room, 2));
    s.note("get empty", ::getxattr(path.c_str(), "user.empty", room, sizeof room));
    s.note("remove", ::removexattr(path.c_str(), "user.a"));
    s.note("remove again", ::removexattr(path.c_str(), "user.a"));
    const long length = ::listxattr(path.c_str(), room, sizeof room);
    std::set<std::string> names;
    for (long i = 0; i < length; i += static_cast<long>(std::strlen(room + i)) + 1) {
      if (std::string_view(room + i).starts_with("user.")) names.insert(room + i);
    }
    for (const auto& name : names) s.say(name);
    ::mkdir(s.at("d").c_str(), 0755);
    s.note("set on a directory", ::setxattr(s.at("d").c_str(), "user.d", "v", 1, 0));
    s.note("trusted", ::setxattr(path.c_str(), "trusted.t", "v", 1, 0));
    s.note("trusted get", ::getxattr(path.c_str(), "trusted.t", room, sizeof room));
    s.note("no namespace", ::setxattr(path.c_str(), "nonsense.t", "v", 1, 0));
    const std::string long_name = "user." + std::string(251, 'n');
    s.note("long name", ::setxattr(path.c_str(), long_name.c_str(), "v", 1, 0));
  });
}

TEST_F(Operations, Locks) {
  expect_same([](Script& s) {
    s.make("f");
    const int one = ::open(s.at("f").c_str(), O_RDWR);
    const int two = ::open(s.at("f").c_str(), O_RDWR);
    s.note("flock", ::flock(one, LOCK_EX | LOCK_NB));
    s.note("flock other", ::flock(two, LOCK_SH | LOCK_NB));
    s.note("unlock", ::flock(one, LOCK_UN));
    s.note("flock other", ::flock(two, LOCK_SH | LOCK_NB));
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_len = 10;
    s.note("lock range", ::fcntl(one, F_OFD_SETLK, &lock));
    s.note("lock other", ::fcntl(two, F_OFD_SETLK, &lock));
    lock.l_start = 10;
    s.note("lock behind", ::fcntl(two, F_OFD_SETLK, &lock));
    lock.l_start = 0;
    s.note("ask", ::fcntl(two, F_OFD_GETLK, &lock));
    s.note("held", lock.l_type == F_WRLCK ? 1 : 0);
    ::close(one);
    ::close(two);
  });
}

TEST_F(Operations, AllocateAndSeek) {
  expect_same([](Script& s) {
    constexpr long kMiB = 1L << 20;
    const int fd = ::open(s.at("f").c_str(), O_CREAT | O_RDWR, 0600);
    const std::string block(kMiB, 'b');
    s.note("allocate", ::fallocate(fd, 0, 0, kMiB));
    s.note_stat("f");
    s.note("keep size", ::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 4 * kMiB));
    s.note_stat("f");
    s.note("write", ::pwrite(fd, block.data(), block.size(), 4 * kMiB));
    s.note("fsync", ::fsync(fd));
    s.note("punch", ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * kMiB + 65536, 65536));
    s.note("zero", ::fallocate(fd, FALLOC_FL_ZERO_RANGE, 5 * kMiB - 100, 4096));
    s.note_stat("f");
    s.note("zero keep", ::fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 6 * kMiB, 4096));
    s.note_stat("f");
    s.note("punch alone", ::fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096));
    s.note("length 0", ::fallocate(fd, 0, 0, 0));
    s.note("negative", ::fallocate(fd, 0, -1, 10));
    ::close(fd);
    s.note_content("f");
    const int sparse = ::open(s.at("sparse").c_str(), O_CREAT | O_RDWR, 0600);
    s.note("write", ::pwrite(sparse, block.data(), 65536, 0));
    s.note("write", ::pwrite(sparse, block.data(), 65536, 8 * kMiB));
    s.note("size", ::ftruncate(sparse, 12 * kMiB));
    s.note("fsync", ::fsync(sparse));
    s.note("data", ::lseek(sparse, 0, SEEK_DATA));
    s.note("hole", ::lseek(sparse, 0, SEEK_HOLE));
    s.note("next data", ::lseek(sparse, 65536, SEEK_DATA));
    s.note("next hole", ::lseek(sparse, 8 * kMiB, SEEK_HOLE));
    s.note("no data", ::lseek(sparse, 9 * kMiB, SEEK_DATA));
    s.note("hole at the end", ::lseek(sparse, 12 * kMiB - 1, SEEK_HOLE));
    s.note("past the end", ::lseek(sparse, 12 * kMiB, SEEK_DATA));
    s.note("past the end", ::lseek(sparse, 13 * kMiB, SEEK_HOLE));
    ::close(sparse);
  });
}

TEST_F(Operations, CopyFileRange) {
  expect_same([](Script& s) {
    std::string bytes;
    for (int i = 0; i < 300'000; ++i) bytes += static_cast<char>(i * 7 + i / 256);
    s.make("from", bytes);
    const int from = ::open(s.at("from").c_str(), O_RDONLY);
    const int to = ::open(s.at("to").c_str(), O_CREAT | O_RDWR, 0600);
    const auto copy = [&](const char* what, int in, long in_at, int out, long out_at, std::size_t length) {
      off_t a = in_at;
      off_t b = out_at;
      std::size_t left = length;
      long total = 0;
      while (left > 0) {
        const long got = ::copy_file_range(in, &a, out, &b, left, 0);
        if (got < 0) {
          s.note(what, got);
          return;
        }
        if (got == 0) break;
        total += got;
        left -= static_cast<std::size_t>(got);
      }
      s.note(what, total);
    };
    copy("all", from, 0, to, 0, 300'000);
    s.note_content("to");
    copy("past the end", from, 299'000, to, 500'000, 5000);
    copy("within", to, 0, to, 1'000'000, 70'000);
    copy("overlapping", to, 0, to, 10, 100);
    ::close(from);
    ::close(to);
    s.note_content("to");
    s.note_stat("to");
  });
}

TEST_F(Operations, MemoryMaps) {
  expect_same([](Script& s) {
    constexpr std::size_t kLength = 3 * 4096 + 17;
    s.make("f", std::string(kLength, 'm'));
    const int fd = ::open(s.at("f").c_str(), O_RDWR);
    auto* shared = static_cast<char*>(::mmap(nullptr, kLength, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    auto* own = static_cast<char*>(::mmap(nullptr, kLength, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
    ASSERT_NE(shared, MAP_FAILED);
    ASSERT_NE(own, MAP_FAILED);
    std::memcpy(shared + 4000, "through the map", 15);
    own[0] = 'p';
    char room[16] = {};
    s.note("read what was mapped", ::pread(fd, room, 15, 4000));
    s.say(room);
    s.note("write", ::pwrite(fd, "write", 5, 9000));
    s.say(std::string(shared + 9000, 5));
    s.say(std::string(own, 1) + std::string(shared, 1));
    s.note("msync", ::msync(shared, kLength, MS_SYNC));
    ::munmap(shared, kLength);
    ::munmap(own, kLength);
    ::close(fd);
    s.note_content("f");
  });
}

TEST_F(Operations, ListingManyNames) {
  expect_same([](Script& s) {
    for (int i = 0; i < 3000; ++i) ::close(::open(s.at("name" + std::to_string(i)).c_str(), O_CREAT | O_WRONLY, 0600));
    s.note_list(".");
    DIR* directory = ::opendir(s.at(".").c_str());
    int seen = 0;
    long middle = 0;
    while (const dirent* entry = ::readdir(directory)) {
      if (++seen == 1500) middle = ::telldir(directory);
      (void)entry;
    }
    s.note("entries", seen);
    ::seekdir(directory, middle);
    int rest = 0;
    while (::readdir(directory) != nullptr) ++rest;
    s.note("entries from the middle", rest);
    ::rewinddir(directory);
    int removed = 0;
    while (const dirent* entry = ::readdir(directory)) {
      if (::unlinkat(::dirfd(directory), entry->d_name, 0) == 0) ++removed;
    }
    s.note("removed while listing", removed);
    ::closedir(directory);
    s.note_list(".");
  });
}

TEST_F(Operations, SyncingWorks) {
  expect_same([](Script& s) {
    const int fd = ::open(s.at("f").c_str(), O_CREAT | O_RDWR | O_SYNC, 0600);
    s.note("write synchronously", ::write(fd, "x", 1));
    s.note("fsync", ::fsync(fd));
    s.note("fdatasync", ::fdatasync(fd));
    s.note("syncfs", ::syncfs(fd));
    ::close(fd);
    // The kernel still has times of these to write back.
    for (int i = 0; i < 20; ++i) {
      s.make("written and removed");
      s.note("unlink", ::unlink(s.at("written and removed").c_str()));
    }
    s.make("left");
    const int left = ::open(s.at("left").c_str(), O_RDONLY);
    s.note("syncfs after removals", ::syncfs(left));
    ::close(left);
    const int directory = ::open(s.at(".").c_str(), O_RDONLY | O_DIRECTORY);
    s.note("fsync a directory", ::fsync(directory));
    ::close(directory);
  });
}

}  // namespace
}  // namespace ephfs::mount_tests
