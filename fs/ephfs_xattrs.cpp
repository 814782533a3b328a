// SPDX-License-Identifier: Apache-2.0
#include "fs/ephfs_xattrs.hpp"

#include <algorithm>
#include <array>

namespace ephfs::fs {
namespace {

/// The kernel lets nobody set user attributes of symbolic links, pipes, sockets and devices, which have
/// deadlines too: there, and only for their owner, the same attributes are reached by the other name.
constexpr std::string_view kPrefix = "user.ephfs.";
constexpr std::string_view kSystemPrefix = "system.ephfs.";
constexpr std::string_view kNever = "never";

/// The time left as people read it: whole seconds, rounded up, while there is more than one.
std::string format_left(Milliseconds left) {
  using std::chrono::seconds;
  if (left > seconds(1)) left = std::chrono::ceil<seconds>(left);
  return core::format_span(std::max(left, Milliseconds{1}));
}

std::string format_left(const EngineState& state, Deadline deadline) {
  if (deadline.is_never()) return std::string(kNever);
  return format_left(deadline.instant() - state.clock.now());
}

/// There from the warning span before the deadline on.
Result<std::string> get_warning(EngineState& state, Inode& inode) {
  const Deadline deadline = inode.deadline();
  if (deadline.is_never()) return core::fail(core::Error::no_attribute);
  const Milliseconds left = deadline.instant() - state.clock.now();
  if (left > state.options.warn) return core::fail(core::Error::no_attribute);
  return "dies in " + core::describe_span(left);
}

std::string format_ttl(Milliseconds ttl) {
  return ttl == kPermanentTtl ? std::string(kNever) : core::format_span(ttl);
}

/// What is read and not changed is read under the shared lock.
struct Read {
  explicit Read(Inode& inode) : lock(inode.mutex), record(inode.record), is_directory(inode.is_directory()) {}
  std::shared_lock<std::shared_mutex> lock;
  const meta::InodeRecord& record;
  bool is_directory;
};

Result<std::string> get_ttl(EngineState& state, Inode& inode) {
  const Read read(inode);
  if (!read.is_directory) return format_left(state, read.record.deadline);
  if (!read.record.default_deadline.is_never()) return format_left(state, read.record.default_deadline);
  return format_ttl(read.record.ttl.count() > 0 ? read.record.ttl : state.options.ttl.initial);
}

Result<std::string> get_expires(EngineState&, Inode& inode) {
  const Read read(inode);
  const Deadline deadline = read.is_directory ? read.record.default_deadline : read.record.deadline;
  if (!deadline.is_never()) return core::format_instant(deadline.instant());
  if (read.is_directory) return core::fail(core::Error::no_attribute);
  return std::string(kNever);
}

bool has_own_ttl(const meta::InodeRecord& record) {
  if (S_ISDIR(record.mode)) return record.ttl.count() > 0 || !record.default_deadline.is_never();
  return record.deadline_explicit;
}

bool has_own_expires(const meta::InodeRecord& record) {
  return S_ISDIR(record.mode) ? !record.default_deadline.is_never() : record.deadline_explicit;
}

Result<> set_deadline(XattrTarget& target, std::string_view value, bool as_instant) {
  EPHFS_TRY(const auto wish, parse_ttl_wish(value));
  auto& record = target.record;
  if (S_ISDIR(record.mode)) return set_directory_default(target.state, wish, as_instant, record);
  EPHFS_TRY(const auto chosen, choose_deadline(target.state, wish, record.deadline));
  return change_deadline(target.state, record, chosen.deadline, chosen.ttl, true);
}

Result<> set_ttl(XattrTarget& target, std::string_view value) {
  return set_deadline(target, value, false);
}
Result<> set_expires(XattrTarget& target, std::string_view value) {
  return set_deadline(target, value, true);
}

Result<> remove_deadline(XattrTarget& target) {
  auto& record = target.record;
  if (S_ISDIR(record.mode)) {
    record.ttl = Milliseconds{0};
    record.default_deadline = Deadline::never();
    return {};
  }
  const InheritedTtl inherited = inherited_ttl(target.state, target.parent);
  return change_deadline(target.state, record, inherited.deadline, inherited.ttl, false);
}

struct ModeName {
  meta::TtlMode mode;
  std::string_view name;
};
constexpr std::array kModes{ModeName{meta::TtlMode::fixed, "fixed"}, ModeName{meta::TtlMode::modified, "modified"},
                            ModeName{meta::TtlMode::accessed, "accessed"}};

/// A directory's own mode is marked as such by its "explicit" flag, which says nothing else of a directory.
bool has_own_mode(const meta::InodeRecord& record) {
  return !S_ISDIR(record.mode) || record.deadline_explicit;
}

Result<std::string> get_mode(EngineState& state, Inode& inode) {
  const Read read(inode);
  const meta::TtlMode mode = has_own_mode(read.record) ? read.record.ttl_mode : state.options.ttl.mode;
  const auto* row = std::find_if(kModes.begin(), kModes.end(), [&](const auto& known) { return known.mode == mode; });
  EPHFS_CHECK(row != kModes.end(), "every ttl mode has a name");
  return std::string(row->name);
}

Result<> set_mode(XattrTarget& target, std::string_view value) {
  const auto* row = std::find_if(kModes.begin(), kModes.end(), [&](const auto& known) { return known.name == value; });
  if (row == kModes.end()) {
    return core::fail(core::Error::invalid_argument, "ttl_mode is fixed, modified or accessed");
  }
  target.record.ttl_mode = row->mode;
  if (S_ISDIR(target.record.mode)) target.record.deadline_explicit = true;
  return {};
}

Result<> remove_mode(XattrTarget& target) {
  if (S_ISDIR(target.record.mode)) {
    target.record.ttl_mode = meta::TtlMode::fixed;
    target.record.deadline_explicit = false;
  } else {
    target.record.ttl_mode = inherited_ttl(target.state, target.parent).mode;
  }
  return {};
}

constexpr std::string_view kAutoProfile = "auto";

bool has_own_profile(const meta::InodeRecord& record) {
  return record.profile.has_value();
}

Result<std::string> get_profile(EngineState& state, Inode& inode) {
  const Read read(inode);
  const auto profile = read.record.profile ? read.record.profile : state.options.profile;
  return profile ? core::format_profile(*profile) : std::string(kAutoProfile);
}

Result<> remove_profile(XattrTarget& target) {
  target.record.profile.reset();
  return {};
}

Result<> set_profile(XattrTarget& target, std::string_view value) {
  if (value == kAutoProfile) return remove_profile(target);
  EPHFS_TRY(const auto profile, core::parse_profile(value));
  const std::size_t nodes = target.state.peers.all().size();
  if (profile.width() > nodes) {
    return core::fail(core::Error::invalid_argument, "profile " + core::format_profile(profile) + " needs " +
                                                         std::to_string(profile.width()) + " nodes and there are " +
                                                         std::to_string(nodes));
  }
  target.record.profile = profile;
  return {};
}

bool is_always_set(const meta::InodeRecord&) {
  return true;
}

constexpr std::array kAttributes{
    EphfsXattr{"ttl", get_ttl, has_own_ttl, set_ttl, remove_deadline},
    EphfsXattr{"expires", get_expires, has_own_expires, set_expires, remove_deadline},
    EphfsXattr{"ttl_mode", get_mode, has_own_mode, set_mode, remove_mode},
    EphfsXattr{"profile", get_profile, has_own_profile, set_profile, remove_profile},
    EphfsXattr{"warning", get_warning, is_always_set, nullptr, nullptr},
    EphfsXattr{"state", describe_state, is_always_set, nullptr, nullptr},
    EphfsXattr{"health", describe_health, is_always_set, nullptr, nullptr},
    EphfsXattr{"placement", describe_placement, is_always_set, nullptr, nullptr},
    EphfsXattr{"manifest", signed_manifest, is_always_set, nullptr, nullptr},
    EphfsXattr{"proof", signed_proof, is_always_set, nullptr, nullptr},
};

}  // namespace

bool is_ephfs_xattr(std::string_view name) {
  return name.starts_with(kPrefix) || name.starts_with(kSystemPrefix);
}

Result<const EphfsXattr*> find_ephfs_xattr(std::string_view name) {
  name.remove_prefix(name.starts_with(kSystemPrefix) ? kSystemPrefix.size() : kPrefix.size());
  const auto* row =
      std::find_if(kAttributes.begin(), kAttributes.end(), [&](const auto& known) { return known.name == name; });
  if (row == kAttributes.end()) {
    return core::fail(core::Error::invalid_argument, std::string(kPrefix) + std::string(name) + " is not known");
  }
  return row;
}

std::optional<std::string> listed_ephfs_xattr(const meta::InodeRecord& record) {
  if (!has_own_expires(record)) return std::nullopt;
  const bool may_have_user_attributes = S_ISREG(record.mode) || S_ISDIR(record.mode);
  return std::string(may_have_user_attributes ? kPrefix : kSystemPrefix) + "expires";
}

Result<meta::InodeRecord> parent_record(const EngineState& state, const Inode& inode) {
  EPHFS_TRY(const auto parent, state.catalog->parent_of(inode.number));
  EPHFS_TRY(auto record, state.catalog->inode(parent ? parent->first : core::kRootInode));
  if (!record) return core::fail(core::Error::not_found);
  return *std::move(record);
}

}  // namespace ephfs::fs
