// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/fetched_file.hpp"

#include <array>
#include <cstdio>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace ephfs::cli {
namespace {

using core::Error;
using core::fail;
using core::Result;

constexpr int kNamesTried = 1000;

Result<> rename_file(const std::string& from, const std::filesystem::path& to, bool replace) {
  const int done = replace ? ::rename(from.c_str(), to.c_str())
                           : ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE);
  if (done == 0) return {};
  if (errno == EEXIST) return fail(Error::exists, to.string());
  return core::fail_errno(to.string());
}

}  // namespace

Result<FetchedFile> FetchedFile::begin(const std::filesystem::path& directory) {
  std::string name = (directory / ".ephfs-fetch-XXXXXX").string();
  core::FileDescriptor file(::mkostemp(name.data(), O_CLOEXEC));
  if (!file.is_open()) return core::fail_errno("creating a file in " + directory.string());
  return FetchedFile(std::move(file), directory, std::move(name));
}

FetchedFile::~FetchedFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<> FetchedFile::set_size(std::uint64_t size) {
  if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0) return core::fail_errno("making room for the file");
  return {};
}

Result<> FetchedFile::copy_to(int fd) const {
  std::vector<char> room(std::size_t{1} << 20U);
  for (off_t at = 0;;) {
    const ssize_t got = ::pread(file_.get(), room.data(), room.size(), at);
    if (got < 0) return core::fail_errno("reading " + temporary_);
    if (got == 0) return {};
    at += got;
    for (ssize_t done = 0; done < got;) {
      const ssize_t put = ::write(fd, room.data() + done, static_cast<std::size_t>(got - done));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return core::fail_errno("writing what was fetched");
      done += put;
    }
  }
}

Result<std::filesystem::path> FetchedFile::finish(const std::string& name, std::uint32_t mode, std::int64_t modified_ns,
                                                  Existing existing) {
  const mode_t mask = ::umask(0);
  ::umask(mask);
  if (::fchmod(file_.get(), mode & 0777U & ~mask) != 0) return core::fail_errno("permissions of " + name);
  constexpr std::int64_t kSecond = 1'000'000'000;
  timespec modified{};
  modified.tv_nsec = (modified_ns % kSecond + kSecond) % kSecond;
  modified.tv_sec = (modified_ns - modified.tv_nsec) / kSecond;
  const std::array<timespec, 2> times{timespec{0, UTIME_OMIT}, modified};
  if (::futimens(file_.get(), times.data()) != 0) return core::fail_errno("times of " + name);
  if (::fsync(file_.get()) != 0) return core::fail_errno("syncing " + name);
  std::filesystem::path path = directory_ / name;
  auto renamed = rename_file(temporary_, path, existing == Existing::replace);
  for (int i = 1;
       !renamed && renamed.error().code == Error::exists && existing == Existing::step_aside && i < kNamesTried; ++i) {
    path = directory_ / (name + "." + std::to_string(i));
    renamed = rename_file(temporary_, path, false);
  }
  if (!renamed) return renamed.error();
  temporary_.clear();
  EPHFS_TRY_VOID(core::sync_directory(directory_));
  return path;
}

}  // namespace ephfs::cli
