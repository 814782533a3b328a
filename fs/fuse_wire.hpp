// SPDX-License-Identifier: Apache-2.0
// What the kernel says and libfuse 3.14 does not pass on: who may not keep set-user-ID on a file that he changes, and
// who opens a file without a name (O_TMPFILE).
//
// Without FUSE_HANDLE_KILLPRIV_V2 the kernel asks for security.capability before every write(2), to find out whether it
// has something to drop; that question costs as much as the write. With it, it remembers that there is nothing, and
// says in requests when set-user-ID and set-group-ID are to go. libfuse 3.14 can neither agree to it nor show these
// flags, so they are set and read here, in the bytes that it reads and writes. Nor does it know FUSE_TMPFILE, which has
// the form of FUSE_CREATE, and is shown to it as one. Private to fs/fuse_*.
#pragma once

#include "fs/fuse_request.hpp"

namespace ephfs::fs {

/// Has a mounted session read and write through this file; before its loop begins. One session a process. Fails when
/// libfuse does not take it.
[[nodiscard]] core::Result<> watch_wire(fuse_session* session);

/// Whether the request that this thread has read last asks that set-user-ID be dropped, and set-group-ID where the
/// group may execute.
[[nodiscard]] bool request_drops_set_id();

/// Whether the request to create that this thread has read last is for a file without a name.
[[nodiscard]] bool request_makes_unnamed();

}  // namespace ephfs::fs
