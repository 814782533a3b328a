// SPDX-License-Identifier: Apache-2.0
// FUSE requests about attributes: stat, chmod and the like, xattrs, statfs.
#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <vector>

#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "fs/fuse_timed.hpp"
#include "fs/fuse_wire.hpp"

namespace ephfs::fs {
namespace {

meta::FileTime from_timespec(const timespec& time) {
  return {time.tv_sec * std::int64_t{1'000'000'000} + time.tv_nsec};
}

void on_getattr(fuse_req_t request, fuse_ino_t number, fuse_file_info* info) {
  reply_attributes(request, engine_of(request).attributes({number}, info != nullptr));
}

SetAttributes to_set(const struct stat& wanted, int to_set_flags, meta::FileTime now) {
  const auto asked = [to_set_flags](int flag) { return (to_set_flags & flag) != 0; };
  SetAttributes set;
  if (asked(FUSE_SET_ATTR_MODE)) set.mode = wanted.st_mode & 07777U;
  if (asked(FUSE_SET_ATTR_UID)) set.uid = wanted.st_uid;
  if (asked(FUSE_SET_ATTR_GID)) set.gid = wanted.st_gid;
  if (asked(FUSE_SET_ATTR_SIZE)) set.size = static_cast<std::uint64_t>(wanted.st_size);
  if (asked(FUSE_SET_ATTR_ATIME)) set.accessed = from_timespec(wanted.st_atim);
  if (asked(FUSE_SET_ATTR_MTIME)) set.modified = from_timespec(wanted.st_mtim);
  if (asked(FUSE_SET_ATTR_CTIME)) set.changed = from_timespec(wanted.st_ctim);
  if (asked(FUSE_SET_ATTR_ATIME_NOW)) set.accessed = now;
  if (asked(FUSE_SET_ATTR_MTIME_NOW)) set.modified = now;
  set.drop_set_id = request_drops_set_id();
  return set;
}

/// What the kernel sends, unasked, to write back the times it kept of a file it has written to, renamed or unlinked.
bool is_writeback_of_times(int flags) {
  return flags == (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME);
}

void on_setattr(fuse_req_t request, fuse_ino_t number, struct stat* wanted, int flags, fuse_file_info* info) {
  if ((flags & FUSE_SET_ATTR_SIZE) != 0 && wanted->st_size < 0) {
    fuse_reply_err(request, EINVAL);
    return;
  }
  Engine& engine = engine_of(request);
  const bool by_descriptor = info != nullptr;
  // utimensat(2) is the same by its flags, but never comes with a descriptor.
  const bool writes_back = is_writeback_of_times(flags);
  const bool is_noted = writes_back && engine.note_kernel_times({number}, from_timespec(wanted->st_mtim),
                                                                from_timespec(wanted->st_ctim), by_descriptor);
  const meta::FileTime now{engine.clock().file_time_ns()};
  const auto set = is_noted ? engine.attributes({number}, by_descriptor)
                            : engine.set_attributes({number}, to_set(*wanted, flags, now), by_descriptor);
  if (!set && is_gone(set.error()) && writes_back) {
    // Nobody waits for the times of what is no more, and sync(2) must not fail for them.
    struct stat nothing {};
    nothing.st_ino = number;
    fuse_reply_attr(request, &nothing, 0);
    return;
  }
  reply_attributes(request, set);
}

/// Answers a run of bytes the way xattr calls want it: only its length when the caller gave no room, ERANGE when too
/// little.
void reply_sized(fuse_req_t request, core::ByteView bytes, std::size_t room) {
  if (room == 0) {
    fuse_reply_xattr(request, bytes.size());
  } else if (bytes.size() > room) {
    fuse_reply_err(request, ERANGE);
  } else {
    fuse_reply_buf(request, reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
}

bool is_in_group(fuse_req_t request, std::uint32_t group) {
  if (caller_of(request).gid == group) return true;
  std::vector<gid_t> groups(64);
  for (;;) {
    const int count = fuse_req_getgroups(request, static_cast<int>(groups.size()), groups.data());
    if (count < 0) return false;  // the caller is gone, or not of our processes
    const bool all = static_cast<std::size_t>(count) <= groups.size();
    groups.resize(static_cast<std::size_t>(count));
    if (all) return std::ranges::find(groups, group) != groups.end();
  }
}

bool may_read(fuse_req_t request, const Attributes& attributes) {
  const std::uint32_t caller = caller_of(request).uid;
  if (caller == 0) return true;
  if (caller == attributes.uid) return (attributes.mode & S_IRUSR) != 0;
  return (attributes.mode & (is_in_group(request, attributes.gid) ? S_IRGRP : S_IROTH)) != 0;
}

/// The kernel asks for permission to read a file before it asks us for a user attribute, but not for a system one. When
/// things die, whoever sees them may know. 0, or an errno.
int check_may_get(fuse_req_t request, fuse_ino_t number, std::string_view name) {
  constexpr std::string_view kPrefix = "system.ephfs.";
  constexpr std::array<std::string_view, 3> kForAll{"ttl", "expires", "ttl_mode"};
  if (!name.starts_with(kPrefix)) return 0;
  if (std::ranges::find(kForAll, name.substr(kPrefix.size())) != kForAll.end()) return 0;
  const auto attributes = engine_of(request).attributes({number}, false);
  if (!attributes) return core::to_errno(is_gone(attributes.error()) ? core::Error::stale : attributes.error().code);
  return may_read(request, *attributes) ? 0 : EACCES;
}

void on_getxattr(fuse_req_t request, fuse_ino_t number, const char* name, std::size_t size) {
  if (const int refused = check_may_get(request, number, name); refused != 0) {
    fuse_reply_err(request, refused);
    return;
  }
  const auto value = engine_of(request).xattr({number}, name);
  if (!value) return reply_inode_failure(request, value.error());
  reply_sized(request, *value, size);
}

void on_listxattr(fuse_req_t request, fuse_ino_t number, std::size_t size) {
  const auto names = engine_of(request).list_xattrs({number});
  if (!names) return reply_inode_failure(request, names.error());
  std::string list;
  for (const auto& name : *names) list.append(name).push_back('\0');
  reply_sized(request, core::as_bytes(list), size);
}

/// The kernel leaves it to us who may set a system attribute: the owner, as with a file's mode. 0, or an
/// errno.
int check_may_set(fuse_req_t request, fuse_ino_t number, std::string_view name) {
  if (!name.starts_with("system.")) return 0;
  const auto attributes = engine_of(request).attributes({number}, false);
  if (!attributes) return core::to_errno(is_gone(attributes.error()) ? core::Error::stale : attributes.error().code);
  const std::uint32_t caller = caller_of(request).uid;
  return caller == 0 || caller == attributes->uid ? 0 : EPERM;
}

void on_setxattr(fuse_req_t request, fuse_ino_t number, const char* name, const char* value, std::size_t size,
                 int flags) {
  if (const int refused = check_may_set(request, number, name); refused != 0) {
    fuse_reply_err(request, refused);
    return;
  }
  XattrMode mode = XattrMode::any;
  if (flags == XATTR_CREATE) mode = XattrMode::create;
  if (flags == XATTR_REPLACE) mode = XattrMode::replace;
  reply_inode_status(request, engine_of(request).set_xattr({number}, name, core::as_bytes({value, size}), mode));
}

void on_removexattr(fuse_req_t request, fuse_ino_t number, const char* name) {
  if (const int refused = check_may_set(request, number, name); refused != 0) {
    fuse_reply_err(request, refused);
    return;
  }
  reply_inode_status(request, engine_of(request).remove_xattr({number}, name));
}

void on_statfs(fuse_req_t request, fuse_ino_t) {
  constexpr std::uint64_t kUnit = 4096;
  const auto statistics = engine_of(request).statistics();
  if (!statistics) return reply_failure(request, statistics.error());
  struct statvfs out {};
  out.f_bsize = out.f_frsize = kUnit;
  out.f_blocks = statistics->bytes_total / kUnit;
  out.f_bfree = out.f_bavail = statistics->bytes_free / kUnit;
  // Inodes are rows of the catalog: as many more are possible as there are blocks for them.
  out.f_ffree = out.f_favail = out.f_bfree;
  out.f_files = statistics->inodes + out.f_ffree;
  out.f_namemax = kNameBytesMax;
  fuse_reply_statfs(request, &out);
}

}  // namespace

void add_attribute_operations(fuse_lowlevel_ops& operations) {
  operations.getattr = timed<on_getattr>("getattr");
  operations.setattr = timed<on_setattr>("setattr");
  operations.getxattr = timed<on_getxattr>("getxattr");
  operations.listxattr = timed<on_listxattr>("listxattr");
  operations.setxattr = timed<on_setxattr>("setxattr");
  operations.removexattr = timed<on_removexattr>("removexattr");
  operations.statfs = timed<on_statfs>("statfs");
}

}  // namespace ephfs::fs
