// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace ephfs::core {

/// Reports a broken invariant of our own on standard error and aborts. Never returns. (Built-ins, because clang 14 has
/// no std::source_location.)
[[noreturn]] void fail_check(const char* condition, const char* meaning, const char* file = __builtin_FILE(),
                             unsigned line = __builtin_LINE());

}  // namespace ephfs::core

/// Stays on in every build. For what this program promises itself; bytes from outside are validated instead.
#define EPHFS_CHECK(condition, meaning)               \
  do {                                                \
    if (!(condition)) [[unlikely]]                    \
      ::ephfs::core::fail_check(#condition, meaning); \
  } while (false)
