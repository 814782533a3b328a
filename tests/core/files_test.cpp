// SPDX-License-Identifier: Apache-2.0
#include "core/files.hpp"

#include <atomic>
#include <fstream>
#include <limits>
#include <thread>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/seeded.hpp"
#include "tests/support/temp_dir.hpp"

namespace ephfs::core::testing {
namespace {

class FilesTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(dir_.path()), std::filesystem::directory_iterator()));
  }
  [[nodiscard]] static unsigned mode_of(const std::filesystem::path& path) {
    struct stat status {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0);
    return status.st_mode & 07777U;
  }

  ephfs::testing::TempDir dir_;
};

TEST_F(FilesTest, WritesAndReadsAtOffsets) {
  const auto file = open_file(dir_ / "f", O_RDWR | O_CREAT);
  ASSERT_TRUE(file) << file.error();
  ASSERT_TRUE(write_all(*file, 5, as_bytes("world")));
  ASSERT_TRUE(write_all(*file, 0, as_bytes("hello")));
  Bytes out(8);
  ASSERT_TRUE(read_exactly(*file, 2, out));
  EXPECT_EQ(as_text(out), "lloworld");
  EXPECT_TRUE(sync_data(*file));
  EXPECT_TRUE(write_all(*file, 0, {}));
  EXPECT_TRUE(read_exactly(*file, 100, {}));
}

TEST_F(FilesTest, AFileThatEndsTooEarlyIsDamaged) {
  const auto file = open_file(dir_ / "f", O_RDWR | O_CREAT);
  ASSERT_TRUE(write_all(*file, 0, as_bytes("12345")));
  Bytes out(4);
  EXPECT_EQ(read_exactly(*file, 2, out).error().code, Error::damaged);
  EXPECT_EQ(read_exactly(*file, 100, out).error().code, Error::damaged);
  EXPECT_EQ(read_exactly(*file, std::numeric_limits<std::uint64_t>::max(), out).error().code, Error::damaged);
}

TEST_F(FilesTest, RefusesOffsetsThatNoFileHas) {
  const auto file = open_file(dir_ / "f", O_RDWR | O_CREAT);
  for (const std::uint64_t offset :
       {std::numeric_limits<std::uint64_t>::max(), std::uint64_t{1} << 63U, (std::uint64_t{1} << 63U) - 2}) {
    EXPECT_EQ(write_all(*file, offset, as_bytes("abc")).error().code, Error::file_too_large) << offset;
  }
}

TEST_F(FilesTest, SaysWhyAFileDoesNotOpen) {
  const auto missing = open_file(dir_ / "missing", O_RDONLY);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Error::not_found);
  EXPECT_NE(missing.error().detail.find("missing"), std::string::npos);
  EXPECT_EQ(open_file(dir_.path(), O_WRONLY).error().code, Error::is_directory);
  EXPECT_EQ(read_file(dir_.path(), 10).error().code, Error::is_directory);
  EXPECT_EQ(read_file(dir_ / "missing", 10).error().code, Error::not_found);
  EXPECT_FALSE(write_all(FileDescriptor(), 0, as_bytes("x")));
}

TEST_F(FilesTest, DescriptorsAreNotInheritedAndAreClosed) {
  int number = -1;
  {
    auto file = open_file(dir_ / "f", O_RDWR | O_CREAT);
    ASSERT_TRUE(file);
    number = file->get();
    EXPECT_NE(::fcntl(number, F_GETFD) & FD_CLOEXEC, 0);
    FileDescriptor moved = std::move(*file);
    EXPECT_FALSE(file->is_open());
    moved = FileDescriptor(::dup(moved.get()));
    EXPECT_EQ(::fcntl(number, F_GETFD), -1);
    number = moved.get();
  }
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
}

TEST_F(FilesTest, ReadsAWholeFileUpToItsLimit) {
  ephfs::testing::Random random;
  EPHFS_TRACE_SEED(random);
  for (const std::size_t size : {0UL, 1UL, 4095UL, 4096UL, 100'000UL}) {
    const Bytes content = random.bytes(size);
    ASSERT_TRUE(replace_file(dir_ / "f", content, 0600));
    const auto exact = read_file(dir_ / "f", size);
    ASSERT_TRUE(exact) << exact.error();
    EXPECT_EQ(*exact, content);
    EXPECT_EQ(*read_file(dir_ / "f", std::numeric_limits<std::size_t>::max()), content);
    if (size > 0) {
      EXPECT_EQ(read_file(dir_ / "f", size - 1).error().code, Error::damaged);
    }
  }
  // A file whose size the system does not say beforehand.
  const auto status = read_file("/proc/self/status", 1 << 20);
  ASSERT_TRUE(status);
  EXPECT_TRUE(as_text(*status).starts_with("Name:"));
}

TEST_F(FilesTest, ReplacesContentAndModeAndLeavesNothingBeside) {
  const auto path = dir_ / "f";
  ASSERT_TRUE(replace_file(path, as_bytes("old"), 0644));
  EXPECT_EQ(mode_of(path), 0644U);
  ASSERT_TRUE(replace_file(path, as_bytes("new"), 0600));
  EXPECT_EQ(mode_of(path), 0600U);
  EXPECT_EQ(as_text(*read_file(path, 100)), "new");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(FilesTest, AReplacementIsANewFile) {
  const auto path = dir_ / "f";
  ASSERT_TRUE(replace_file(path, as_bytes("old content"), 0600));
  const auto before = open_file(path, O_RDONLY);
  ASSERT_TRUE(replace_file(path, as_bytes("new"), 0600));
  Bytes out(11);
  ASSERT_TRUE(read_exactly(*before, 0, out));
  EXPECT_EQ(as_text(out), "old content");
}

TEST_F(FilesTest, AFailedReplacementLeavesTheOldAndNothingBeside) {
  // A directory cannot be renamed over by a file: the last step fails after everything else was done.
  std::filesystem::create_directory(dir_ / "d");
  const auto replaced = replace_file(dir_ / "d", as_bytes("x"), 0600);
  ASSERT_FALSE(replaced);
  EXPECT_EQ(replaced.error().code, Error::is_directory);
  EXPECT_EQ(entries(), 1U);
  EXPECT_TRUE(std::filesystem::is_directory(dir_ / "d"));
  EXPECT_EQ(replace_file(dir_ / "missing/f", as_bytes("x"), 0600).error().code, Error::not_found);
}

TEST_F(FilesTest, ReadersOfAFileThatIsReplacedSeeOneVersion) {
  const auto path = dir_ / "f";
  const auto version = [](char c) { return std::string(20'000, c); };
  ASSERT_TRUE(replace_file(path, as_bytes(version('a')), 0600));
  std::atomic<bool> stop{false};
  std::atomic<int> torn{0};
  std::thread reader([&] {
    while (!stop) {
      const auto content = read_file(path, 1 << 20);
      const bool whole = content && (as_text(*content) == version('a') || as_text(*content) == version('b'));
      if (!whole) ++torn;
    }
  });
  std::thread rival([&] {
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(replace_file(path, as_bytes(version('a')), 0600));
  });
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(replace_file(path, as_bytes(version('b')), 0600));
  rival.join();
  stop = true;
  reader.join();
  EXPECT_EQ(torn, 0);
  EXPECT_EQ(entries(), 1U);
}

TEST_F(FilesTest, SyncsDirectoriesOnly) {
  EXPECT_TRUE(sync_directory(dir_.path()));
  ASSERT_TRUE(replace_file(dir_ / "f", {}, 0600));
  EXPECT_EQ(sync_directory(dir_ / "f").error().code, Error::not_directory);
}

}  // namespace
}  // namespace ephfs::core::testing
