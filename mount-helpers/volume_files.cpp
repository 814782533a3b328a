// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/volume_files.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "meta/sqlite_catalog.hpp"

namespace ephfs::cli {
namespace {

namespace files = std::filesystem;
using core::Error;
using core::fail;
using core::Result;

constexpr const char* kCatalogFile = "catalog.db";
constexpr const char* kLockFile = "volume.lock";
/// Of these there is at least one wherever a volume has been.
constexpr std::array kTraces{"keys", "wheel", kCatalogFile, "catalog.journal", "staging"};
/// What may be there before a volume is.
constexpr std::array<std::string_view, 5> kEarlier{"node", "config.yaml", kLockFile, "clock", "lost+found"};

bool has(const files::path& directory, const char* name) {
  std::error_code ignored;
  return files::exists(directory / name, ignored);
}

std::set<std::string> names_in(const files::path& directory, std::error_code& error) {
  std::set<std::string> names;
  files::directory_iterator entries(directory, error);
  for (; !error && entries != files::directory_iterator(); entries.increment(error)) {
    names.insert(entries->path().filename());
  }
  return names;
}

}  // namespace

bool has_volume_files(const files::path& directory) {
  return std::ranges::any_of(kTraces, [&](const char* name) { return has(directory, name); });
}

Result<> check_fit_for_volume(const files::path& directory) {
  std::error_code error;
  if (!files::exists(directory, error) || has_volume_files(directory)) return {};
  files::directory_iterator entries(directory, error);
  for (; !error && entries != files::directory_iterator(); entries.increment(error)) {
    const auto name = entries->path().filename().native();
    if (std::ranges::find(kEarlier, name) != kEarlier.end()) continue;
    return fail(Error::not_empty, "volume " + directory.string() + " would be made among other files, as " + name);
  }
  if (error) return core::fail_errno(directory.string(), error.value());
  return {};
}

Result<bool> holds_volume(const files::path& directory) {
  if (!has_volume_files(directory)) return false;
  const auto gone = [&](const char* name, const std::string& what) {
    return fail(Error::not_found, (directory / name).string() + ": the volume's " + what + " is gone");
  };
  if (!has(directory, "keys")) return gone("keys", "key file");
  if (!has(directory, "wheel")) return gone("wheel", "key wheel");
  if (!meta::holds_catalog(directory / kCatalogFile)) return gone(kCatalogFile, "catalog");
  return true;
}

NewVolume::NewVolume(files::path directory, bool made_directory)
    : directory_(std::move(directory)), made_directory_(made_directory) {
  if (made_directory_) return;
  std::error_code error;
  before_ = names_in(directory_, error);
  before_.insert(kLockFile);  // others may be waiting for it
  kept_ = bool(error);        // what was there is not known
}

NewVolume::~NewVolume() {
  if (kept_) return;
  std::error_code ignored;
  for (const auto& name : names_in(directory_, ignored)) {
    if (!before_.contains(name)) files::remove_all(directory_ / name, ignored);
  }
  if (made_directory_) files::remove(directory_, ignored);
}

}  // namespace ephfs::cli
