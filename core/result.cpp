// SPDX-License-Identifier: Apache-2.0
#include "core/result.hpp"

#include <array>
#include <cerrno>
#include <ostream>
#include <system_error>

#include "core/check.hpp"

namespace ephfs::core {
namespace {

struct ErrorRow {
  Error code;
  std::string_view name;
  int number;
};

// The one errno table. The first row with a number is what from_errno gives for it.
constexpr std::array kErrors{
    ErrorRow{Error::invalid_argument, "invalid argument", EINVAL},
    ErrorRow{Error::not_found, "not found", ENOENT},
    ErrorRow{Error::gone, "gone: its deadline has passed", ENOENT},
    ErrorRow{Error::stale, "stale: its deadline has passed", ESTALE},
    ErrorRow{Error::exists, "already exists", EEXIST},
    ErrorRow{Error::not_directory, "not a directory", ENOTDIR},
    ErrorRow{Error::is_directory, "is a directory", EISDIR},
    ErrorRow{Error::not_empty, "directory not empty", ENOTEMPTY},
    ErrorRow{Error::name_too_long, "name too long", ENAMETOOLONG},
    ErrorRow{Error::too_many_links, "too many links", EMLINK},
    ErrorRow{Error::not_permitted, "not permitted", EPERM},
    ErrorRow{Error::access_denied, "access denied", EACCES},
    ErrorRow{Error::no_space, "no space left", ENOSPC},
    ErrorRow{Error::quota_exceeded, "quota exceeded", EDQUOT},
    ErrorRow{Error::file_too_large, "file too large", EFBIG},
    ErrorRow{Error::no_attribute, "no such attribute", ENODATA},
    ErrorRow{Error::buffer_too_small, "buffer too small", ERANGE},
    ErrorRow{Error::read_only, "read-only", EROFS},
    ErrorRow{Error::not_supported, "not supported", EOPNOTSUPP},
    ErrorRow{Error::busy, "busy", EBUSY},
    ErrorRow{Error::would_block, "would block", EAGAIN},
    ErrorRow{Error::interrupted, "interrupted", EINTR},
    ErrorRow{Error::cancelled, "cancelled", EINTR},
    ErrorRow{Error::io, "input/output error", EIO},
    ErrorRow{Error::timed_out, "timed out", EIO},
    ErrorRow{Error::unreachable, "peer unreachable", EIO},
    ErrorRow{Error::damaged, "damaged", EIO},
    ErrorRow{Error::protocol, "protocol error", EIO},
    ErrorRow{Error::version, "unsupported version", EIO},
    ErrorRow{Error::bad_passphrase, "wrong passphrase", EACCES},
    ErrorRow{Error::no_memory, "out of memory", ENOMEM},
};

const ErrorRow& row_of(Error code) noexcept {
  for (const auto& row : kErrors) {
    if (row.code == code) return row;
  }
  fail_check("row_of", "every error code has a row in the errno table");
}

}  // namespace

std::string_view to_string(Error code) noexcept {
  return row_of(code).name;
}

int to_errno(Error code) noexcept {
  return row_of(code).number;
}

Error from_errno(int number) noexcept {
  for (const auto& row : kErrors) {
    if (row.number == number) return row.code;
  }
  return Error::io;
}

std::string Failure::message() const {
  const std::string name(to_string(code));
  // A failure that was the cause of another of the same code has said it.
  if (detail.empty() || detail == name || detail.ends_with(": " + name)) return detail.empty() ? name : detail;
  return detail + ": " + name;
}

std::ostream& operator<<(std::ostream& out, const Failure& failure) {
  return out << failure.message();
}

Failure fail_errno(std::string_view operation) {
  return fail_errno(operation, errno);
}

Failure fail_errno(std::string_view operation, int number) {
  const Error code = from_errno(number);
  std::string detail(operation);
  // The code's own words say the rest, except where many numbers share one code.
  if (code == Error::io && number != EIO) detail += ": " + std::generic_category().message(number);
  return {code, std::move(detail)};
}

void throw_exception_from_error(const Failure& failure, const boost::source_location&) {
  fail_check(failure.message().c_str(), "a Result was read without looking whether it failed");
}

}  // namespace ephfs::core
