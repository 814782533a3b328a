// SPDX-License-Identifier: Apache-2.0
// ephfs doctor: is this machine fit to mount, and is this volume or node well? One line a check; a failed one
// makes the exit status non-zero. --accept-clock is the owner's word that the wall clock is right.
#include <array>
#include <cstdio>

#include <boost/json.hpp>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/config.hpp"
#include "core/guarded_clock.hpp"
#include "meta/journaled_catalog.hpp"
#include "mount-helpers/clock_report.hpp"
#include "mount-helpers/commands.hpp"
#include "mount-helpers/mountpoint.hpp"
#include "mount-helpers/paths.hpp"
#include "mount-helpers/volume.hpp"
#include "mount-helpers/volume_files.hpp"

namespace ephfs::cli {
namespace {

namespace json = boost::json;
using core::Error;
using core::fail;
using core::Result;

constexpr std::uint64_t kLockedBytesMin = std::uint64_t{64} << 10U;  // keys in memory
constexpr std::uint64_t kFreeBytesMin = std::uint64_t{64} << 20U;

class Examination {
 public:
  void note(const std::string& name, bool good, const std::string& detail) {
    failed_ += good ? 0 : 1;
    json::object check;
    check["check"] = name;
    check["ok"] = good;
    check["detail"] = detail;
    checks_.push_back(std::move(check));
  }
  template <class T>
  void note(std::string name, const Result<T>& outcome, std::string when_good) {
    note(std::move(name), outcome.has_value(), outcome ? std::move(when_good) : outcome.error().message());
  }
  [[nodiscard]] Result<> conclude(bool as_json) const {
    if (as_json) {
      json::object out;
      out["ok"] = failed_ == 0;
      out["checks"] = checks_;
      std::puts(json::serialize(out).c_str());
    } else {
      for (const auto& entry : checks_) {
        const auto& check = entry.as_object();
        std::printf("%-4s %-16s %s\n", check.at("ok").as_bool() ? "ok" : "BAD", check.at("check").as_string().c_str(),
                    check.at("detail").as_string().c_str());
      }
    }
    if (failed_ > 0)
      return fail(Error::io,
                  "doctor: " + std::to_string(failed_) + " of " + std::to_string(checks_.size()) + " checks failed");
    return {};
  }

 private:
  json::array checks_;
  std::size_t failed_ = 0;
};

std::string find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::string folders = path == nullptr ? "/usr/bin:/bin" : path;
  folders += ":/usr/sbin:/sbin";
  for (std::size_t at = 0; at <= folders.size();) {
    const std::size_t end = std::min(folders.find(':', at), folders.size());
    std::string candidate = folders.substr(at, end - at) + "/" + name;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    at = end + 1;
  }
  return {};
}

void examine_machine(Examination& examination) {
  const auto device = core::open_file("/dev/fuse", O_RDWR);
  examination.note("fuse device", device, "/dev/fuse can be opened");
  const std::string helper = find_program("fusermount3");
  examination.note("fusermount3", !helper.empty() || ::geteuid() == 0,
                   helper.empty() ? "not found; only root can mount" : helper);
  const std::string mount = find_program("mount.ephfs");
  examination.note("mount helper", true,
                   mount.empty() ? "mount.ephfs is not installed; ephfs mount works without it" : mount);
  rlimit limit{};
  const bool known = ::getrlimit(RLIMIT_MEMLOCK, &limit) == 0;
  const bool endless = limit.rlim_max == RLIM_INFINITY || ::geteuid() == 0;
  examination.note(
      "locked memory", known && (endless || limit.rlim_max >= kLockedBytesMin),
      endless ? "no limit"
              : core::format_size(limit.rlim_max) + " may be locked; keys need " + core::format_size(kLockedBytesMin));
}

/// The mounts of one volume, or of all where `directory` is empty.
void examine_mounts(Examination& examination, const std::filesystem::path& directory) {
  for (const auto& volume : mounted_volumes()) {
    if (!directory.empty() && volume.directory != directory) continue;
    const bool dead = is_dead(volume);
    examination.note("mount", !dead,
                     dead ? describe_dead(volume) : volume.directory.string() + " on " + volume.mountpoint.string());
  }
}

void examine_directory(Examination& examination, const std::filesystem::path& directory) {
  struct stat status {};
  if (::stat(directory.c_str(), &status) != 0) {
    return examination.note("directory", false, core::fail_errno(directory.string()).message());
  }
  const bool is_private = S_ISDIR(status.st_mode) && (status.st_mode & 0077U) == 0;
  const bool is_ours = status.st_uid == ::geteuid() || ::geteuid() == 0;
  examination.note("directory", is_private && is_ours,
                   directory.string() + (!is_private ? " is open to others; chmod 700"
                                         : !is_ours  ? " is another user's"
                                                     : " is private"));
  struct statvfs disk {};
  if (::statvfs(directory.c_str(), &disk) != 0) {
    return examination.note("disk space", false, core::fail_errno(directory.string()).message());
  }
  const std::uint64_t free = disk.f_bavail * disk.f_frsize;
  examination.note("disk space", free >= kFreeBytesMin && (disk.f_files == 0 || disk.f_favail > 0),
                   core::format_size(free) + " free");
}

void examine_clock(Examination& examination, const json::object& clock) {
  const bool held = clock.at("held").as_bool();
  const auto behind = core::Milliseconds(clock.at("behind_ms").to_number<std::int64_t>());
  const bool lags = behind > core::GuardedClock::kSlack;
  const auto text = [&clock](const char* key) { return std::string(clock.at(key).as_string()); };
  std::string said = "wall " + text("wall") + ", believed " + text("believed") + ", confirmed " + text("confirmed");
  if (held) said += "; HELD since " + text("held_since") + ": nothing is destroyed until it is confirmed or corrected";
  if (lags) said += "; the wall clock is " + core::describe_span(behind) + " behind";
  examination.note("clock", !held && !lags, said);
  examination.note("kernel clock", true,
                   clock.at("kernel_synchronized").as_bool()
                       ? "synchronized"
                       : "not synchronized: jumps wait for peers or --accept-clock");
  if (const auto* median = clock.if_contains("peers_median"); median != nullptr && median->is_string()) {
    examination.note("peers' clocks", true, "median " + text("peers_median"));
  }
}

void examine_pool(Examination& examination, const json::array& peers) {
  std::size_t silent = 0;
  std::size_t others = 0;
  for (const auto& entry : peers) {
    const auto* reachable = entry.as_object().if_contains("reachable");
    if (reachable == nullptr) continue;
    ++others;
    silent += reachable->as_bool() ? 0 : 1;
  }
  examination.note("pool", silent == 0,
                   std::to_string(others - silent) + " of " + std::to_string(others) + " other nodes answer");
}

Result<json::value> parse_answer(const std::string& answer) {
  boost::system::error_code error;
  auto parsed = json::parse(answer, error);
  if (error) return fail(Error::protocol, "the daemon's answer");
  return parsed;
}

/// A daemon has it open: it is asked.
Result<> examine_running(Examination& examination, const std::filesystem::path& directory) {
  const auto socket = control_socket(directory);
  EPHFS_TRY(const auto clock, node::control_get(socket, "/clock"));
  EPHFS_TRY(const auto described, parse_answer(clock));
  examine_clock(examination, described.as_object());
  examination.note("daemon", node::control_get(socket, "/status"), "answers");
  EPHFS_TRY(const auto answer, node::control_get(socket, "/peers"));
  EPHFS_TRY(const auto peers, parse_answer(answer));
  examine_pool(examination, peers.as_array());
  return {};
}

/// Nobody has it open.
void examine_resting(Examination& examination, const std::filesystem::path& directory) {
  core::SystemClock base;
  std::error_code ignored;
  if (std::filesystem::exists(clock_file_of(directory), ignored)) {
    const auto clock = open_clock(directory, base);
    if (clock)
      examine_clock(examination, describe_clock(**clock));
    else
      examination.note("clock", clock, "");
  }
  if (!has_volume_files(directory)) return;
  const auto broken = [&]() -> Result<std::vector<std::string>> {
    EPHFS_TRY(const auto lock, lock_volume(directory));
    EPHFS_TRY_VOID(holds_volume(directory));
    EPHFS_TRY(const auto catalog, meta::open_volume_catalog(directory));
    return catalog->check();
  }();
  const bool whole = broken && broken->empty();
  examination.note("catalog", whole,
                   whole    ? "opens, and is whole"
                   : broken ? broken->front()
                            : broken.error().message());
}

/// By the daemon that runs there, or in the clock file of what nobody has open. A file that cannot be read is
/// made anew.
Result<> accept_clock(const std::filesystem::path& directory) {
  const auto told = node::control_post(control_socket(directory), "/clock/accept");
  if (told) return {};
  if (told.error().code != Error::unreachable) return told.error();
  core::SystemClock base;
  auto clock = open_clock(directory, base);
  if (!clock && clock.error().code == Error::damaged) {
    if (::unlink(clock_file_of(directory).c_str()) != 0) return core::fail_errno(clock_file_of(directory).string());
    clock = open_clock(directory, base);
  }
  if (!clock) return clock.error();
  return (*clock)->accept();
}

constexpr std::array kDoctorOptions{
    kDirOption,
    kJsonOption,
    ArgumentOption{"--accept-clock", "", "take the wall clock for right"},
};

}  // namespace

const Synopsis kDoctor{"ephfs doctor", "[VOLUME | MOUNTPOINT | --dir DIR] [--json] [--accept-clock]",
                       "check machine and volume", kDoctorOptions};

Result<> run_doctor(const Arguments& arguments) {
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, kDoctor));
  if (parsed.words.size() > 1 || (parsed.has("--dir") && !parsed.words.empty())) {
    return usage(kDoctor);
  }
  std::filesystem::path directory;
  if (parsed.has("--dir")) {
    directory = resolved(parsed.value("--dir"));
  } else if (!parsed.words.empty() || parsed.has("--accept-clock")) {
    EPHFS_TRY(directory, find_volume(parsed.words.empty() ? "" : parsed.words[0]));
  } else if (auto only = find_volume("")) {
    directory = *std::move(only);
  }
  std::error_code ignored;
  if (!directory.empty() && !std::filesystem::is_directory(directory, ignored))
    return fail(Error::not_found, directory.string());
  if (parsed.has("--accept-clock")) EPHFS_TRY_VOID(accept_clock(directory));

  Examination examination;
  examine_machine(examination);
  examine_mounts(examination, directory);
  if (!directory.empty()) {
    examine_directory(examination, directory);
    const auto running = examine_running(examination, directory);
    if (!running && running.error().code == Error::unreachable) {
      examine_resting(examination, directory);
    } else if (!running) {
      examination.note("daemon", running, "");
    }
  }
  return examination.conclude(parsed.has("--json"));
}

}  // namespace ephfs::cli
