// SPDX-License-Identifier: Apache-2.0
// Signed statements: an envelope, and the statement in it when somebody did sign it.
#include "core/records.hpp"
#include "core/secret.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace ephfs::fuzz {
namespace {

const core::Signer& signer() {
  static const core::Signer kSigner(core::SigningSeed::copy_of(core::Bytes(core::SigningSeed::kSize)));
  return kSigner;
}

}  // namespace

std::vector<core::Bytes> samples() {
  const auto shard = core::random_id<core::ShardId>();
  const auto node = core::random_id<core::NodeId>();
  const core::OwnerId owner = *core::OwnerId::from_bytes(signer().public_key().view());
  const core::Deadline deadline(core::Instant{1'800'000'000'000});
  return {core::sign_lease({shard, node, owner, 4096, deadline, 3}, signer()).serialize(),
          core::sign_removal({shard, node, owner, 3}, signer()).serialize(),
          core::sign_receipt({core::ReceiptKind::stored, shard, core::node_id_of(signer().public_key()), owner,
                              core::Instant{1'700'000'000'000}, deadline, 4096},
                             signer())
              .serialize(),
          core::sign_inquiry({core::InquiryKind::deletions, node, owner, core::random_id<core::Hash>()}, signer())
              .serialize(),
          core::sign_puncture({core::random_id<core::VolumeId>(), owner, core::Instant{1'700'000'000'000},
                               core::Instant{1'700'000'000'000}},
                              signer())
              .serialize(),
          core::sign_share_grant({core::random_id<core::ShareId>(), node, owner, deadline, 3,
                                  core::random_id<core::Hash>(), core::random_id<core::Hash>(), 4096},
                                 signer())
              .serialize(),
          core::sign_share_drop({core::random_id<core::ShareId>(), node, owner}, signer()).serialize()};
}

void try_bytes(core::ByteView bytes) {
  const auto envelope = core::Envelope::parse(bytes);
  if (!envelope) return;
  const auto again = core::Envelope::parse(envelope->serialize());
  EPHFS_CHECK(again && *again == *envelope, "an envelope that was read is written as it is");
  (void)core::open_lease(*envelope);
  (void)core::open_removal(*envelope);
  (void)core::open_receipt(*envelope);
  (void)core::read_receipt(*envelope);
  (void)core::open_inquiry(*envelope);
  (void)core::open_puncture(*envelope);
  (void)core::open_share_grant(*envelope);
  (void)core::open_share_drop(*envelope);
}

}  // namespace ephfs::fuzz
