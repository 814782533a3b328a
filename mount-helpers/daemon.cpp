// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/daemon.hpp"

#include <thread>

#include <fcntl.h>
#include <malloc.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "core/files.hpp"
#include "core/log.hpp"
#include "mount-helpers/commands.hpp"

namespace ephfs::cli {
namespace {

/// A daemon's large buffers are freed by other threads than the ones that made them, and what is free in one of
/// malloc's arenas is of no use to another: of its eight for a processor two are left.
void bound_arenas() {
  const auto processors = static_cast<int>(std::thread::hardware_concurrency());
  // Should it fail, more memory is held than is used.
  if (processors > 0) (void)::mallopt(M_ARENA_MAX, 2 * processors);
}

void leave_terminal() {
  if (const auto null = core::open_file("/dev/null", O_RDWR)) {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) (void)::dup2(null->get(), fd);
  }
  (void)::setsid();
  if (::chdir("/") != 0) return;  // only keeps a directory busy
}

int report(const core::Result<>& result, int failed_status) {
  if (result) return 0;
  core::log_line(line_of(result.error()));
  return failed_status;
}

int serve_as_child(const core::FileDescriptor& to_parent, int failed_status,
                   const std::function<core::Result<>(const Ready&)>& serve) {
  const Ready ready = [&] {
    openlog("ephfs", LOG_PID, LOG_DAEMON);
    core::set_log_sink([](const std::string& line) { syslog(LOG_WARNING, "%s", line.c_str()); });
    leave_terminal();
    const char done = 0;
    (void)!::write(to_parent.get(), &done, 1);
  };
  return report(serve(ready), failed_status);
}

/// The child's word that it is ready, or its exit status.
int wait_for_child(core::FileDescriptor from_child, pid_t child, int failed_status) {
  char done = 1;
  ssize_t got = 0;
  do {
    got = ::read(from_child.get(), &done, 1);
  } while (got < 0 && errno == EINTR);
  if (got == 1) return 0;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : failed_status;
}

}  // namespace

int run_daemon(bool foreground, int failed_status, const std::function<core::Result<>(const Ready&)>& serve) {
  bound_arenas();
  if (foreground) {
    const Ready ready = [] {};
    return report(serve(ready), failed_status);
  }
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return report(core::fail_errno("pipe"), failed_status);
  core::FileDescriptor from_child(ends[0]);
  core::FileDescriptor to_parent(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return report(core::fail_errno("fork"), failed_status);
  if (child > 0) {
    to_parent.close();
    return wait_for_child(std::move(from_child), child, failed_status);
  }
  from_child.close();
  return serve_as_child(to_parent, failed_status, serve);
}

}  // namespace ephfs::cli
