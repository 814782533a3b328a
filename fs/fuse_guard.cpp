// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse_guard.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/secret.hpp"

namespace ephfs::fs {
namespace {

/// Files that may be open at once and are told apart. Eight MiB, were all of them taken.
constexpr std::size_t kPlaces = std::size_t{1} << 20U;
/// A kernel that does not let pages go for so long is left alone: then the connection just ends.
constexpr unsigned kDroppingMaxSeconds = 60;
/// No request is longer: what a write may bring, and its header.
constexpr std::size_t kRequestMax = (std::size_t{1} << 20U) + 4096;

/// Writes the title over the words this process was started with. Those are of no use to it.
void set_title(const std::string& title) {
  (void)::prctl(PR_SET_NAME, "ephfs-guard", 0, 0, 0);  // what ps -e shows
  std::ifstream stat("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(stat)), {});
  constexpr int kFieldsToArguments = 45;  // from the one behind the name to arg_start
  std::istringstream fields(text.substr(std::min(text.rfind(')') + 1, text.size())));
  std::string skipped;
  for (int i = 0; i < kFieldsToArguments; ++i) fields >> skipped;
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  if (!(fields >> begin >> end) || begin == 0 || end <= begin) return;
  auto* words = reinterpret_cast<char*>(begin);
  std::memset(words, 0, end - begin);
  std::memcpy(words, title.data(), std::min<std::size_t>(title.size(), end - begin - 1));
}

/// Nothing of the daemon is kept open but the lifeline: not its standard streams, nor who waits for it to
/// start.
void keep_only(int lifeline) {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) (void)::dup2(null, fd);
  constexpr unsigned kFirst = STDERR_FILENO + 1;
  const auto kept = static_cast<unsigned>(lifeline);
  if (kept > kFirst) (void)::close_range(kFirst, kept - 1, 0);
  (void)::close_range(kept + 1, ~0U, 0);
}

/// The descriptor that guard() sends; -1 when the daemon ends before.
int receive_descriptor(int lifeline) {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(lifeline, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (got != 1 || header == nullptr || header->cmsg_type != SCM_RIGHTS) return -1;
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

/// Returns when the daemon has ended: nothing else is ever sent.
void wait_for_the_end(int lifeline) {
  char byte = 0;
  while (::read(lifeline, &byte, 1) < 0 && errno == EINTR) {
  }
}

bool is_answered(const fuse_in_header& request) {
  return request.opcode != FUSE_FORGET && request.opcode != FUSE_BATCH_FORGET &&
         request.opcode != FUSE_INTERRUPT && request.opcode != FUSE_NOTIFY_REPLY;
}

/// Refuses what is asked of the mount, until it is gone: pages that wait for an answer cannot be dropped.
void refuse_requests(int fuse) {
  core::Buffer room(kRequestMax);
  core::keep_out_of_dumps(room.view());
  for (;;) {
    const ssize_t got = ::read(fuse, room.data(), room.size());
    if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) continue;
    fuse_in_header request{};
    if (got < static_cast<ssize_t>(sizeof request)) return;
    std::memcpy(&request, room.data(), sizeof request);
    core::wipe(room.view().first(static_cast<std::size_t>(got)));
    if (!is_answered(request)) continue;
    const fuse_out_header answer{.len = sizeof answer, .error = -ENOTCONN, .unique = request.unique};
    (void)!::write(fuse, &answer, sizeof answer);
  }
}

void drop_pages(int fuse, core::InodeNumber number) {
  fuse_out_header header{};
  fuse_notify_inval_inode_out what{};
  header.len = sizeof header + sizeof what;
  header.error = FUSE_NOTIFY_INVAL_INODE;
  what.ino = number.value;
  std::array<iovec, 2> parts{{{&header, sizeof header}, {&what, sizeof what}}};
  // It fails for what the kernel does not know.
  (void)!::writev(fuse, parts.data(), parts.size());
}

[[noreturn]] void run(const PageLedger& ledger, int lifeline, const std::string& title) {
  (void)::setsid();
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE}) std::signal(signal, SIG_IGN);
  set_title(title);
  keep_only(lifeline);
  if (::chdir("/") != 0) ::_exit(1);
  const int fuse = receive_descriptor(lifeline);
  if (fuse < 0) ::_exit(0);
  wait_for_the_end(lifeline);
  ::alarm(kDroppingMaxSeconds);
  std::thread([fuse] { refuse_requests(fuse); }).detach();
  // Twice: a page that was written to is clean after the first time, and then goes.
  for (int i = 0; i < 2; ++i) ledger.visit([fuse](core::InodeNumber number) { drop_pages(fuse, number); });
  ::_exit(0);
}

}  // namespace

core::Result<std::unique_ptr<FuseGuard>> FuseGuard::start(const std::string& title) {
  EPHFS_TRY(auto ledger, PageLedger::make(kPlaces));
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return core::fail_errno("socketpair");
  core::FileDescriptor ours(ends[0]);
  core::FileDescriptor theirs(ends[1]);
  const pid_t process = ::fork();
  if (process < 0) return core::fail_errno("fork");
  if (process == 0) run(*ledger, theirs.get(), title);
  return std::unique_ptr<FuseGuard>(new FuseGuard(std::move(ledger), std::move(ours), process));
}

void FuseGuard::end() noexcept {
  if (process_ <= 0) return;
  (void)::kill(process_, SIGKILL);
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
  process_ = 0;
}

core::Result<> FuseGuard::guard(int fuse_descriptor) {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &fuse_descriptor, sizeof fuse_descriptor);
  if (::sendmsg(lifeline_.get(), &message, MSG_NOSIGNAL) != 1)
    return core::fail_errno("the guard of the mount");
  return {};
}

}  // namespace ephfs::fs
