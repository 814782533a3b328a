// SPDX-License-Identifier: Apache-2.0
// ephfs: the command line. One table of commands; a failure is one line on standard error.
#include <array>
#include <cstdio>
#include <string_view>

#include "core/files.hpp"
#include "core/secret.hpp"
#include "mount-helpers/commands.hpp"

namespace ephfs::cli {
namespace {

/// Most commands say how they went as a Result; the two that become daemons have exit statuses of their own.
int report(const core::Result<>& result) {
  if (result) return 0;
  std::fprintf(stderr, "ephfs: %s\n", result.error().message().c_str());
  return 1;
}

core::Result<> run_version(const Arguments& arguments) {
  if (!arguments.empty()) return usage("ephfs version");
  std::puts("ephfs " EPHFS_VERSION);
  return {};
}

struct Command {
  std::string_view name;
  std::string_view help;
  int (*run)(const Arguments&);
};

constexpr std::array kCommands{
    Command{"mount", "VOLUME MOUNTPOINT [-o OPT,...] [--foreground]   mount a volume; made on first use",
            [](const Arguments& a) { return run_mount(a, {}); }},
    Command{"umount", "MOUNTPOINT                                      unmount, and wait until the volume is free",
            [](const Arguments& a) { return report(run_umount(a)); }},
    Command{"node", "--dir DIR --listen HOST:PORT [--capacity 10G] [--advertise HOST:PORT] [--join TOKEN]", run_node},
    Command{"invite", "[VOLUME | --dir DIR] [--uses N] [--ttl 1h]      print a token that lets machines join the pool",
            [](const Arguments& a) { return report(run_invite(a)); }},
    Command{"join", "TOKEN (VOLUME | --dir DIR)                      join the pool that made the token",
            [](const Arguments& a) { return report(run_join(a)); }},
    Command{"peers", "[VOLUME | MOUNTPOINT | --dir DIR] [--json]      who is in the pool, and who answers",
            [](const Arguments& a) { return report(run_peers(a)); }},
    Command{"ttl", "PATH... [VALUE] [-R] [-h] [--json]              show or set when files die",
            [](const Arguments& a) { return report(run_ttl(a)); }},
    Command{"ls", "[--expiring 1h] [-R] [--json] [PATH]            what is there, by when it dies",
            [](const Arguments& a) { return report(run_ls(a)); }},
    Command{"share",
            "FILE [--ttl 1h] [--max-fetches N] [--json]       print a link by which others of the pool fetch it",
            [](const Arguments& a) { return report(run_share(a)); }},
    Command{"fetch",
            "LINK|- [-o FILE] [--dir DIR] [--force]           fetch what a link shares; - reads it from standard "
            "input, where ps does not show it",
            [](const Arguments& a) { return report(run_fetch(a)); }},
    Command{"status", "[VOLUME | MOUNTPOINT | --dir DIR] [--json]      how a volume or node fares",
            [](const Arguments& a) { return report(run_status(a)); }},
    Command{"profile", "[VOLUME | MOUNTPOINT | --dir DIR] [--seconds 10] [--json]  where a daemon's time goes",
            [](const Arguments& a) { return report(run_profile(a)); }},
    Command{"doctor", "[VOLUME | MOUNTPOINT | --dir DIR] [--json] [--accept-clock]   check machine and volume",
            [](const Arguments& a) { return report(run_doctor(a)); }},
    Command{"top", "[VOLUME | MOUNTPOINT | --dir DIR] [--interval 2s] [--count N] [--json]   the same as it goes on",
            [](const Arguments& a) { return report(run_top(a)); }},
    Command{"proof",
            "PATH | FILE-ID [VOLUME]                         print what was signed about a file, living or dead",
            [](const Arguments& a) { return report(run_proof(a)); }},
    Command{"audit",
            "[VOLUME | MOUNTPOINT] [--all | --ttl] [--json]  ask nodes to prove what they hold; find what outlived its "
            "time",
            [](const Arguments& a) { return report(run_audit(a)); }},
    Command{"verify",
            "PROOF... [--owner HEX] [--complete] | PATH [--json]  check proofs, or a mounted file's every shard",
            [](const Arguments& a) { return report(run_verify(a)); }},
    Command{"version", "                                                print the version",
            [](const Arguments& a) { return report(run_version(a)); }},
};

int print_help(FILE* out, int status) {
  std::fputs("usage: ephfs COMMAND ...\n", out);
  for (const auto& command : kCommands) {
    std::fprintf(out, "  %-8.*s %.*s\n", static_cast<int>(command.name.size()), command.name.data(),
                 static_cast<int>(command.help.size()), command.help.data());
  }
  return status;
}

}  // namespace
}  // namespace ephfs::cli

int main(int count, char** values) {
  using namespace ephfs;
  if (const auto filled = core::fill_standard_streams(); !filled) return cli::report(filled);
  if (const auto protection = core::protect_process_memory(); !protection) return cli::report(protection);
  const cli::Arguments words(values + 1, values + count);
  if (words.empty() || words[0] == "help" || words[0] == "--help")
    return cli::print_help(words.empty() ? stderr : stdout, words.empty() ? 1 : 0);
  const std::string name = words[0] == "--version" ? "version" : words[0];
  for (const auto& command : cli::kCommands) {
    if (command.name == name) return command.run({words.begin() + 1, words.end()});
  }
  std::fprintf(stderr, "ephfs: unknown command %s; ephfs help lists them\n", name.c_str());
  return 1;
}
