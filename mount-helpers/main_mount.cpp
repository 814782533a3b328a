// SPDX-License-Identifier: Apache-2.0
// mount.ephfs: what mount(8) runs for `mount -t ephfs SOURCE TARGET`: mount.ephfs SOURCE TARGET [-sfnv] [-N NAMESPACE]
// [-o OPTIONS]. It says the same to `ephfs mount`, but that a volume which is mounted just there already is no failure.
#include <cstdio>

#include "core/files.hpp"
#include "core/secret.hpp"
#include "mount-helpers/commands.hpp"

int main(int count, char** values) {
  using namespace ephfs;
  constexpr int kUsageStatus = 1;  // mount(8)'s
  auto prepared = core::fill_standard_streams();
  if (prepared) prepared = core::protect_process_memory();
  if (!prepared) {
    std::fprintf(stderr, "mount.ephfs: %s\n", prepared.error().message().c_str());
    return kUsageStatus;
  }
  const auto parsed = cli::parse_arguments(
      {values + 1, values + count},
      {{"-o", true}, {"-N", true}, {"-t", true}, {"-s", false}, {"-f", false}, {"-n", false}, {"-v", false}});
  if (!parsed || parsed->words.size() != 2) {
    std::fprintf(stderr, "mount.ephfs: %s\n",
                 parsed ? "usage: mount.ephfs SOURCE TARGET [-sfnv] [-o OPTIONS]" : parsed.error().message().c_str());
    return kUsageStatus;
  }
  if (parsed->has("-f")) return 0;  // a rehearsal: everything but the mount
  cli::Arguments words = parsed->words;
  if (parsed->has("-o")) words.insert(words.end(), {"-o", parsed->joined("-o")});
  return cli::run_mount(words, {.again_is_fine = true, .sloppy = parsed->has("-s")});
}
