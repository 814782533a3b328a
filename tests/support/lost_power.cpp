// SPDX-License-Identifier: Apache-2.0
#include "tests/support/lost_power.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <set>

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/files.hpp"

namespace ephfs::testing {
namespace {

namespace files = std::filesystem;

constexpr std::size_t kFileBytesMax = std::size_t{64} << 20U;
constexpr std::size_t kPage = 4096;

std::atomic<LostPower*> watching = nullptr;

ino_t inode_of(const files::path& path) {
  struct stat facts {};
  return ::lstat(path.c_str(), &facts) == 0 ? facts.st_ino : 0;
}

core::Bytes content_of(const files::path& path) {
  auto content = core::read_file(path, kFileBytesMax);
  return content ? *std::move(content) : core::Bytes();
}

/// All files below a directory, by their paths from there.
std::map<files::path, ino_t> names_below(const files::path& directory) {
  std::map<files::path, ino_t> names;
  for (const auto& entry : files::recursive_directory_iterator(directory)) {
    if (!entry.is_directory()) names[entry.path().lexically_relative(directory)] = inode_of(entry.path());
  }
  return names;
}

files::path path_of(int descriptor) {
  std::array<char, PATH_MAX> room{};
  const auto link = "/proc/self/fd/" + std::to_string(descriptor);
  const ssize_t length = ::readlink(link.c_str(), room.data(), room.size());
  return length <= 0 ? files::path() : files::path(std::string(room.data(), static_cast<std::size_t>(length)));
}

}  // namespace

LostPower::LostPower(files::path directory) : directory_(files::canonical(directory)), names_(names_below(directory_)) {
  for (const auto& [path, inode] : names_) content_[inode] = content_of(directory_ / path);
  watching = this;
}

LostPower::~LostPower() {
  watching = nullptr;
}

bool LostPower::note_sync(int descriptor) {
  const files::path path = path_of(descriptor);
  if (!path.string().starts_with(directory_.string())) return false;
  struct stat facts {};
  if (::fstat(descriptor, &facts) != 0) return false;
  const std::lock_guard lock(mutex_);
  if (S_ISDIR(facts.st_mode)) {
    note_names(path.lexically_relative(directory_));
    return true;
  }
  core::Bytes content(static_cast<std::size_t>(facts.st_size));
  const ssize_t got = ::pread(descriptor, content.data(), content.size(), 0);
  content.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  content_[facts.st_ino] = std::move(content);
  return true;
}

void LostPower::note_names(const files::path& directory) {
  const auto is_in = [&](const files::path& path) {
    return path.parent_path() == (directory == "." ? files::path() : directory);
  };
  const Names now = names_below(directory_);
  std::set<ino_t> moved;
  std::erase_if(names_, [&](const auto& one) {
    const auto found = now.find(one.first);
    if (!is_in(one.first) || (found != now.end() && found->second == one.second)) return false;
    moved.insert(one.second);
    return true;
  });
  // What was renamed from here to elsewhere is there: a rename is done or not.
  for (const auto& [path, inode] : now) {
    if (is_in(path) || moved.contains(inode)) names_[path] = inode;
  }
}

core::Bytes LostPower::mixed(const core::Bytes& safe, const core::Bytes& now, Random& random) const {
  core::Bytes out(random.chance(2) ? safe.size() : now.size());
  for (std::size_t at = 0; at < out.size(); at += kPage) {
    const core::Bytes& from = random.chance(2) ? safe : now;
    if (at >= from.size()) continue;  // zeros
    const std::size_t length = std::min({kPage, out.size() - at, from.size() - at});
    std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(at), length, out.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return out;
}

void LostPower::leave(const files::path& image, Random& random) const {
  const std::lock_guard lock(mutex_);
  const Names now = names_below(directory_);
  std::map<ino_t, bool> is_as_now;
  for (const auto& [path, inode] : now) is_as_now.emplace(inode, false);
  for (const auto& [path, inode] : names_) is_as_now.emplace(inode, false);
  for (auto& [inode, chosen] : is_as_now) chosen = random.chance(2);
  Names left;
  for (const auto& [path, inode] : now) {
    if (is_as_now.at(inode)) left[path] = inode;
  }
  for (const auto& [path, inode] : names_) {
    // A name that was given to another file leads to one of the two.
    if (!is_as_now.at(inode) || (now.contains(path) && now.at(path) != inode)) left.emplace(path, inode);
  }
  files::create_directory(image);
  for (const auto& entry : files::recursive_directory_iterator(directory_)) {
    if (entry.is_directory()) files::create_directories(image / entry.path().lexically_relative(directory_));
  }
  for (const auto& [path, inode] : left) {
    const auto safe = content_.find(inode);
    const core::Bytes safe_bytes = safe == content_.end() ? core::Bytes() : safe->second;
    const auto is = std::ranges::find(now, inode, &Names::value_type::second);
    const core::Bytes bytes =
        is == now.end() ? safe_bytes : mixed(safe_bytes, content_of(directory_ / is->first), random);
    const auto file = core::open_file(image / path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    EPHFS_CHECK(file && core::write_all(*file, 0, bytes), "the image is written");
  }
}

}  // namespace ephfs::testing

extern "C" {

int fdatasync(int descriptor) {
  auto* const noting = ephfs::testing::watching.load();
  if (noting != nullptr && noting->note_sync(descriptor)) return 0;
  return static_cast<int>(::syscall(SYS_fdatasync, descriptor));
}

int fsync(int descriptor) {
  auto* const noting = ephfs::testing::watching.load();
  if (noting != nullptr && noting->note_sync(descriptor)) return 0;
  return static_cast<int>(::syscall(SYS_fsync, descriptor));
}
}
