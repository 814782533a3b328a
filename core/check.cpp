// SPDX-License-Identifier: Apache-2.0
#include "core/check.hpp"

#include <cstdio>
#include <cstdlib>

namespace ephfs::core {

void fail_check(const char* condition, const char* meaning, const char* file, unsigned line) {
  std::fprintf(stderr, "ephfs: %s:%u: broken invariant: %s (%s)\n", file, line, meaning, condition);
  std::abort();
}

}  // namespace ephfs::core
