// SPDX-License-Identifier: Apache-2.0
#include "tests/support/temp_dir.hpp"

#include <cstdlib>
#include <string>
#include <system_error>

#include <unistd.h>

#include "core/check.hpp"

namespace ephfs::testing {
namespace {

std::filesystem::path place_for_tests() {
  if (const char* chosen = std::getenv("TMPDIR"); chosen != nullptr && *chosen != '\0') return chosen;
  return ::access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
}

}  // namespace

TempDir::TempDir() {
  std::string name = (place_for_tests() / "ephfs-test-XXXXXX").string();
  EPHFS_CHECK(::mkdtemp(name.data()) != nullptr, "the place for tests takes a new directory");
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace ephfs::testing
