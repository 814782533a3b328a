// SPDX-License-Identifier: Apache-2.0
// Carrying out a read plan: from this disk, or from the nodes, several parts at once. No lock is held.
#pragma once

#include "fs/file_data.hpp"
#include "fs/stripes.hpp"

namespace ephfs::fs {

/// Fills the planned parts of `out` from what is local; failures as Stripes::try_read().
[[nodiscard]] Result<> try_read_parts(Stripes& stripes, const ReadPlan& plan, core::MutableByteView out);
/// Fills them with the nodes' help; the first failure, as Stripes::read(). When it resumes nothing writes to
/// `out` any more, whatever became of it.
[[nodiscard]] awaitable<Result<>> read_parts(Stripes& stripes, ReadPlan plan, core::MutableByteView out,
                                             bool sequential, net::CallLimits limits);

}  // namespace ephfs::fs
