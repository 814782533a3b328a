// SPDX-License-Identifier: Apache-2.0
// Moving files' extents out of stripes they should not be in any longer, into stripes of their deadline. The
// bytes are read, staged again, and made to survive loss of power before the first commit gives the old place
// up; a slice that was overwritten meanwhile is left alone. One Relocation is one batch, so that one sync
// serves many small files.
#pragma once

#include <memory>
#include <stop_token>
#include <vector>

#include "fs/engine_state.hpp"

namespace ephfs::fs {

class Relocation {
 public:
  /// `stop` ends waits early, with cancelled.
  Relocation(EngineState& state, std::stop_token stop) : state_(state), stop_(std::move(stop)) {}

  /// No lock held. Reads and stages the file's slices in `stripe`; commits what was staged before when that
  /// has become much, or when staging is full. A file that died or was removed is passed over.
  [[nodiscard]] awaitable<Result<>> move_out(std::shared_ptr<Inode> inode, StripeNumber stripe);
  /// No lock held. Commits what was staged.
  [[nodiscard]] Result<> commit();

 private:
  using Slices = std::vector<meta::ExtentRecord>;
  struct Move {
    std::shared_ptr<Inode> inode;
    Slices slices;
    StagedContent staged;
  };
  struct Copy {  // of some slices' bytes, one behind the other
    Slices slices;
    PlainBytes bytes;
  };

  awaitable<Result<>> read(std::shared_ptr<Inode> inode, Copy* copy);
  awaitable<Result<>> stage(std::shared_ptr<Inode> inode, std::shared_ptr<const Copy> copy);
  Result<> try_stage(const std::shared_ptr<Inode>& inode, const Copy& copy);

  EngineState& state_;
  std::stop_token stop_;
  std::vector<std::unique_ptr<Move>> moves_;
  std::uint64_t staged_bytes_ = 0;
};

}  // namespace ephfs::fs
