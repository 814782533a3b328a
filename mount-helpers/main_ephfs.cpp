// SPDX-License-Identifier: Apache-2.0
// ephfs: the command line. One table of commands; a failure is one line on standard error.
#include <array>
#include <cstdio>
#include <string_view>

#include "core/files.hpp"
#include "core/secret.hpp"
#include "mount-helpers/commands.hpp"
#include "mount-helpers/mount_options.hpp"

namespace ephfs::cli {
namespace {

constexpr Synopsis kVersion{"ephfs version", "", "print the version", {}};

core::Result<> run_version(const Arguments& arguments) {
  if (!arguments.empty()) return usage(kVersion);
  std::puts("ephfs " EPHFS_VERSION);
  return {};
}

int fail_with(const core::Failure& failure) {
  std::fprintf(stderr, "ephfs: %s\n", line_of(failure).c_str());
  return 1;
}

/// Most commands say how they went as a Result; the two that become daemons have exit statuses of their own.
template <core::Result<> (*command)(const Arguments&)>
int run(const Arguments& arguments) {
  const auto done = command(arguments);
  return done ? 0 : fail_with(done.error());
}

struct Command {
  const Synopsis* synopsis;
  int (*run)(const Arguments&);

  [[nodiscard]] std::string_view name() const { return synopsis->command.substr(synopsis->command.find(' ') + 1); }
};

constexpr std::array kCommands{
    Command{&kMount, [](const Arguments& arguments) { return run_mount(arguments, {}); }},
    Command{&kUmount, run<run_umount>},
    Command{&kNode, run_node},
    Command{&kInvite, run<run_invite>},
    Command{&kJoin, run<run_join>},
    Command{&kPeers, run<run_peers>},
    Command{&kTtl, run<run_ttl>},
    Command{&kLs, run<run_ls>},
    Command{&kShare, run<run_share>},
    Command{&kFetch, run<run_fetch>},
    Command{&kStatus, run<run_status>},
    Command{&kProfile, run<run_profile>},
    Command{&kDoctor, run<run_doctor>},
    Command{&kTop, run<run_top>},
    Command{&kProof, run<run_proof>},
    Command{&kAudit, run<run_audit>},
    Command{&kVerify, run<run_verify>},
    Command{&kVersion, run<run_version>},
};

void print_help(FILE* out) {
  std::fputs("usage: ephfs COMMAND ...; ephfs COMMAND --help says more\n", out);
  for (const auto& command : kCommands) {
    const auto& synopsis = *command.synopsis;
    std::fprintf(out, "  %-8.*s %.*s\n           %.*s\n", static_cast<int>(command.name().size()),
                 command.name().data(), static_cast<int>(synopsis.form.size()), synopsis.form.data(),
                 static_cast<int>(synopsis.help.size()), synopsis.help.data());
  }
}

int run_command(const Arguments& words) {
  if (words.empty()) {
    print_help(stderr);
    return 1;
  }
  if (words[0] == "help" || words[0] == "--help" || words[0] == "-h") {
    print_help(stdout);
    return 0;
  }
  const std::string name = words[0] == "--version" ? "version" : words[0];
  for (const auto& command : kCommands) {
    if (command.name() != name) continue;
    const Arguments arguments(words.begin() + 1, words.end());
    if (!wants_help(arguments, *command.synopsis)) return command.run(arguments);
    std::fputs(help_text(*command.synopsis).c_str(), stdout);
    if (command.synopsis == &kMount) std::fputs(mount_options_text().c_str(), stdout);
    return 0;
  }
  std::fprintf(stderr, "ephfs: unknown command %s; ephfs help lists them\n", name.c_str());
  return 1;
}

}  // namespace
}  // namespace ephfs::cli

int main(int count, char** values) {
  using namespace ephfs;
  if (const auto filled = core::fill_standard_streams(); !filled) return cli::fail_with(filled.error());
  if (const auto protection = core::protect_process_memory(); !protection) return cli::fail_with(protection.error());
  const int status = cli::run_command({values + 1, values + count});
  const auto printed = cli::finish_output();
  return printed || status != 0 ? status : cli::fail_with(printed.error());
}
