// SPDX-License-Identifier: Apache-2.0
// What the files that answer FUSE requests share. Private to fs/fuse_*.
#pragma once

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 14)
#endif
#include <functional>
#include <memory>
#include <stop_token>

#include <fuse_lowlevel.h>

#include "core/async.hpp"
#include "fs/engine.hpp"

namespace ephfs::fs {

/// What a request's handlers work with: the session's user data.
struct FuseContext {
  Engine& engine;
  core::TaskGroup tasks;  // requests that became coroutines
};

[[nodiscard]] inline FuseContext& context_of(fuse_req_t request) {
  return *static_cast<FuseContext*>(fuse_req_userdata(request));
}
[[nodiscard]] inline Engine& engine_of(fuse_req_t request) {
  return context_of(request).engine;
}
[[nodiscard]] Caller caller_of(fuse_req_t request);

[[nodiscard]] struct stat to_stat(const Attributes& attributes);

/// Whether an inode is not there any more: removed, or dead.
[[nodiscard]] bool is_gone(const core::Failure& failure);
void reply_failure(fuse_req_t request, const core::Failure& failure);
/// The same for a request that names an inode, not a path: what is gone is stale. The kernel then looks a path up again
/// by itself, and its user sees ENOENT; the user of a descriptor sees ESTALE.
void reply_inode_failure(fuse_req_t request, const core::Failure& failure);
/// Answers 0, or the failure.
void reply_status(fuse_req_t request, const core::Result<>& result);
void reply_inode_status(fuse_req_t request, const core::Result<>& result);
void reply_attributes(fuse_req_t request, const core::Result<Attributes>& attributes);
/// Answers an entry whose lookup count the engine has raised; takes the count back when nobody heard the answer.
void reply_entry(fuse_req_t request, const core::Result<Attributes>& attributes);
[[nodiscard]] fuse_entry_param to_entry(const Attributes& attributes);

/// Descriptors travel in fuse_file_info::fh as a pointer to their shared_ptr.
[[nodiscard]] inline const std::shared_ptr<OpenFile>& file_of(const fuse_file_info* info) {
  return *reinterpret_cast<const std::shared_ptr<OpenFile>*>(info->fh);
}
[[nodiscard]] inline OpenDirectory& directory_of(const fuse_file_info* info) {
  return **reinterpret_cast<const std::shared_ptr<OpenDirectory>*>(info->fh);
}

/// Runs `answer` as a coroutine on the engine's executor with a token that an interrupt of the request stops. `answer`
/// returns the reply as a function, which is called once the request can no longer be interrupted.
void answer_later(fuse_req_t request, std::function<core::awaitable<std::function<void()>>(std::stop_token)> answer);

/// Fill in the operations of fuse_names.cpp, fuse_attributes.cpp and fuse_files.cpp.
void add_name_operations(fuse_lowlevel_ops& operations);
void add_attribute_operations(fuse_lowlevel_ops& operations);
void add_file_operations(fuse_lowlevel_ops& operations);

}  // namespace ephfs::fs
