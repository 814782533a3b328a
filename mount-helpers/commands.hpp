// SPDX-License-Identifier: Apache-2.0
// The commands of `ephfs`, one function each, and how their arguments are read. A failure is printed by main as one
// line.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/result.hpp"

namespace ephfs::cli {

using Arguments = std::vector<std::string>;

/// Arguments sorted out: words, and options with their values.
struct ParsedArguments {
  std::vector<std::string> words;
  std::map<std::string, std::vector<std::string>> options;

  [[nodiscard]] bool has(const std::string& name) const { return options.contains(name); }
  /// The last value given for an option, or `otherwise`.
  [[nodiscard]] std::string value(const std::string& name, const std::string& otherwise = {}) const;
  /// All values given for an option, joined with commas.
  [[nodiscard]] std::string joined(const std::string& name) const;
};
struct ArgumentOption {
  std::string name;  // "-o", "--foreground"
  bool takes_value;
};
/// invalid_argument for an unknown option or a missing value. "--" ends the options; --name=value is understood.
[[nodiscard]] core::Result<ParsedArguments> parse_arguments(const Arguments& arguments,
                                                            const std::vector<ArgumentOption>& options);
/// invalid_argument: "usage: " and the line.
[[nodiscard]] core::Failure usage(const std::string& line);

/// How mount(8)'s helper differs from `ephfs mount`.
struct MountManner {
  bool again_is_fine = false;  // `mount -a` asks for what is mounted already: it cannot tell by the source it is shown
  bool sloppy = false;         // unknown options are passed over
};
/// Mounts; the exit status is mount(8)'s: 1 for a wrong call, 32 for a mount that failed.
[[nodiscard]] int run_mount(const Arguments& arguments, const MountManner& manner);
[[nodiscard]] int run_node(const Arguments& arguments);
[[nodiscard]] core::Result<> run_umount(const Arguments& arguments);
[[nodiscard]] core::Result<> run_invite(const Arguments& arguments);
[[nodiscard]] core::Result<> run_join(const Arguments& arguments);
[[nodiscard]] core::Result<> run_peers(const Arguments& arguments);
[[nodiscard]] core::Result<> run_ttl(const Arguments& arguments);
[[nodiscard]] core::Result<> run_profile(const Arguments& arguments);
[[nodiscard]] core::Result<> run_audit(const Arguments& arguments);
[[nodiscard]] core::Result<> run_proof(const Arguments& arguments);
[[nodiscard]] core::Result<> run_verify(const Arguments& arguments);
[[nodiscard]] core::Result<> run_ls(const Arguments& arguments);
[[nodiscard]] core::Result<> run_share(const Arguments& arguments);
[[nodiscard]] core::Result<> run_fetch(const Arguments& arguments);
[[nodiscard]] core::Result<> run_top(const Arguments& arguments);
[[nodiscard]] core::Result<> run_status(const Arguments& arguments);
[[nodiscard]] core::Result<> run_doctor(const Arguments& arguments);

}  // namespace ephfs::cli
