// SPDX-License-Identifier: Apache-2.0
// ephfs proof and verify: what was signed about a file, and whether it holds.
#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <iostream>

#include <boost/json.hpp>
#include <sys/stat.h>

#include "core/clock.hpp"
#include "core/key_wheel.hpp"
#include "core/keyring.hpp"
#include "meta/journaled_catalog.hpp"
#include "meta/proof.hpp"
#include "mount-helpers/audit_report.hpp"
#include "mount-helpers/commands.hpp"
#include "mount-helpers/control.hpp"
#include "mount-helpers/passphrase.hpp"
#include "mount-helpers/paths.hpp"
#include "mount-helpers/reports.hpp"
#include "mount-helpers/volume.hpp"
#include "mount-helpers/volume_files.hpp"
#include "mount-helpers/words.hpp"
#include "node/control_server.hpp"

namespace ephfs::cli {
namespace {

namespace json = boost::json;
using core::Error;
using core::fail;
using core::Result;

/// A file on a mounted volume.
struct MountedFile {
  std::filesystem::path volume;
  struct stat status {};
};

/// None for a path that is on no ephfs mount.
std::optional<MountedFile> mounted_file(const std::string& path) {
  MountedFile file;
  if (::stat(path.c_str(), &file.status) != 0) return std::nullopt;
  auto volume = mounted_volume_on(file.status.st_dev);
  if (!volume) return std::nullopt;
  file.volume = std::move(volume->directory);
  return file;
}

core::Failure about(const std::string& path, core::Failure failure) {
  failure.detail = shown_name(path) + (failure.detail.empty() ? "" : ": " + failure.detail);
  return failure;
}

core::Failure no_regular_file(const std::string& path) {
  return fail(Error::invalid_argument, shown_name(path) + " is no regular file");
}

/// The daemon makes the proof.
Result<std::string> proof_of_path(const std::string& path) {
  if (!std::filesystem::exists(path)) return fail(Error::not_found, path);
  const auto file = mounted_file(path);
  if (!file) return fail(Error::invalid_argument, path + " is not on an ephfs mount");
  auto proof = ask_daemon_in(file->volume, "/proof?" + inode_query(file->status));
  if (!proof) return about(path, proof.error());
  return proof;
}

/// From the catalog of a volume that is not mounted.
Result<std::string> proof_from_directory(const std::filesystem::path& directory, const core::FileId& file,
                                         const std::string& passphrase_file) {
  std::error_code ignored;
  if (!std::filesystem::exists(directory / "catalog.db", ignored)) {
    return fail(Error::not_found, directory.string() + " is no volume");
  }
  EPHFS_TRY(const auto lock, lock_volume(directory));
  EPHFS_TRY_VOID(holds_volume(directory));
  MountOptions options;
  options.passphrase_file = passphrase_file;
  EPHFS_TRY(auto passphrase, read_passphrase(options, false));
  EPHFS_TRY(const auto keys, core::open_volume_keys(directory / "keys", passphrase ? &*passphrase : nullptr));
  EPHFS_TRY(const auto catalog, meta::open_volume_catalog(directory));
  EPHFS_TRY(const auto wheel, core::KeyWheel::open(directory / "wheel", keys));
  core::SystemClock base;
  EPHFS_TRY(const auto clock, open_clock(directory, base));
  const core::Signer owner(keys.owner);
  return meta::prove_dead_file({*catalog, keys.volume, owner, clock->now(), wheel->punctured()}, file);
}

Result<std::string> proof_of_dead(const core::FileId& file, const std::string& volume,
                                  const std::string& passphrase_file) {
  EPHFS_TRY(const auto directory, find_volume(volume));
  auto answer = node::control_get(control_socket(directory), "/proof?file=" + file.hex());
  if (answer) return answer;
  if (answer.error().code != Error::unreachable) return explained(answer.error(), directory);
  return proof_from_directory(directory, file, passphrase_file);
}

std::string describe(const meta::ProofReport& report) {
  std::string line = "file " + report.file.hex() + " of owner " + report.owner.hex().substr(0, 16);
  if (!report.cause) {
    line +=
        ", living, dies " + (report.deadline.is_never() ? "never" : core::format_instant(report.deadline.instant()));
  } else {
    line += *report.cause == meta::DeathCause::expired ? ", expired " : ", removed ";
    line += core::format_instant(report.died);
  }
  const std::string of = " of " + std::to_string(report.shards);
  line += ": " + std::to_string(report.receipts) + of + " shards taken by their nodes";
  if (report.cause) line += ", " + std::to_string(report.deletions) + of + " deleted";
  if (report.audits > 0) line += ", " + std::to_string(report.audits) + of + " audited";
  if (report.key_destroyed) line += ", key destroyed";
  return line;
}

json::object to_json(const std::string& source, const meta::ProofReport& report) {
  json::object out;
  out["source"] = source;
  out["valid"] = report.faults.empty();
  out["file"] = report.file.hex();
  out["owner"] = report.owner.hex();
  if (report.cause) out["died"] = *report.cause == meta::DeathCause::expired ? "expired" : "removed";
  out["stripes"] = report.stripes;
  out["shards"] = report.shards;
  out["receipts"] = report.receipts;
  out["deletions"] = report.deletions;
  out["audits"] = report.audits;
  out["manifest"] = report.has_manifest;
  out["key_destroyed"] = report.key_destroyed;
  out["faults"] = json::value_from(report.faults);
  return out;
}

struct VerifyWishes {
  bool as_json = false;
  bool complete = false;  // of the dead, every deletion is to be proven, and the key's
  std::string owner;      // hexadecimal; empty: anybody
};

/// Adds what is wrong with a good proof for whoever asks.
void judge(const VerifyWishes& wishes, meta::ProofReport& report) {
  if (!wishes.owner.empty() && report.owner.hex() != wishes.owner) report.faults.emplace_back("of another owner");
  if (wishes.complete) std::ranges::move(report.missing(), std::back_inserter(report.faults));
}

/// Whether the proof holds.
bool verify_one(const std::string& source, std::string_view text, const VerifyWishes& wishes) {
  auto report = meta::check_proof(text);
  judge(wishes, report);
  if (wishes.as_json) {
    std::puts(json::serialize(to_json(source, report)).c_str());
  } else if (report.faults.empty()) {
    std::printf("%s: good: %s\n", source.c_str(), describe(report).c_str());
  } else {
    for (const auto& fault : report.faults) std::printf("%s: BAD: %s\n", source.c_str(), fault.c_str());
  }
  return report.faults.empty();
}

/// One proof, over however many lines, or one a line.
Result<std::size_t> verify_stream(const std::string& source, std::istream& in, const VerifyWishes& wishes) {
  std::string text;
  std::array<char, 1U << 16U> room{};
  while (in.read(room.data(), room.size()), in.gcount() > 0) {
    text.append(room.data(), static_cast<std::size_t>(in.gcount()));
    if (text.size() > meta::kProofBytesMax) return fail(Error::file_too_large, source);
  }
  std::vector<std::string_view> lines;
  const std::string_view all = text;
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t end = std::min(all.find('\n', at), all.size());
    const auto line = all.substr(at, end - at);
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) lines.push_back(line);
    at = end + 1;
  }
  if (lines.empty()) return fail(Error::damaged, source + " is empty");
  const bool one_a_line =
      lines.size() > 1 && std::ranges::all_of(lines, [](auto line) {
        return line.find_first_not_of(" \t") == line.find('{') && line.find_last_not_of(" \t\r") == line.rfind('}');
      });
  if (!one_a_line) return verify_one(source, all, wishes) ? std::size_t{0} : std::size_t{1};
  std::size_t bad = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (!verify_one(source + ":" + std::to_string(i + 1), lines[i], wishes)) ++bad;
  }
  return bad;
}

Result<std::size_t> verify_file(const std::string& path, const VerifyWishes& wishes) {
  if (path == "-") return verify_stream("standard input", std::cin, wishes);
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return no_regular_file(path);
  std::ifstream in(path, std::ios::binary);
  if (!in) return core::fail_errno(path);
  return verify_stream(path, in, wishes);
}

constexpr std::array kProofOptions{
    ArgumentOption{"--passphrase-file", "FILE", "of a volume that is not mounted"},
};
constexpr std::array kVerifyOptions{
    ArgumentOption{"--owner", "HEX", "whose they have to be"},
    ArgumentOption{"--complete", "", "every deletion of the dead, and of the key, has to be proven"},
    kJsonOption,
};

}  // namespace

const Synopsis kProof{"ephfs proof", "PATH | FILE-ID [VOLUME] [--passphrase-file FILE]",
                      "print what was signed about a file, living or dead", kProofOptions};
const Synopsis kVerify{"ephfs verify", "PROOF...|- [--owner HEX] [--complete] [--json] | PATH [--json]",
                       "check proofs, or a mounted file's every shard", kVerifyOptions};

Result<> run_proof(const Arguments& arguments) {
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, kProof));
  const auto& words = parsed.words;
  if (words.empty() || words.size() > 2) return usage(kProof);
  const auto file = core::FileId::from_hex(words[0]);
  if (!file && words.size() > 1) return fail(Error::invalid_argument, words[0] + " is no file id");
  const bool by_path = !file || (words.size() == 1 && std::filesystem::exists(words[0]));
  EPHFS_TRY(const auto proof,
            by_path ? proof_of_path(words[0])
                    : proof_of_dead(*file, words.size() > 1 ? words[1] : "", parsed.value("--passphrase-file")));
  std::puts(proof.c_str());
  return {};
}

Result<> run_verify(const Arguments& arguments) {
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, kVerify));
  if (parsed.words.empty()) return usage(kVerify);
  const VerifyWishes wishes{parsed.has("--json"), parsed.has("--complete"), parsed.value("--owner")};
  if (parsed.has("--owner") && !core::OwnerId::from_hex(wishes.owner)) {
    return bad_option(parsed, "--owner", "64 hexadecimal digits");
  }
  if (parsed.words.size() == 1) {
    if (const auto file = mounted_file(parsed.words[0])) {
      if (!S_ISREG(file->status.st_mode)) return no_regular_file(parsed.words[0]);
      const std::string target = "/verify?" + inode_query(file->status) + "&";
      return report_audit(file->volume, target, wishes.as_json);
    }
  }
  std::size_t bad = 0;
  for (const auto& path : parsed.words) {
    EPHFS_TRY(const auto found, verify_file(path, wishes));
    bad += found;
  }
  if (bad > 0) return fail(Error::damaged, std::to_string(bad) + (bad == 1 ? " proof" : " proofs") + " did not hold");
  return {};
}

}  // namespace ephfs::cli
