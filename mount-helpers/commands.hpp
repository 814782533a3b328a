// SPDX-License-Identifier: Apache-2.0
// The commands of `ephfs`, one function each, how they are called, and how their arguments are read. A failure is
// printed by main as one line.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace ephfs::cli {

using Arguments = std::vector<std::string>;

/// Arguments sorted out: words, and options with their values.
struct ParsedArguments {
  std::vector<std::string> words;
  std::optional<std::size_t> dashes;  // how many of the words were in front of "--", where that was given
  std::map<std::string, std::vector<std::string>> options;

  [[nodiscard]] bool has(const std::string& name) const { return options.contains(name); }
  /// The last value given for an option, or `otherwise`.
  [[nodiscard]] std::string value(const std::string& name, const std::string& otherwise = {}) const;
  /// All values given for an option, joined with commas.
  [[nodiscard]] std::string joined(const std::string& name) const;
};
struct ArgumentOption {
  std::string_view name;   // "-o", "--foreground"
  std::string_view value;  // what it takes, for people: "DIR"; empty: nothing
  std::string_view help;
};
/// How a command is called: what parses its arguments and what its --help says.
struct Synopsis {
  std::string_view command;  // "ephfs ttl"
  std::string_view form;     // "PATH... [VALUE] [-R]"
  std::string_view help;     // one line
  std::span<const ArgumentOption> options;
};
/// invalid_argument for an unknown option or a missing value. "--" ends the options; --name=value is understood.
[[nodiscard]] core::Result<ParsedArguments> parse_arguments(const Arguments& arguments, const Synopsis& synopsis);
/// invalid_argument: "usage: " and how it is called.
[[nodiscard]] core::Failure usage(const Synopsis& synopsis);
/// invalid_argument: "option --count x: expected 1 or more".
[[nodiscard]] core::Failure bad_option(const ParsedArguments& parsed, const std::string& name,
                                       const std::string& expected);
/// Whether --help is asked for; -h too, but where that is an option of the command's own and not the only argument.
[[nodiscard]] bool wants_help(const Arguments& arguments, const Synopsis& synopsis);
/// What --help prints: how it is called, what it does, and a line for each option.
[[nodiscard]] std::string help_text(const Synopsis& synopsis);
/// The line that a command says of a failure: its message, without the code's words where those say nothing more.
[[nodiscard]] std::string line_of(const core::Failure& failure);

/// Writes out what was printed. What could not be written, now or before, is a failure.
[[nodiscard]] core::Result<> finish_output();

constexpr ArgumentOption kDirOption{"--dir", "DIR", "the directory of a node, or of a volume"};
constexpr ArgumentOption kJsonOption{"--json", "", "for programs: JSON"};

extern const Synopsis kMount, kUmount, kNode, kInvite, kJoin, kPeers, kTtl, kLs, kShare, kFetch, kStatus, kProfile,
    kDoctor, kTop, kProof, kAudit, kVerify;

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
