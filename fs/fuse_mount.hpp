// SPDX-License-Identifier: Apache-2.0
// The engine as a FUSE file system: the low-level API of libfuse 3, one translation per request. What memory, catalog
// and local disk can answer is answered on the thread that read the request; what waits for the network becomes a
// coroutine on the engine's executor, which an interrupt cancels. Only fs/fuse_* knows libfuse.
#pragma once

#include <memory>
#include <string>

#include "core/async.hpp"
#include "core/result.hpp"
#include "fs/engine.hpp"
#include "fs/fuse_guard.hpp"

namespace ephfs::fs {

struct FuseOptions {
  std::string mountpoint;
  std::string source;  // what `mount` and /proc/mounts show in front
  bool allow_other = false;
  std::string kernel_flags;  // for the kernel: ",nosuid,noexec" and the like, or nothing
};

/// A mounted file system. Made on one thread; serve() then uses many.
class FuseMount {
 public:
  /// Mounts. not_found, not_directory or busy name the mountpoint; io says what mounting said. `engine` outlives it.
  /// `guard` sees to it that a killed daemon leaves no pages behind.
  [[nodiscard]] static core::Result<std::unique_ptr<FuseMount>> mount(Engine& engine, FuseOptions options,
                                                                      std::unique_ptr<FuseGuard> guard);
  virtual ~FuseMount() = default;

  /// What the engine tells the kernel through.
  [[nodiscard]] virtual KernelCache& kernel_cache() = 0;
  /// Answers requests until the file system is unmounted or request_stop() is called, then waits for what is under way.
  /// Every wait in it is bounded by the engine's peer_timeout.
  [[nodiscard]] virtual core::Result<> serve() = 0;
  /// Unmounts, which ends serve(). Any thread; returns at once.
  virtual void request_stop() = 0;
};

}  // namespace ephfs::fs
