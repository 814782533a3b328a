// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse_guard.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/secret.hpp"
#include "fs/options.hpp"
#include "fs/punctual.hpp"

namespace ephfs::fs {
namespace {

/// Files that may be open at once and are told apart. Eight MiB, were all of them taken.
constexpr std::size_t kPlaces = std::size_t{1} << 20U;
/// A kernel that does not let pages go for so long is left alone: then the connection just ends.
constexpr unsigned kDroppingMaxSeconds = 60;
constexpr int kDeathThreads = 2;
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
  std::copy_n(title.begin(), std::min<std::size_t>(title.size(), end - begin - 1), words);
}

/// Nothing of the daemon is kept open but these: not its standard streams, nor who waits for it to start.
void keep_only(std::array<int, 4> kept) {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) (void)::dup2(null, fd);
  std::ranges::sort(kept);
  unsigned first = STDERR_FILENO + 1;
  for (const int fd : kept) {
    const auto number = static_cast<unsigned>(fd);
    if (number > first) (void)::close_range(first, number - 1, 0);
    first = number + 1;
  }
  (void)::close_range(first, ~0U, 0);
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
  return request.opcode != FUSE_FORGET && request.opcode != FUSE_BATCH_FORGET && request.opcode != FUSE_INTERRUPT &&
         request.opcode != FUSE_NOTIFY_REPLY;
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

void drop_kernel_pages(int fuse, core::InodeNumber number) {
  fuse_out_header header{};
  fuse_notify_inval_inode_out what{};
  header.len = sizeof header + sizeof what;
  header.error = FUSE_NOTIFY_INVAL_INODE;
  what.ino = number.value;
  std::array<iovec, 2> parts{{{&header, sizeof header}, {&what, sizeof what}}};
  // It fails for what the kernel does not know.
  (void)!::writev(fuse, parts.data(), parts.size());
}

void forget_name(int fuse, core::InodeNumber parent, const std::string& name) {
  fuse_out_header header{};
  fuse_notify_inval_entry_out what{};
  header.len = static_cast<std::uint32_t>(sizeof header + sizeof what + name.size() + 1);
  header.error = FUSE_NOTIFY_INVAL_ENTRY;
  what.parent = parent.value;
  what.namelen = static_cast<std::uint32_t>(name.size());
  std::array<iovec, 3> parts{
      {{&header, sizeof header}, {&what, sizeof what}, {const_cast<char*>(name.c_str()), name.size() + 1}}};
  (void)!::writev(fuse, parts.data(), parts.size());
}

/// An order on its way: a number, and behind it the name if there is one.
bool send_order(int line, core::InodeNumber number, std::string_view name) {
  std::array<iovec, 2> parts{{{&number.value, sizeof number.value}, {const_cast<char*>(name.data()), name.size()}}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = name.empty() ? 1 : 2;
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(line, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

/// Carries out orders until there is nobody to give any.
void obey(int line, int fuse) {
  std::array<char, sizeof(std::uint64_t) + kNameBytesMax> room{};
  for (;;) {
    const ssize_t got = ::recv(line, room.data(), room.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    core::InodeNumber number;
    if (got < static_cast<ssize_t>(sizeof number.value)) return;
    std::memcpy(&number.value, room.data(), sizeof number.value);
    const std::string name(room.data() + sizeof number.value, static_cast<std::size_t>(got) - sizeof number.value);
    if (name.empty()) {
      drop_kernel_pages(fuse, number);
    } else {
      forget_name(fuse, number, name);
    }
  }
}

core::Result<std::pair<core::FileDescriptor, core::FileDescriptor>> make_line() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) return core::fail_errno("socketpair");
  return std::pair(core::FileDescriptor(ends[0]), core::FileDescriptor(ends[1]));
}

/// Another descriptor of the same mount. What was read through the daemon's own, and not answered, the kernel ends when
/// that is closed, which it would not be if the guard held it too; pages that wait for such an answer could never be
/// dropped.
core::Result<core::FileDescriptor> clone_of(int fuse_descriptor) {
  core::FileDescriptor clone(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (clone.get() < 0) return core::fail_errno("/dev/fuse");
  auto of = static_cast<std::uint32_t>(fuse_descriptor);
  if (::ioctl(clone.get(), FUSE_DEV_IOC_CLONE, &of) != 0) return core::fail_errno("another descriptor of the mount");
  return clone;
}

}  // namespace

void FuseGuard::run(const PageLedger& ledger, const Lines& lines, const std::string& title) {
  (void)::setsid();
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE}) std::signal(signal, SIG_IGN);
  set_title(title);
  keep_only({lines.life.get(), lines.deaths.get(), lines.rereads.get(), lines.notices.get()});
  if (::chdir("/") != 0) ::_exit(1);
  const int fuse = receive_descriptor(lines.life.get());
  if (fuse < 0) ::_exit(0);
  std::vector<std::thread> threads;
  threads.reserve(kDeathThreads + 1);
  for (int i = 0; i < kDeathThreads; ++i) {
    threads.emplace_back([&] {
      ask_for_punctuality();
      obey(lines.deaths.get(), fuse);
    });
  }
  threads.emplace_back([&] { obey(lines.rereads.get(), fuse); });
  threads.emplace_back([&] { obey(lines.notices.get(), fuse); });
  wait_for_the_end(lines.life.get());
  ::alarm(kDroppingMaxSeconds);
  std::thread([fuse] { refuse_requests(fuse); }).detach();
  for (auto& thread : threads) thread.join();
  // Twice: a page that was written to is clean after the first time, and then goes.
  for (int i = 0; i < 2; ++i) ledger.visit([fuse](core::InodeNumber number) { drop_kernel_pages(fuse, number); });
  ::_exit(0);
}

core::Result<std::unique_ptr<FuseGuard>> FuseGuard::start(const std::string& title) {
  EPHFS_TRY(auto ledger, PageLedger::make(kPlaces));
  EPHFS_TRY(auto life, make_line());
  EPHFS_TRY(auto deaths, make_line());
  EPHFS_TRY(auto rereads, make_line());
  EPHFS_TRY(auto notices, make_line());
  const Lines theirs{std::move(life.second), std::move(deaths.second), std::move(rereads.second),
                     std::move(notices.second)};
  const pid_t process = ::fork();
  if (process < 0) return core::fail_errno("fork");
  if (process == 0) run(*ledger, theirs, title);
  Lines ours{std::move(life.first), std::move(deaths.first), std::move(rereads.first), std::move(notices.first)};
  return std::unique_ptr<FuseGuard>(new FuseGuard(std::move(ledger), std::move(ours), process));
}

bool FuseGuard::drop_pages(core::InodeNumber number) const {
  return send_order(lines_.deaths.get(), number, {});
}

bool FuseGuard::drop_read_pages(core::InodeNumber number) const {
  return send_order(lines_.rereads.get(), number, {});
}

bool FuseGuard::forget(core::InodeNumber number, std::string_view name) const {
  return send_order(lines_.notices.get(), number, name);
}

void FuseGuard::end() noexcept {
  if (process_ <= 0) return;
  (void)::kill(process_, SIGKILL);
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
  process_ = 0;
}

core::Result<> FuseGuard::guard(int fuse_descriptor) {
  EPHFS_TRY(const auto clone, clone_of(fuse_descriptor));
  const int descriptor = clone.get();
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
  std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  if (::sendmsg(lines_.life.get(), &message, MSG_NOSIGNAL) != 1) return core::fail_errno("the guard of the mount");
  return {};
}

}  // namespace ephfs::fs
