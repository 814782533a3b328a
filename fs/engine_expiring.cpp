// SPDX-License-Identifier: Apache-2.0
// What dies soon, by name.
#include "fs/engine_state.hpp"

namespace ephfs::fs {
namespace {

/// Longer paths than the kernel takes are cut in front: nobody could open them in one go anyway.
constexpr std::size_t kDepthMax = 4096;

}  // namespace

Result<std::string> PathFinder::path_of(InodeNumber number) {
  std::vector<std::pair<InodeNumber, std::string>> steps;  // from the inode up: a directory, and the name in it
  std::string path;
  for (InodeNumber at = number; at != core::kRootInode && steps.size() < kDepthMax;) {
    if (const auto known = directories_.find(at); known != directories_.end()) {
      path = known->second;
      break;
    }
    EPHFS_TRY(auto parent, catalog_.parent_of(at));
    if (!parent) return std::string();
    at = parent->first;
    steps.push_back(*std::move(parent));
  }
  // Down again; what the directories on the way are called is kept for the next.
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (step->first != core::kRootInode) directories_.try_emplace(step->first, path);
    path += "/" + step->second;
  }
  return path;
}

Result<Engine::ExpiringPage> Engine::expiring(const meta::ExpiringRecord& after, core::Instant until,
                                              std::size_t limit) const {
  EPHFS_TRY(const auto records, state_->catalog->expiring_list(after, until, limit));
  ExpiringPage page;
  PathFinder paths(*state_->catalog);
  const core::Instant now = state_->clock.now();
  for (const auto& record : records) {
    Deadline deadline = record.deadline;
    std::uint64_t size = record.size;
    if (const auto inode = state_->inodes.find(record.inode)) {
      const std::shared_lock lock(inode->mutex);
      deadline = inode->record.deadline;
      size = inode->record.size;
    }
    // Dead already, or slid on and no longer due.
    if (deadline.passed(now + kLastMoment) || deadline >= Deadline(until)) continue;
    EPHFS_TRY(auto path, paths.path_of(record.inode));
    if (path.empty()) continue;  // open-unlinked
    page.files.push_back({record.inode, record.mode, size, deadline, std::move(path)});
  }
  if (records.size() == limit && limit > 0) page.next = records.back();
  return page;
}

}  // namespace ephfs::fs
