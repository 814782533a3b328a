// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse_mount.hpp"

#include <filesystem>

#include <fcntl.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/files.hpp"
#include "fs/fuse_loop.hpp"
#include "fs/fuse_notifier.hpp"
#include "fs/fuse_request.hpp"
#include "fs/fuse_wire.hpp"

namespace ephfs::fs {
namespace {

constexpr unsigned kRequestBytesMax = 1U << 20U;
constexpr unsigned kBackgroundMax = 64;  // requests the kernel may have under way by itself: readahead, writeback
constexpr unsigned kThreads = 10;        // a request never waits for the network on its thread, so few are enough

void on_init(void*, fuse_conn_info* connection) {
  const auto want_if_offered = [connection](unsigned capability) {
    if ((connection->capable & capability) != 0) connection->want |= capability;
  };
  want_if_offered(FUSE_CAP_WRITEBACK_CACHE);
  want_if_offered(FUSE_CAP_READDIRPLUS);
  want_if_offered(FUSE_CAP_PARALLEL_DIROPS);
  want_if_offered(FUSE_CAP_ATOMIC_O_TRUNC);
  want_if_offered(FUSE_CAP_CACHE_SYMLINKS);
  // Only this mount changes its files, so a new size never means that the kernel's pages are old.
  connection->want &= ~unsigned{FUSE_CAP_AUTO_INVAL_DATA};
  connection->max_write = kRequestBytesMax;
  connection->max_background = kBackgroundMax;
  connection->congestion_threshold = kBackgroundMax * 3 / 4;
  connection->time_gran = 1;
}

fuse_lowlevel_ops make_operations() {
  fuse_lowlevel_ops operations{};
  operations.init = on_init;
  add_name_operations(operations);
  add_attribute_operations(operations);
  add_file_operations(operations);
  return operations;
}

/// The kernel reads 128 KiB ahead of FUSE, in one request that one thread decrypts. More keeps several of them at work,
/// and the network. Only root may ask for it, and without it reading is right, and slower.
void widen_readahead(const std::string& mountpoint) {
  constexpr std::string_view kKib = "4096";
  struct statx root {};
  // By no request: nobody serves yet.
  if (::statx(AT_FDCWD, mountpoint.c_str(), AT_STATX_DONT_SYNC, 0, &root) != 0) return;
  const std::string path = "/sys/class/bdi/" + std::to_string(root.stx_dev_major) + ":" +
                           std::to_string(root.stx_dev_minor) + "/read_ahead_kb";
  if (const auto setting = core::open_file(path, O_WRONLY)) {
    (void)!::write(setting->get(), kKib.data(), kKib.size());
  }
}

/// In a mount option's value, commas and backslashes are escaped.
std::string escaped(const std::string& value) {
  std::string out;
  for (const char letter : value) {
    if (letter == ',' || letter == '\\') out += '\\';
    out += letter;
  }
  return out;
}

core::Result<> check_mountpoint(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) return core::fail(core::Error::not_found, "mountpoint " + path);
  if (!std::filesystem::is_directory(status)) return core::fail(core::Error::not_directory, "mountpoint " + path);
  return {};
}

/// Takes the mount away: in order when nobody uses it, else by ending its connection, so that it never takes long.
void unmount_now(const std::string& mountpoint) {
  if (::umount2(mountpoint.c_str(), UMOUNT_NOFOLLOW) == 0) return;
  if (errno == EBUSY && ::umount2(mountpoint.c_str(), MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return;
  // Who is not root has fusermount3 do it.
  std::array<const char*, 5> words{"fusermount3", "-uqz", "--", mountpoint.c_str(), nullptr};
  pid_t helper = 0;
  if (::posix_spawnp(&helper, words[0], nullptr, nullptr, const_cast<char* const*>(words.data()), environ) == 0) {
    (void)::waitpid(helper, nullptr, 0);
  }
}

class LibfuseMount final : public FuseMount {
 public:
  LibfuseMount(Engine& engine, std::unique_ptr<FuseGuard> guard) : context_{engine, {}}, guard_(std::move(guard)) {}
  ~LibfuseMount() override {
    if (notifier_) notifier_->stop();
    if (stopper_.joinable()) stopper_.join();
    if (session_ != nullptr) {
      if (mounted_) unmount();
      fuse_session_destroy(session_);
    }
  }
  LibfuseMount(const LibfuseMount&) = delete;
  LibfuseMount& operator=(const LibfuseMount&) = delete;

  core::Result<> mount(const FuseOptions& options) {
    EPHFS_TRY_VOID(check_mountpoint(options.mountpoint));
    mountpoint_ = std::filesystem::canonical(options.mountpoint).string();
    std::string list = "default_permissions,subtype=ephfs,fsname=" + escaped(options.source);
    if (options.allow_other) list += ",allow_other";
    if (context_.engine.options().read_only) list += ",ro";
    // It keeps none anyway: so that /proc/mounts says it.
    if (context_.engine.options().access_times == AccessTimes::none) list += ",noatime";
    list += options.kernel_flags;
    fuse_args arguments = FUSE_ARGS_INIT(0, nullptr);
    fuse_opt_add_arg(&arguments, "ephfs");
    fuse_opt_add_arg(&arguments, "-o");
    fuse_opt_add_arg(&arguments, list.c_str());
    static const fuse_lowlevel_ops operations = make_operations();
    session_ = fuse_session_new(&arguments, &operations, sizeof operations, &context_);
    fuse_opt_free_args(&arguments);
    if (session_ == nullptr) return core::fail(core::Error::io, "FUSE session with options " + list);
    if (fuse_session_mount(session_, mountpoint_.c_str()) != 0) {
      return core::fail(core::Error::io, "mounting on " + options.mountpoint);
    }
    mounted_ = true;
    EPHFS_TRY_VOID(watch_wire(session_));
    notifier_ = std::make_unique<FuseNotifier>(session_, context_.engine.clock(), *guard_);
    return guard_->guard(fuse_session_fd(session_));
  }

  KernelCache& kernel_cache() override { return *notifier_; }

  core::Result<> serve() override {
    notifier_->start();
    FuseLoop loop(session_);
    loop.answer_first();
    widen_readahead(mountpoint_);
    auto served = loop.run(kThreads);
    context_.tasks.wait();
    notifier_->stop();
    unmount();
    return served;
  }

  void request_stop() override {
    if (stopping_.exchange(true)) return;
    // Unmounting writes the kernel's dirty pages back through this very daemon, so no thread that serves may wait for
    // it.
    stopper_ = std::thread([this] { unmount_now(mountpoint_); });
  }

 private:
  void unmount() {
    // libfuse ends the connection by closing what it takes for the last descriptor.
    guard_->end();
    fuse_session_unmount(session_);
    mounted_ = false;
  }

  FuseContext context_;
  std::unique_ptr<FuseGuard> guard_;
  fuse_session* session_ = nullptr;
  std::string mountpoint_;
  bool mounted_ = false;
  std::unique_ptr<FuseNotifier> notifier_;
  std::atomic<bool> stopping_{false};
  std::thread stopper_;
};

}  // namespace

core::Result<std::unique_ptr<FuseMount>> FuseMount::mount(Engine& engine, FuseOptions options,
                                                          std::unique_ptr<FuseGuard> guard) {
  auto mount = std::make_unique<LibfuseMount>(engine, std::move(guard));
  EPHFS_TRY_VOID(mount->mount(options));
  return core::Result<std::unique_ptr<FuseMount>>(std::move(mount));
}

}  // namespace ephfs::fs
