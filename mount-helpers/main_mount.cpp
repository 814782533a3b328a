// SPDX-License-Identifier: Apache-2.0
// mount.ephfs: what mount(8) runs for `mount -t ephfs SOURCE TARGET`: mount.ephfs SOURCE TARGET [-sfnv] [-N NAMESPACE]
// [-o OPTIONS]. It says the same to `ephfs mount`, but that a volume which is mounted just there already is no failure.
#include <array>
#include <cstdio>

#include "core/files.hpp"
#include "core/secret.hpp"
#include "mount-helpers/commands.hpp"
#include "mount-helpers/mount_options.hpp"

namespace ephfs::cli {
namespace {

constexpr std::array kOptions{
    ArgumentOption{"-o", "OPTION,...", "mount options"},
    ArgumentOption{"-s", "", "pass over unknown options"},
    ArgumentOption{"-f", "", "a rehearsal: everything but the mount"},
    ArgumentOption{"-N", "NAMESPACE", "what mount(8) passes and nothing follows from"},
    ArgumentOption{"-t", "TYPE", "the same"},
    ArgumentOption{"-n", "", "the same"},
    ArgumentOption{"-v", "", "the same"},
};
constexpr Synopsis kHelper{"mount.ephfs", "SOURCE TARGET [-sfnv] [-N NAMESPACE] [-o OPTION,...]",
                           "mount a volume, as mount(8) has it done; made on first use", kOptions};

int run_helper(const Arguments& arguments) {
  constexpr int kUsageStatus = 1;  // mount(8)'s
  if (wants_help(arguments, kHelper)) {
    std::fputs((help_text(kHelper) + mount_options_text()).c_str(), stdout);
    const auto printed = finish_output();
    if (printed) return 0;
    std::fprintf(stderr, "mount.ephfs: %s\n", line_of(printed.error()).c_str());
    return kUsageStatus;
  }
  const auto parsed = parse_arguments(arguments, kHelper);
  if (!parsed || parsed->words.size() != 2) {
    std::fprintf(stderr, "mount.ephfs: %s\n", line_of(parsed ? usage(kHelper) : parsed.error()).c_str());
    return kUsageStatus;
  }
  if (parsed->has("-f")) return 0;
  Arguments words = parsed->words;
  if (parsed->has("-o")) words.insert(words.end(), {"-o", parsed->joined("-o")});
  return run_mount(words, {.again_is_fine = true, .sloppy = parsed->has("-s")});
}

}  // namespace
}  // namespace ephfs::cli

int main(int count, char** values) {
  using namespace ephfs;
  auto prepared = core::fill_standard_streams();
  if (prepared) prepared = core::protect_process_memory();
  if (!prepared) {
    std::fprintf(stderr, "mount.ephfs: %s\n", prepared.error().message().c_str());
    return 1;
  }
  return cli::run_helper({values + 1, values + count});
}
