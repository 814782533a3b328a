// SPDX-License-Identifier: Apache-2.0
// A random sequence of operations on the mount, compared byte for byte with a model in memory. The seed is printed; set
// EPHFS_SEED to repeat a run and EPHFS_STEPS for another length.
#include <cstdlib>
#include <map>
#include <memory>
#include <random>

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/mount/mounted_volume.hpp"

namespace ephfs::mount_tests {
namespace {

constexpr std::size_t kFileBytesMax = 3U << 20U;
constexpr int kNames = 6;

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

/// A file as it should be, shared by its hard links and open descriptors.
struct ModelFile {
  std::string bytes;
};

class RandomSteps {
 public:
  RandomSteps(MountedVolume& volume, std::uint64_t seed) : volume_(volume), random_(seed) {}

  void step() {
    switch (pick(22)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        return write_some();
      case 5:
      case 6:
      case 7:
      case 8:
        return read_some();
      case 9:
      case 10:
        return truncate();
      case 11:
      case 12:
        return write_through_map();
      case 13:
      case 14:
        return read_through_map();
      case 15:
        return rename();
      case 16:
        return link();
      case 17:
        return punch();
      case 18:
        return reopen();
      case 19:
        return pick(3) == 0 ? unlink() : append();
      case 20:
        return compare_one();
      default:
        return pick(20) == 0 ? sync_one() : zero_range();
    }
  }

  void compare_all() {
    close_all();
    for (const auto& [name, file] : names_) compare(name, file->bytes);
  }
  void remount() {
    close_all();
    ASSERT_TRUE(volume_.remount()) << volume_.error();
  }

 private:
  std::size_t pick(std::size_t below) { return random_() % below; }
  std::string random_name() { return "f" + std::to_string(pick(kNames)); }
  std::string path(const std::string& name) const { return (volume_.root() / name).string(); }

  /// Mostly small and unaligned, sometimes on page and block boundaries, sometimes long.
  std::size_t random_length() {
    switch (pick(6)) {
      case 0:
        return 4096 * (1 + pick(8));
      case 1:
        return 1 + pick(200'000);
      default:
        return 1 + pick(5000);
    }
  }
  std::size_t random_offset(std::size_t size) {
    const std::size_t at = pick(std::min(size + 10'000, kFileBytesMax - 300'000));
    return pick(3) == 0 ? at / 4096 * 4096 : at;
  }
  std::string random_bytes(std::size_t length) {
    std::string bytes(length, '\0');
    const auto first = random_();
    for (std::size_t i = 0; i < length; ++i) bytes[i] = static_cast<char>((first + i * 131) >> (i % 7));
    return bytes;
  }

  /// An open descriptor of a name, making the file when there is none.
  struct Opened {
    int fd;
    std::shared_ptr<ModelFile> file;
  };
  Opened& open(const std::string& name) {
    auto& file = names_[name];
    const bool is_new = file == nullptr;
    if (is_new) {
      file = std::make_shared<ModelFile>();
      forget(name);
    }
    const auto known = open_.find(name);
    if (known != open_.end()) return known->second;
    const int fd = ::open(path(name).c_str(), O_RDWR | (is_new ? O_CREAT | O_EXCL : 0), 0644);
    EXPECT_GE(fd, 0) << name << ": " << std::strerror(errno);
    return open_[name] = {fd, file};
  }
  void forget(const std::string& name) {
    const auto known = open_.find(name);
    if (known == open_.end()) return;
    ::close(known->second.fd);
    open_.erase(known);
  }
  void close_all() {
    for (auto& [name, opened] : open_) ::close(opened.fd);
    open_.clear();
  }

  static void put(std::string& model, std::size_t offset, const std::string& bytes) {
    if (model.size() < offset + bytes.size()) model.resize(offset + bytes.size(), '\0');
    model.replace(offset, bytes.size(), bytes);
  }

  void write_some() {
    auto& file = open(random_name());
    const std::size_t offset = random_offset(file.file->bytes.size());
    const std::string bytes = random_bytes(random_length());
    ASSERT_EQ(::pwrite(file.fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)),
              static_cast<ssize_t>(bytes.size()));
    put(file.file->bytes, offset, bytes);
  }
  void append() {
    const auto name = random_name();
    auto& file = open(name);
    if (file.file->bytes.size() > kFileBytesMax - 300'000) return;
    const std::string bytes = random_bytes(random_length());
    const int fd = ::open(path(name).c_str(), O_WRONLY | O_APPEND);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(::write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    ::close(fd);
    file.file->bytes += bytes;
  }
  void read_some() {
    auto& file = open(random_name());
    const std::size_t offset = random_offset(file.file->bytes.size());
    const std::size_t length = random_length();
    std::string bytes(length, '?');
    const ssize_t got = ::pread(file.fd, bytes.data(), length, static_cast<off_t>(offset));
    ASSERT_GE(got, 0) << std::strerror(errno);
    bytes.resize(static_cast<std::size_t>(got));
    const auto& model = file.file->bytes;
    const std::string expected = offset < model.size() ? model.substr(offset, length) : "";
    ASSERT_EQ(bytes.size(), expected.size());
    ASSERT_TRUE(bytes == expected) << "bytes differ at " << offset;
  }
  void truncate() {
    auto& file = open(random_name());
    const std::size_t size = random_offset(file.file->bytes.size());
    ASSERT_EQ(::ftruncate(file.fd, static_cast<off_t>(size)), 0);
    file.file->bytes.resize(size, '\0');
  }
  /// Maps the whole file shared and hands the mapping to `use`.
  template <class Use>
  void with_map(const Opened& file, Use use) {
    const std::size_t length = file.file->bytes.size();
    if (length == 0) return;
    auto* map = static_cast<char*>(::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0));
    ASSERT_NE(map, MAP_FAILED) << std::strerror(errno);
    use(map, length);
    ::munmap(map, length);
  }
  void write_through_map() {
    auto& file = open(random_name());
    with_map(file, [&](char* map, std::size_t length) {
      const std::size_t offset = pick(length);
      const std::string bytes = random_bytes(std::min(random_length(), length - offset));
      std::memcpy(map + offset, bytes.data(), bytes.size());
      put(file.file->bytes, offset, bytes);
    });
  }
  void read_through_map() {
    auto& file = open(random_name());
    with_map(file, [&](const char* map, std::size_t length) {
      const std::size_t offset = pick(length);
      const std::size_t count = std::min(random_length(), length - offset);
      ASSERT_EQ(std::memcmp(map + offset, file.file->bytes.data() + offset, count), 0) << "mapped bytes differ";
    });
  }
  void rename() {
    const auto from = random_name();
    const auto to = random_name();
    if (!names_.contains(from) || from == to) return;
    const bool exchange = names_.contains(to) && pick(3) == 0;
    ASSERT_EQ(::renameat2(AT_FDCWD, path(from).c_str(), AT_FDCWD, path(to).c_str(), exchange ? RENAME_EXCHANGE : 0), 0);
    forget(from);
    forget(to);
    if (exchange) {
      std::swap(names_[from], names_[to]);
    } else if (names_[from] == names_[to]) {
      return;  // two links of one file: rename does nothing
    } else {
      names_[to] = names_[from];
      names_.erase(from);
    }
  }
  void link() {
    const auto from = random_name();
    const auto to = random_name();
    if (!names_.contains(from) || names_.contains(to)) return;
    ASSERT_EQ(::link(path(from).c_str(), path(to).c_str()), 0);
    names_[to] = names_[from];
  }
  void unlink() {
    const auto name = random_name();
    if (!names_.contains(name)) return;
    ASSERT_EQ(::unlink(path(name).c_str()), 0);
    forget(name);
    names_.erase(name);
  }
  void blank(int mode) {
    auto& file = open(random_name());
    const std::size_t size = file.file->bytes.size();
    if (size == 0) return;
    const std::size_t offset = pick(size);
    const std::size_t length = std::min(random_length(), size - offset);
    ASSERT_EQ(::fallocate(file.fd, mode | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(length)),
              0);
    std::fill_n(file.file->bytes.begin() + static_cast<std::ptrdiff_t>(offset), length, '\0');
  }
  void punch() { blank(FALLOC_FL_PUNCH_HOLE); }
  void zero_range() { blank(FALLOC_FL_ZERO_RANGE); }
  void reopen() { forget(random_name()); }
  void sync_one() { ASSERT_EQ(::fsync(open(random_name()).fd), 0); }
  void compare_one() {
    const auto name = random_name();
    if (names_.contains(name)) compare(name, names_[name]->bytes);
  }
  void compare(const std::string& name, const std::string& expected) {
    const int fd = ::open(path(name).c_str(), O_RDONLY);
    ASSERT_GE(fd, 0) << name << ": " << std::strerror(errno);
    struct stat status {};
    ::fstat(fd, &status);
    std::string bytes(expected.size() + 1, '?');
    std::size_t have = 0;
    while (have < bytes.size()) {
      const ssize_t got = ::read(fd, bytes.data() + have, bytes.size() - have);
      ASSERT_GE(got, 0) << std::strerror(errno);
      if (got == 0) break;
      have += static_cast<std::size_t>(got);
    }
    ::close(fd);
    bytes.resize(have);
    ASSERT_EQ(static_cast<std::size_t>(status.st_size), expected.size()) << name;
    ASSERT_EQ(have, expected.size()) << name;
    ASSERT_TRUE(bytes == expected) << name << " differs at "
                                   << std::mismatch(bytes.begin(), bytes.end(), expected.begin()).first - bytes.begin();
  }

  MountedVolume& volume_;
  std::mt19937_64 random_;
  std::map<std::string, std::shared_ptr<ModelFile>> names_;
  std::map<std::string, Opened> open_;
};

TEST(RandomOperations, EqualTheModel) {
  const std::uint64_t seed = from_environment("EPHFS_SEED", 20261121);
  const std::uint64_t steps = from_environment("EPHFS_STEPS", 100'000);
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  MountedVolume volume;
  ASSERT_TRUE(volume.mounted()) << volume.error();
  RandomSteps model(volume, seed);
  for (std::uint64_t step = 0; step < steps && !::testing::Test::HasFailure(); ++step) {
    SCOPED_TRACE("step " + std::to_string(step) + " of seed " + std::to_string(seed));
    model.step();
    if (step % 10'000 == 9'999) model.remount();
  }
  if (!::testing::Test::HasFailure()) model.compare_all();
}

}  // namespace
}  // namespace ephfs::mount_tests
