// SPDX-License-Identifier: Apache-2.0
// A proof from anybody: whatever the text, a report comes back. So that mutations reach behind the owner's signature,
// the text is also signed anew by an owner who would sign anything.
#include <boost/json.hpp>

#include "meta/proof.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace ephfs::fuzz {
namespace {

namespace json = boost::json;

const core::Signer& signer() {
  static const core::Signer kSigner(core::SigningSeed::copy_of(core::Bytes(core::SigningSeed::kSize)));
  return kSigner;
}

std::string signed_anew(json::object proof) {
  proof["owner"] = signer().public_key().hex();
  proof.erase("signature");
  proof["signature"] = signer().sign("ephfs proof", core::as_bytes(json::serialize(proof))).hex();
  return json::serialize(proof);
}

std::string puncture() {
  const auto volume = *core::VolumeId::from_hex(std::string(32, 'a'));
  const auto owner = *core::OwnerId::from_bytes(signer().public_key().view());
  const core::Instant until{1'800'000'060'000};
  return core::to_hex(core::sign_puncture({volume, owner, until, until}, signer()).serialize());
}

std::string sample() {
  const std::string id(32, 'a');
  const std::string hash(64, 'b');
  return signed_anew(json::parse(R"({"format":"ephfs-proof","version":1,"owner":"","volume":")" + id + R"(","file":")" +
                                 id + R"(","size":5000,"deadline_ms":1800000000000,"made_ms":1800000060000,)" +
                                 R"("died":{"cause":"expired","at_ms":1800000000000},"stripes":[{"id":")" + id +
                                 R"(","k":1,"m":0,"length":5016,"shard_bytes":5056,"deadline_ms":1800000000000,)" +
                                 R"("shards":[{"index":0,"shard":")" + hash + R"(","node":")" + hash +
                                 R"(","audit":{"at_ms":5,"passed":false}}]}],"puncture":")" + puncture() + R"("})")
                         .as_object());
}

}  // namespace

std::vector<core::Bytes> samples() {
  return {core::to_bytes(core::as_bytes(sample()))};
}

void try_bytes(core::ByteView bytes) {
  (void)meta::check_proof(core::as_text(bytes));
  boost::system::error_code error;
  const auto value = json::parse(core::as_text(bytes), error);
  if (error || !value.is_object()) return;
  (void)meta::check_proof(signed_anew(value.get_object()));
}

}  // namespace ephfs::fuzz
