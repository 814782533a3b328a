// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse_wire.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>

#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

namespace ephfs::fs {
namespace {

thread_local bool drops_set_id = false;
thread_local bool makes_unnamed = false;
/// The request for which FUSE_HANDLE_KILLPRIV_V2 was offered and is to be taken; 0 when there is none.
std::atomic<std::uint64_t> init_request{0};

template <class Body>
Body body_of(core::ByteView request) {
  Body body{};
  const auto bytes = request.subspan(sizeof(fuse_in_header));
  std::memcpy(&body, bytes.data(), std::min(bytes.size(), sizeof body));
  return body;
}

void look_at(core::MutableByteView request) {
  drops_set_id = false;
  makes_unnamed = false;
  if (request.size() < sizeof(fuse_in_header)) return;
  fuse_in_header header{};
  std::memcpy(&header, request.data(), sizeof header);
  switch (header.opcode) {
    case FUSE_INIT:
      if ((body_of<fuse_init_in>(request).flags & FUSE_HANDLE_KILLPRIV_V2) != 0) init_request = header.unique;
      break;
    case FUSE_WRITE:
      drops_set_id = (body_of<fuse_write_in>(request).write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
      break;
    case FUSE_OPEN:
      drops_set_id = (body_of<fuse_open_in>(request).open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
      break;
    case FUSE_SETATTR:
      drops_set_id = (body_of<fuse_setattr_in>(request).valid & FATTR_KILL_SUIDGID) != 0;
      break;
    case FUSE_TMPFILE:
      makes_unnamed = true;
      header.opcode = FUSE_CREATE;
      std::memcpy(request.data(), &header, sizeof header);
      break;
    default:
      break;
  }
}

/// Adds our flag to libfuse's answer to FUSE_INIT: a header and a fuse_init_out, of which older kernels take less.
void complete_init(const iovec* parts, int count) {
  if (count != 2 || parts[0].iov_len != sizeof(fuse_out_header)) return;
  fuse_out_header header{};
  std::memcpy(&header, parts[0].iov_base, sizeof header);
  constexpr std::size_t kFlagsEnd = offsetof(fuse_init_out, flags) + sizeof(fuse_init_out::flags);
  if (header.error != 0 || parts[1].iov_len < kFlagsEnd) return;
  std::uint64_t awaited = header.unique;
  if (!init_request.compare_exchange_strong(awaited, 0)) return;
  auto* const flags = static_cast<char*>(parts[1].iov_base) + offsetof(fuse_init_out, flags);
  std::uint32_t value = 0;
  std::memcpy(&value, flags, sizeof value);
  value |= FUSE_HANDLE_KILLPRIV_V2;
  std::memcpy(flags, &value, sizeof value);
}

ssize_t read_request(int fd, void* buffer, std::size_t size, void*) {
  const ssize_t got = ::read(fd, buffer, size);
  if (got > 0) look_at({static_cast<std::byte*>(buffer), static_cast<std::size_t>(got)});
  return got;
}

ssize_t write_reply(int fd, iovec* parts, int count, void*) {
  if (init_request != 0) complete_init(parts, count);
  return ::writev(fd, parts, count);
}

}  // namespace

core::Result<> watch_wire(fuse_session* session) {
  constexpr fuse_custom_io kOurs{write_reply, read_request, nullptr, nullptr};
  const int status = fuse_session_custom_io(session, &kOurs, fuse_session_fd(session));
  if (status != 0) return core::fail_errno("taking over a FUSE session's reads and writes", -status);
  return {};
}

bool request_drops_set_id() {
  return drops_set_id;
}

bool request_makes_unnamed() {
  return makes_unnamed;
}

}  // namespace ephfs::fs
