// SPDX-License-Identifier: Apache-2.0
// How every expected failure travels: a Result<T> holds a value or a Failure, and a Failure is a code plus words for
// a person. Codes become errno values in one table (to_errno), used by fs/ when it answers the kernel.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <utility>

#include <boost/system/result.hpp>

namespace ephfs::core {

enum class Error : std::uint8_t {
  invalid_argument,
  not_found,
  gone,   // a path whose deadline has passed
  stale,  // an open descriptor whose file's deadline has passed
  exists,
  not_directory,
  is_directory,
  not_empty,
  name_too_long,
  too_many_links,
  not_permitted,  // the caller may never do this (EPERM)
  access_denied,  // the caller may not do this here (EACCES)
  no_space,
  quota_exceeded,
  file_too_large,
  no_attribute,
  buffer_too_small,
  read_only,
  not_supported,
  busy,
  would_block,  // the answer is not in memory or on this disk: use the awaitable form
  interrupted,
  cancelled,
  timed_out,
  unreachable,  // no connection to the peer
  damaged,      // stored or received bytes fail their check
  protocol,     // a peer broke the protocol
  version,      // a format or peer of another version
  bad_passphrase,
  io,
  no_memory,
};

/// The name of the code, as written above.
[[nodiscard]] std::string_view to_string(Error code) noexcept;

/// The errno a caller of the file system sees for `code`.
[[nodiscard]] int to_errno(Error code) noexcept;

/// The code for an errno that a system call left behind; what has no code of its own is Error::io.
[[nodiscard]] Error from_errno(int number) noexcept;

/// What failed. `detail` says what and where in one line, for people; it never holds a secret.
struct Failure {
  Error code = Error::io;
  std::string detail;

  /// "detail: code", or the code alone where there is no detail; the code's words are not said twice.
  [[nodiscard]] std::string message() const;

  friend bool operator==(const Failure& a, const Failure& b) { return a.code == b.code; }
};

std::ostream& operator<<(std::ostream& out, const Failure& failure);

template <class T = void>
using Result = boost::system::result<T, Failure>;

/// A Failure of `code`, with `detail`.
[[nodiscard]] inline Failure fail(Error code, std::string detail = {}) {
  return {code, std::move(detail)};
}

/// A Failure for the current errno: "operation: strerror".
[[nodiscard]] Failure fail_errno(std::string_view operation);
[[nodiscard]] Failure fail_errno(std::string_view operation, int number);

/// Result::value() on a failure is a broken invariant: aborts. (Found by argument-dependent look-up.)
[[noreturn]] void throw_exception_from_error(const Failure& failure, const boost::source_location& where);

}  // namespace ephfs::core

#define EPHFS_CONCAT_(a, b) a##b
#define EPHFS_CONCAT(a, b) EPHFS_CONCAT_(a, b)
#define EPHFS_TRY_IMPL(temporary, declaration, expression, leave) \
  auto temporary = (expression);                                  \
  if (!temporary) leave std::move(temporary).error();             \
  declaration = *std::move(temporary)

/// EPHFS_TRY(auto x, f()); declares x from f()'s value, or returns f()'s failure.
#define EPHFS_TRY(declaration, expression) \
  EPHFS_TRY_IMPL(EPHFS_CONCAT(result_, __LINE__), declaration, expression, return )
/// The same in a coroutine.
#define EPHFS_CO_TRY(declaration, expression) \
  EPHFS_TRY_IMPL(EPHFS_CONCAT(result_, __LINE__), declaration, expression, co_return )

/// EPHFS_TRY_VOID(f()); returns f()'s failure, for a Result whose value is not needed.
#define EPHFS_TRY_VOID(expression)                                                \
  do {                                                                            \
    if (auto result_ = (expression); !result_) return std::move(result_).error(); \
  } while (false)
#define EPHFS_CO_TRY_VOID(expression)                                                \
  do {                                                                               \
    if (auto result_ = (expression); !result_) co_return std::move(result_).error(); \
  } while (false)
