// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/volume_files.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "meta/sqlite_catalog.hpp"

namespace ephfs::cli {
namespace {

namespace files = std::filesystem;
using core::Error;
using core::fail;
using core::Result;

constexpr const char* kCatalogFile = "catalog.db";
/// Of these there is at least one wherever a volume has been.
constexpr std::array kTraces{"keys", "wheel", kCatalogFile, "catalog.journal", "staging"};

bool has(const files::path& directory, const char* name) {
  std::error_code ignored;
  return files::exists(directory / name, ignored);
}

}  // namespace

bool has_volume_files(const files::path& directory) {
  return std::ranges::any_of(kTraces, [&](const char* name) { return has(directory, name); });
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

}  // namespace ephfs::cli
