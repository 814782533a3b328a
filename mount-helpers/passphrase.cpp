// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/passphrase.hpp"

#include <cstdlib>

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include "core/files.hpp"

namespace ephfs::cli {
namespace {

using core::Error;
using core::fail;
using core::Result;
using core::SecretText;

constexpr std::size_t kPassphraseBytesMax = 4096;

/// Reads up to the end of the line or of the input into locked memory.
Result<SecretText> read_line(int fd, const std::string& from) {
  auto room = core::Secret<kPassphraseBytesMax>::zeroed();
  const core::MutableByteView bytes = room.mutable_view();
  std::size_t length = 0;
  while (length < bytes.size()) {
    const ssize_t got = ::read(fd, bytes.data() + length, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return core::fail_errno("reading the passphrase from " + from);
    if (got == 0 || bytes[length] == std::byte{'\n'}) break;
    ++length;
  }
  if (length == bytes.size()) return fail(Error::invalid_argument, "passphrase from " + from + " is too long");
  if (length > 0 && bytes[length - 1] == std::byte{'\r'}) --length;
  if (length == 0) return fail(Error::invalid_argument, "passphrase from " + from + " is empty");
  return SecretText::copy_of(bytes.first(length));
}

Result<SecretText> read_from_file(const std::filesystem::path& path) {
  EPHFS_TRY(auto file, core::open_file(path, O_RDONLY));
  return read_line(file.get(), path.string());
}

/// Turns a terminal's echo off while it lives.
class SilentTerminal {
 public:
  explicit SilentTerminal(int fd) : fd_(fd) {
    if (tcgetattr(fd, &saved_) != 0) return;
    termios silent = saved_;
    silent.c_lflag &= ~tcflag_t{ECHO};
    changed_ = tcsetattr(fd, TCSAFLUSH, &silent) == 0;
  }
  ~SilentTerminal() {
    if (changed_) (void)tcsetattr(fd_, TCSAFLUSH, &saved_);
  }
  SilentTerminal(const SilentTerminal&) = delete;
  SilentTerminal& operator=(const SilentTerminal&) = delete;

 private:
  int fd_;
  termios saved_{};
  bool changed_ = false;
};

Result<> say(const core::FileDescriptor& terminal, const std::string& text) {
  // A terminal takes a line whole or is not there any more.
  if (::write(terminal.get(), text.data(), text.size()) < 0) return core::fail_errno("writing to the terminal");
  return {};
}

bool same_text(const SecretText& a, const SecretText& b) {
  return a.view().size() == b.view().size() && core::equal_in_constant_time(a.view(), b.view());
}

}  // namespace

Result<SecretText> prompt_passphrase(const std::string& question) {
  EPHFS_TRY(auto terminal, core::open_file("/dev/tty", O_RDWR | O_NOCTTY));
  auto answer = [&]() -> Result<SecretText> {
    // Before it asks: what is typed until the echo is off would be shown, and then thrown away.
    const SilentTerminal silent(terminal.get());
    EPHFS_TRY_VOID(say(terminal, question));
    return read_line(terminal.get(), "the terminal");
  }();
  EPHFS_TRY_VOID(say(terminal, "\n"));
  return answer;
}

Result<std::optional<SecretText>> read_passphrase(const MountOptions& options, bool confirm) {
  const auto some = [](SecretText text) { return std::optional<SecretText>(std::move(text)); };
  if (options.passphrase_fd >= 0) {
    EPHFS_TRY(auto text, read_line(options.passphrase_fd, "descriptor " + std::to_string(options.passphrase_fd)));
    return some(std::move(text));
  }
  if (!options.passphrase_file.empty()) {
    EPHFS_TRY(auto text, read_from_file(options.passphrase_file));
    return some(std::move(text));
  }
  if (options.prompt) {
    EPHFS_TRY(auto text, prompt_passphrase("Passphrase: "));
    if (confirm) {
      EPHFS_TRY(auto again, prompt_passphrase("The same again: "));
      if (!same_text(text, again)) return fail(Error::invalid_argument, "the passphrases differ");
    }
    return some(std::move(text));
  }
  if (const char* credentials = std::getenv("CREDENTIALS_DIRECTORY")) {
    const auto path = std::filesystem::path(credentials) / "ephfs.passphrase";
    if (std::filesystem::exists(path)) {
      EPHFS_TRY(auto text, read_from_file(path));
      return some(std::move(text));
    }
  }
  return std::optional<SecretText>{};
}

}  // namespace ephfs::cli
