// SPDX-License-Identifier: Apache-2.0
// The content of a share, inside its seal: what somebody with a link's secret may have put there.
#include "core/aead.hpp"
#include "core/secret.hpp"
#include "meta/shared_file.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace ephfs::fuzz {
namespace {

const core::ShareSecret& secret() {
  static const core::ShareSecret kSecret = core::ShareSecret::copy_of(core::Bytes(core::ShareSecret::kSize));
  return kSecret;
}
const core::ShareId kShare = *core::ShareId::from_bytes(core::Bytes(core::ShareId::kSize, std::byte{7}));

core::Aead cipher() {
  return {core::AeadAlgorithm::xchacha20_poly1305, core::share_content_key(secret(), kShare)};
}

}  // namespace

std::vector<core::Bytes> samples() {
  meta::SharedFile file;
  file.name = "report.pdf";
  file.manifest = core::Bytes(300, std::byte{1});
  file.key = core::random_key();
  const auto sealed = meta::seal_shared_file(file, secret(), kShare).value();
  core::Bytes plain(sealed.size() - core::kAeadTagBytes);
  EPHFS_CHECK(cipher().open(0, kShare.view(), sealed, plain), "a seal of ours opens");
  return {plain};
}

void try_bytes(core::ByteView bytes) {
  (void)meta::open_shared_file(bytes, secret(), kShare);
  core::Bytes sealed(bytes.size() + core::kAeadTagBytes);
  cipher().seal(0, kShare.view(), bytes, sealed);
  const auto file = meta::open_shared_file(sealed, secret(), kShare);
  if (!file) return;
  EPHFS_CHECK(meta::seal_shared_file(*file, secret(), kShare).has_value(), "what was read can be written");
}

}  // namespace ephfs::fuzz
