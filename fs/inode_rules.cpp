// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>

#include "core/aead.hpp"
#include "fs/engine_state.hpp"

namespace ephfs::fs {
namespace {

constexpr Milliseconds kBelievedMax{std::chrono::hours(24)};
/// The kernel counts from when it has the answer, in ticks of its own, and a busy machine delivers answers
/// late: what it believes ends this long before the deadline. From then on it asks.
constexpr Milliseconds kBeliefMargin{250};
constexpr std::uint64_t kDirectoryBytes = 4096;

/// How long the kernel may believe what it was told of something that dies at `deadline`.
Milliseconds believable(const EngineState& state, Deadline deadline) {
  if (deadline.is_never()) return kBelievedMax;
  const Milliseconds left = deadline.instant() - state.clock.now() - kBeliefMargin;
  return std::clamp(left, Milliseconds{0}, kBelievedMax);
}

/// Bytes that a regular file takes up; its size where the catalog cannot tell. Its lock is held, shared at least.
std::uint64_t allocated_of(const EngineState& state, Inode& inode) {
  // Holes in so short a file are not worth a search for its extents, when many files are looked at.
  constexpr std::uint64_t kShort = std::uint64_t{64} << 10U;
  if (inode.data) return inode.data->allocated();
  if (inode.record.size <= kShort) return inode.record.size;
  if (inode.allocated == Inode::kAllocatedUnknown) {
    const auto extents = state.catalog->extents(inode.number);
    if (!extents) return inode.record.size;
    inode.allocated = std::accumulate(extents->begin(), extents->end(), std::uint64_t{0},
                                      [](std::uint64_t sum, const auto& extent) { return sum + extent.length; });
  }
  return inode.allocated;
}

/// What a wrapped key is bound to beside its epoch: the file and the exact deadline.
core::Bytes wrapping_context(const meta::InodeRecord& record) {
  constexpr std::string_view kPurpose = "ephfs file key";
  core::Bytes context = core::to_bytes(core::as_bytes(kPurpose));
  const auto file = record.file.view();
  context.insert(context.end(), file.begin(), file.end());
  const auto deadline = static_cast<std::uint64_t>(record.deadline.raw());
  for (unsigned shift = 0; shift < 64; shift += 8) context.push_back(static_cast<std::byte>(deadline >> shift));
  return context;
}

}  // namespace

meta::FileTime file_time_now(const core::Clock& clock) {
  return {clock.file_time_ns()};
}

Result<> check_alive(const EngineState& state, const Inode& inode, bool by_descriptor) {
  if (!inode.is_gone(state.clock.now())) return {};
  return core::fail(by_descriptor ? core::Error::stale : core::Error::gone);
}

Attributes attributes_of(const EngineState& state, Inode& inode) {
  const auto& record = inode.record;
  Attributes attributes;
  attributes.number = inode.number;
  attributes.mode = record.mode;
  attributes.uid = record.uid;
  attributes.gid = record.gid;
  attributes.links = record.links;
  attributes.rdev = record.rdev;
  attributes.accessed = record.accessed;
  attributes.modified = record.modified;
  attributes.changed = record.changed;
  attributes.valid_for = believable(state, record.deadline);
  if (inode.is_directory()) {
    attributes.size = attributes.allocated = kDirectoryBytes;
  } else {
    attributes.size = record.size;
    if (inode.is_regular()) attributes.allocated = allocated_of(state, inode);
  }
  return attributes;
}

Result<std::shared_ptr<Inode>> live_inode(EngineState& state, InodeNumber number, bool by_descriptor) {
  auto inode = state.inodes.get(number);
  if (!inode) {
    if (by_descriptor && inode.error().code == core::Error::not_found) return core::fail(core::Error::stale);
    return inode;
  }
  EPHFS_TRY_VOID(check_alive(state, **inode, by_descriptor));
  return inode;
}

core::Boottime while_alive(const EngineState& state, const Inode& inode, core::Boottime until) {
  const Deadline deadline = inode.deadline();
  if (deadline.is_never()) return until;
  const Milliseconds left = deadline.instant() - kLastMoment - state.clock.now();
  return std::min(until, state.clock.boot_now() + std::max(left, Milliseconds{0}));
}

Result<core::Bytes> wrap_file_key(const EngineState& state, const meta::InodeRecord& record, const core::Key& key) {
  EPHFS_TRY(const auto epoch, state.epoch_keys->key_for(record.deadline));
  return core::seal_small(epoch, wrapping_context(record), key.view());
}

Result<core::Key> unwrap_file_key(const EngineState& state, const meta::InodeRecord& record) {
  EPHFS_TRY(const auto epoch, state.epoch_keys->key_for(record.deadline));
  auto key = core::Key::zeroed();
  if (auto opened = core::open_small(epoch, wrapping_context(record), record.wrapped_key, key.mutable_view());
      !opened) {
    return core::fail(opened.error().code, "key of inode " + std::to_string(record.number.value));
  }
  return key;
}

}  // namespace ephfs::fs
