// SPDX-License-Identifier: Apache-2.0
// The changes in a record of a catalog's journal, behind a sum that fits.
#include <algorithm>

#include "core/secret.hpp"
#include "meta/change_codec.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace ephfs::fuzz {

std::vector<core::Bytes> samples() {
  meta::InodeRecord inode;
  inode.number = {7};
  inode.mode = 0100644;
  inode.file = core::random_id<core::FileId>();
  inode.wrapped_key = core::Bytes(60);
  inode.target = "target";
  inode.deadline = core::Deadline(core::Instant{1'800'000'000'000});
  inode.profile = core::Profile{4, 2};
  meta::ExtentRecord extent;
  extent.inode = {7};
  extent.length = extent.origin_length = 4096;
  extent.stripe = {3};
  meta::StripeRecord stripe;
  stripe.number = {3};
  meta::DeadFileRecord dead;
  dead.number = {6};
  dead.extents = {extent, extent};
  return {meta::encode_commit({meta::PutInode{inode}, meta::PutName{{1}, "name", {7}}, meta::PutStripe{stripe},
                               meta::PutExtent{extent}, meta::PutXattr{{7}, "user.a", core::Bytes(9)}},
                              {{{3}, "3-ab.stripe", 4096, core::Bytes(100)}}),
          meta::encode_commit({meta::DropName{{1}, "name"}, meta::PutDeadFile{dead}, meta::DropInode{{6}},
                               meta::DropXattr{{7}, "user.a"}, meta::DropExtent{{7}, 0}, meta::DropDeadFile{{5}}},
                              {})};
}

void try_bytes(core::ByteView bytes) {
  const auto commit = meta::decode_commit(bytes);
  if (!commit) return;
  EPHFS_CHECK(meta::is_encodable(commit->changes), "what was read can be written");
  EPHFS_CHECK(std::ranges::equal(meta::encode_commit(commit->changes, commit->staged), bytes),
              "changes that were read are written as they are");
}

}  // namespace ephfs::fuzz
