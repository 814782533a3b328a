// SPDX-License-Identifier: Apache-2.0
#include "node/control_stream.hpp"

#include <algorithm>
#include <array>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "node/control_server.hpp"

namespace ephfs::node {
namespace {

using core::Error;
using core::fail;
using core::Result;
using std::chrono::milliseconds;

constexpr std::size_t kLineBytesMax = 64U << 10U;
constexpr std::size_t kHeadBytesMax = 4096;
constexpr milliseconds kHeadPatience{5000};

milliseconds left_until(std::chrono::steady_clock::time_point end) {
  const auto left = std::chrono::ceil<milliseconds>(end - std::chrono::steady_clock::now());
  return std::max(left, milliseconds{0});
}

}  // namespace

Result<ControlStream> ControlStream::open(const std::filesystem::path& path, const std::string& target) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  EPHFS_TRY_VOID(check_socket_path(path));
  std::ranges::copy(path.native(), address.sun_path);
  core::FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) return core::fail_errno("socket");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ECONNREFUSED || errno == ENOENT) return fail(Error::unreachable, path.string());
    return core::fail_errno(path.string());
  }
  const std::string request = "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
  // Short enough for an empty socket buffer.
  if (::send(socket.get(), request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
    return core::fail_errno(path.string());
  }
  ControlStream stream(std::move(socket), path);
  EPHFS_TRY_VOID(stream.read_head());
  return stream;
}

Result<> ControlStream::read_head() {
  const auto end = std::chrono::steady_clock::now() + kHeadPatience;
  std::size_t head = std::string::npos;
  while ((head = held_.find("\r\n\r\n")) == std::string::npos) {
    if (held_.size() > kHeadBytesMax) return fail(Error::protocol, path_.string());
    EPHFS_TRY(const bool came, fill(left_until(end)));
    if (!came) return fail(Error::timed_out, path_.string());
  }
  const std::string status = held_.substr(0, held_.find("\r\n"));
  held_.erase(0, head + 4);
  if (status.starts_with("HTTP/1.1 200")) return {};
  if (status.starts_with("HTTP/1.1 404")) return fail(Error::not_found, path_.string() + " tells no events");
  if (status.starts_with("HTTP/1.1 503")) return fail(Error::busy, path_.string() + ": too many listen to its events");
  return fail(Error::protocol, path_.string());
}

/// Whether anything came in time.
Result<bool> ControlStream::fill(milliseconds patience) {
  pollfd wait{socket_.get(), POLLIN, 0};
  const int ready = ::poll(&wait, 1, static_cast<int>(std::min<std::int64_t>(patience.count(), 60'000)));
  if (ready < 0 && errno != EINTR) return core::fail_errno(path_.string());
  if (ready <= 0) return false;
  std::array<char, 16384> room{};
  const ssize_t got = ::recv(socket_.get(), room.data(), room.size(), 0);
  if (got < 0 && errno == EINTR) return false;
  if (got < 0) return core::fail_errno(path_.string());
  if (got == 0) return fail(Error::unreachable, path_.string() + " has ended");
  held_.append(room.data(), static_cast<std::size_t>(got));
  return true;
}

Result<std::optional<std::string>> ControlStream::next(milliseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  for (;;) {
    const std::size_t line_end = held_.find('\n');
    if (line_end != std::string::npos) {
      std::string line = held_.substr(0, line_end);
      held_.erase(0, line_end + 1);
      if (!line.empty()) return std::optional(std::move(line));
      continue;
    }
    if (held_.size() > kLineBytesMax) return fail(Error::protocol, path_.string() + ": a line without an end");
    EPHFS_TRY(const bool came, fill(left_until(end)));
    if (!came) return std::optional<std::string>();
  }
}

}  // namespace ephfs::node
