// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse_request.hpp"

#include <cerrno>

#include "fs/fuse_timed.hpp"

namespace ephfs::fs {
namespace {

double seconds(Milliseconds span) {
  return std::chrono::duration<double>(span).count();
}

timespec to_timespec(meta::FileTime time) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  std::int64_t whole = time.ns / kSecond;
  std::int64_t part = time.ns % kSecond;
  if (part < 0) {
    part += kSecond;
    --whole;
  }
  return {.tv_sec = whole, .tv_nsec = part};
}

/// Lets an interrupt reach the coroutine that answers a request. libfuse calls the function with its own lock held, so
/// it only asks for the stop on the engine's executor.
struct Interrupt {
  std::stop_source source;
  core::asio::any_io_executor executor;

  static void request(fuse_req_t, void* data) {
    auto* interrupt = static_cast<Interrupt*>(data);
    core::asio::post(interrupt->executor, [source = interrupt->source]() mutable { source.request_stop(); });
  }
};

}  // namespace

Caller caller_of(fuse_req_t request) {
  const fuse_ctx* context = fuse_req_ctx(request);
  return {.uid = context->uid, .gid = context->gid};
}

struct stat to_stat(const Attributes& attributes) {
  struct stat out {};
  out.st_ino = attributes.number.value;
  out.st_mode = attributes.mode;
  out.st_nlink = attributes.links;
  out.st_uid = attributes.uid;
  out.st_gid = attributes.gid;
  out.st_rdev = attributes.rdev;
  out.st_size = static_cast<off_t>(attributes.size);
  out.st_blksize = 4096;
  out.st_blocks = static_cast<blkcnt_t>((attributes.allocated + 511) / 512);
  out.st_atim = to_timespec(attributes.accessed);
  out.st_mtim = to_timespec(attributes.modified);
  out.st_ctim = to_timespec(attributes.changed);
  return out;
}

fuse_entry_param to_entry(const Attributes& attributes) {
  fuse_entry_param entry{};
  entry.ino = attributes.number.value;
  entry.attr = to_stat(attributes);
  entry.attr_timeout = entry.entry_timeout = seconds(attributes.valid_for);
  return entry;
}

void reply_failure(fuse_req_t request, const core::Failure& failure) {
  fuse_reply_err(request, core::to_errno(failure.code));
}

bool is_gone(const core::Failure& failure) {
  return failure.code == core::Error::gone || failure.code == core::Error::not_found ||
         failure.code == core::Error::stale;
}

void reply_inode_failure(fuse_req_t request, const core::Failure& failure) {
  fuse_reply_err(request, core::to_errno(is_gone(failure) ? core::Error::stale : failure.code));
}

void reply_inode_status(fuse_req_t request, const core::Result<>& result) {
  if (!result) return reply_inode_failure(request, result.error());
  fuse_reply_err(request, 0);
}

void reply_status(fuse_req_t request, const core::Result<>& result) {
  fuse_reply_err(request, result ? 0 : core::to_errno(result.error().code));
}

void reply_attributes(fuse_req_t request, const core::Result<Attributes>& attributes) {
  if (!attributes) return reply_inode_failure(request, attributes.error());
  const struct stat out = to_stat(*attributes);
  fuse_reply_attr(request, &out, seconds(attributes->valid_for));
}

void reply_entry(fuse_req_t request, const core::Result<Attributes>& attributes) {
  if (!attributes) return reply_failure(request, attributes.error());
  Engine& engine = engine_of(request);
  const fuse_entry_param entry = to_entry(*attributes);
  if (fuse_reply_entry(request, &entry) == -ENOENT) engine.forget(attributes->number, 1);
}

void answer_later(fuse_req_t request, std::function<core::awaitable<std::function<void()>>(std::stop_token)> answer) {
  FuseContext& context = context_of(request);
  auto interrupt = std::make_shared<Interrupt>();
  interrupt->executor = context.engine.executor();
  fuse_req_interrupt_func(request, &Interrupt::request, interrupt.get());
  auto task = [request, interrupt, answer = std::move(answer),
               span = take_request_span()]() mutable -> core::awaitable<void> {
    std::stop_token stop = interrupt->source.get_token();
    std::function<void()> reply = co_await answer(stop);
    fuse_req_interrupt_func(request, nullptr, nullptr);
    reply();
    span.finish();
  };
  context.tasks.spawn(context.engine.executor(), std::move(task));
}

}  // namespace ephfs::fs
