// SPDX-License-Identifier: Apache-2.0
// FUSE requests about open files. Each tries on the thread that read the request; what would block becomes a coroutine.
#include <cerrno>
#include <optional>

#include <fcntl.h>
#include <linux/falloc.h>

#include "fs/fuse_timed.hpp"
#include "fs/fuse_wire.hpp"

namespace ephfs::fs {
namespace {

using core::awaitable;
using Reply = std::function<void()>;

/// Gives an open file its place in the kernel's answer. Its pages may mostly stay in the kernel's cache between opens:
/// files change through this mount only, and at their death the notifier drops them.
void attach(fuse_file_info* info, std::shared_ptr<OpenFile> file) {
  info->keep_cache = file->keeps_pages ? 1 : 0;
  info->fh = reinterpret_cast<std::uint64_t>(new std::shared_ptr<OpenFile>(std::move(file)));
}

std::shared_ptr<OpenFile> detach(const fuse_file_info* info) {
  const std::unique_ptr<std::shared_ptr<OpenFile>> handle(reinterpret_cast<std::shared_ptr<OpenFile>*>(info->fh));
  return std::move(*handle);
}

/// The flags of open(2) as the engine takes them. Appending is the kernel's work, which sends every write with its
/// place: pages it writes back later must not be taken for more at the end.
int engine_flags(const fuse_file_info* info) {
  return info->flags & ~O_APPEND;
}

/// Before a file's bytes change: takes set-user-ID and set-group-ID from it when the caller may not keep them.
core::Result<> drop_set_id_of(fuse_req_t request, fuse_ino_t number, bool drops) {
  return drops ? engine_of(request).drop_set_id({number}) : core::Result<>();
}

/// Of a request that does not say it: whether its caller has no CAP_FSETID, as far as his user tells.
bool caller_drops_set_id(fuse_req_t request) {
  return caller_of(request).uid != 0;
}

void on_create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* info) {
  Engine& engine = engine_of(request);
  auto made = request_makes_unnamed() ? engine.create_unnamed({parent}, mode, engine_flags(info), caller_of(request))
                                      : engine.create({parent}, name, mode, engine_flags(info), caller_of(request));
  if (!made) return reply_failure(request, made.error());
  const fuse_entry_param entry = to_entry(made->first);
  attach(info, std::move(made->second));
  if (fuse_reply_create(request, &entry, info) == -ENOENT) {
    engine.release(detach(info));
    engine.forget({entry.ino}, 1);
  }
}

void on_open(fuse_req_t request, fuse_ino_t number, fuse_file_info* info) {
  Engine& engine = engine_of(request);
  const auto dropped = drop_set_id_of(request, number, request_drops_set_id());
  if (!dropped) return reply_inode_failure(request, dropped.error());
  auto opened = engine.open_file({number}, engine_flags(info));
  if (!opened) return reply_inode_failure(request, opened.error());
  attach(info, *std::move(opened));
  if (fuse_reply_open(request, info) == -ENOENT) engine.release(detach(info));
}

void on_release(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
  engine_of(request).release(detach(info));
  fuse_reply_err(request, 0);
}

/// libfuse reads requests into one buffer a thread, and a write's bytes stay in it until the next request.
void keep_request_out_of_dumps(core::ByteView bytes) {
  thread_local core::ByteView kept;
  if (bytes.data() >= kept.data() && bytes.data() + bytes.size() <= kept.data() + kept.size()) return;
  core::keep_out_of_dumps(bytes);
  kept = bytes;
}

void on_read(fuse_req_t request, fuse_ino_t, std::size_t size, off_t offset, fuse_file_info* info) {
  // One buffer a thread: a request is at most max_read bytes, and its answer is written before the next is read.
  thread_local core::Buffer buffer;
  if (buffer.size() < size) {
    buffer = core::Buffer(size);
    core::keep_out_of_dumps(buffer.view());
  }
  const auto at = static_cast<std::uint64_t>(offset);
  const auto got = engine_of(request).try_read(*file_of(info), at, buffer.view().first(size));
  if (got) {
    fuse_reply_buf(request, reinterpret_cast<const char*>(buffer.data()), *got);
    return;
  }
  if (got.error().code != core::Error::would_block) return reply_failure(request, got.error());
  auto answer = [request, file = file_of(info), at, size](std::stop_token stop) -> awaitable<Reply> {
    const std::shared_ptr<core::Buffer> bytes(new core::Buffer(size), [](core::Buffer* used) {
      core::wipe(used->view());
      delete used;
    });
    auto read = co_await engine_of(request).read(file, at, bytes->view(), stop);
    co_return [request, bytes, read = std::move(read)] {
      if (!read) return reply_failure(request, read.error());
      fuse_reply_buf(request, reinterpret_cast<const char*>(bytes->data()), *read);
    };
  };
  answer_later(request, std::move(answer));
}

/// Pages that the kernel kept and writes back after the death of their file: write(2) has returned long ago,
/// the bytes are as gone as the file, and neither close(2) nor sync(2) must fail for them.
bool is_lost_with_its_file(bool writeback, const core::Result<>& written) {
  return writeback && !written && is_gone(written.error());
}

void on_write(fuse_req_t request, fuse_ino_t number, const char* data, std::size_t size, off_t offset,
              fuse_file_info* info) {
  const auto at = static_cast<std::uint64_t>(offset);
  const core::ByteView bytes = core::as_bytes({data, size});
  keep_request_out_of_dumps(bytes);
  const auto dropped = drop_set_id_of(request, number, request_drops_set_id());
  if (!dropped) return reply_failure(request, dropped.error());
  const auto written = engine_of(request).try_write(*file_of(info), at, bytes);
  const bool writeback = info->writepage != 0;
  if (written || is_lost_with_its_file(writeback, written)) {
    fuse_reply_write(request, size);
    return;
  }
  if (written.error().code != core::Error::would_block) return reply_failure(request, written.error());
  auto answer = [request, file = file_of(info), at, writeback,
                 copy = core::to_bytes(bytes)](std::stop_token stop) mutable -> awaitable<Reply> {
    const std::size_t length = copy.size();
    auto result = co_await engine_of(request).write(file, at, std::move(copy), stop);
    co_return [request, length, writeback, result = std::move(result)] {
      if (!result && !is_lost_with_its_file(writeback, result)) return reply_failure(request, result.error());
      fuse_reply_write(request, length);
    };
  };
  answer_later(request, std::move(answer));
}

Reply status_reply(fuse_req_t request, core::Result<> result) {
  return [request, result = std::move(result)] { reply_status(request, result); };
}

void on_flush(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
  auto flushed = engine_of(request).try_flush(*file_of(info));
  if (flushed || flushed.error().code != core::Error::would_block) return reply_status(request, flushed);
  auto answer = [request, file = file_of(info)](std::stop_token) -> awaitable<Reply> {
    auto result = co_await engine_of(request).flush(file);
    co_return status_reply(request, std::move(result));
  };
  answer_later(request, std::move(answer));
}

void on_fsync(fuse_req_t request, fuse_ino_t, int, fuse_file_info* info) {
  auto synced = engine_of(request).try_fsync(*file_of(info));
  if (synced || synced.error().code != core::Error::would_block) return reply_status(request, synced);
  auto answer = [request, file = file_of(info)](std::stop_token) -> awaitable<Reply> {
    auto result = co_await engine_of(request).fsync(file);
    co_return status_reply(request, std::move(result));
  };
  answer_later(request, std::move(answer));
}

std::optional<Allocation> allocation_of(int mode) {
  switch (mode) {
    case 0:
      return Allocation::extend;
    case FALLOC_FL_KEEP_SIZE:
      return Allocation::keep_size;
    case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
      return Allocation::punch_hole;
    case FALLOC_FL_ZERO_RANGE:
      return Allocation::zero_range;
    case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
      return Allocation::zero_range_keep_size;
    default:
      return std::nullopt;
  }
}

void on_fallocate(fuse_req_t request, fuse_ino_t number, int mode, off_t offset, off_t length, fuse_file_info* info) {
  const auto how = allocation_of(mode);
  if (!how) {
    fuse_reply_err(request, EOPNOTSUPP);
    return;
  }
  const auto dropped = drop_set_id_of(request, number, caller_drops_set_id(request));
  if (!dropped) return reply_failure(request, dropped.error());
  reply_status(request, engine_of(request).allocate(*file_of(info), *how, static_cast<std::uint64_t>(offset),
                                                    static_cast<std::uint64_t>(length)));
}

void on_lseek(fuse_req_t request, fuse_ino_t, off_t offset, int whence, fuse_file_info* info) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) {
    fuse_reply_err(request, EINVAL);
    return;
  }
  const auto found = engine_of(request).seek(*file_of(info), whence == SEEK_DATA ? SeekTo::data : SeekTo::hole,
                                             static_cast<std::uint64_t>(offset));
  if (found) {
    fuse_reply_lseek(request, static_cast<off_t>(*found));
    return;
  }
  // Past the end, or no data behind: lseek(2) says ENXIO, which means nothing anywhere else.
  const bool is_outside = found.error().code == core::Error::not_found;
  fuse_reply_err(request, is_outside ? ENXIO : core::to_errno(found.error().code));
}

void on_copy_file_range(fuse_req_t request, fuse_ino_t, off_t from_offset, fuse_file_info* from, fuse_ino_t number,
                        off_t to_offset, fuse_file_info* to, std::size_t length, int) {
  const auto dropped = drop_set_id_of(request, number, caller_drops_set_id(request));
  if (!dropped) return reply_failure(request, dropped.error());
  auto answer = [request, source = file_of(from), target = file_of(to), from_offset, to_offset,
                 length](std::stop_token) -> awaitable<Reply> {
    auto copied = co_await engine_of(request).copy_range(source, static_cast<std::uint64_t>(from_offset), target,
                                                         static_cast<std::uint64_t>(to_offset), length);
    co_return [request, copied = std::move(copied)] {
      if (!copied) return reply_failure(request, copied.error());
      fuse_reply_write(request, *copied);
    };
  };
  answer_later(request, std::move(answer));
}

}  // namespace

void add_file_operations(fuse_lowlevel_ops& operations) {
  operations.create = timed<on_create>("create");
  operations.open = timed<on_open>("open");
  operations.release = timed<on_release>("release");
  operations.read = timed<on_read>("read");
  operations.write = timed<on_write>("write");
  operations.flush = timed<on_flush>("flush");
  operations.fsync = timed<on_fsync>("fsync");
  operations.fallocate = timed<on_fallocate>("fallocate");
  operations.lseek = timed<on_lseek>("lseek");
  operations.copy_file_range = timed<on_copy_file_range>("copy_file_range");
}

}  // namespace ephfs::fs
