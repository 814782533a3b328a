// SPDX-License-Identifier: Apache-2.0
#include "meta/shared_file.hpp"

#include "core/aead.hpp"
#include "core/little_endian.hpp"

namespace ephfs::meta {
namespace {

using core::Bytes;
using core::ByteView;
using core::Error;
using core::fail;

constexpr std::byte kVersion{1};
constexpr std::size_t kNameMax = 255;
constexpr std::size_t kWrappedKeyBytes = 24 + core::Key::kSize + core::kAeadTagBytes;
constexpr std::size_t kFixedBytes = 1 + 4 + 8 + kWrappedKeyBytes;  // in front of the name's length
constexpr std::uint32_t kModeMask = 07777;
/// A share is opened once on each machine: any processor is fast enough.
constexpr auto kAlgorithm = core::AeadAlgorithm::xchacha20_poly1305;

bool is_file_name(std::string_view name) {
  return !name.empty() && name.size() <= kNameMax && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
}

void append(Bytes& out, ByteView bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

}  // namespace

Result<Bytes> seal_shared_file(const SharedFile& file, const core::ShareSecret& secret, const core::ShareId& share) {
  if (!is_file_name(file.name)) return fail(Error::invalid_argument, "a name that is none");
  Bytes plain(kFixedBytes - kWrappedKeyBytes);
  plain[0] = kVersion;
  core::store_le(core::MutableByteView(plain).subspan(1), file.mode & kModeMask);
  core::store_le(core::MutableByteView(plain).subspan(5), file.modified.ns);
  append(plain, core::seal_small(core::share_wrapping_key(secret, share), share.view(), file.key.view()));
  plain.push_back(static_cast<std::byte>(file.name.size()));
  append(plain, core::as_bytes(file.name));
  append(plain, file.manifest);
  if (plain.size() + core::kAeadTagBytes > core::kShareBytesMax) {
    return fail(Error::file_too_large, "the file lies in too many pieces to be shared: its manifest is " +
                                           std::to_string(file.manifest.size()) + " bytes long");
  }
  Bytes sealed(plain.size() + core::kAeadTagBytes);
  // The key is of this share alone, and seals once.
  core::Aead(kAlgorithm, core::share_content_key(secret, share)).seal(0, share.view(), plain, sealed);
  return sealed;
}

Result<SharedFile> open_shared_file(ByteView content, const core::ShareSecret& secret, const core::ShareId& share) {
  const auto damaged = [](const char* what) { return fail(Error::damaged, std::string("the share: ") + what); };
  if (content.size() > core::kShareBytesMax || content.size() <= kFixedBytes + 1 + core::kAeadTagBytes) {
    return damaged("of an impossible length");
  }
  Bytes plain(content.size() - core::kAeadTagBytes);
  if (!core::Aead(kAlgorithm, core::share_content_key(secret, share)).open(0, share.view(), content, plain)) {
    return damaged("it is not what the link opens");
  }
  if (plain[0] != kVersion) {
    return fail(Error::version, "a share of version " + std::to_string(std::to_integer<int>(plain[0])));
  }
  const ByteView all(plain);
  SharedFile file;
  file.mode = core::load_le<std::uint32_t>(all.subspan(1)) & kModeMask;
  file.modified.ns = core::load_le<std::int64_t>(all.subspan(5));
  file.key = core::Key::zeroed();
  EPHFS_TRY_VOID(core::open_small(core::share_wrapping_key(secret, share), share.view(),
                                  all.subspan(13, kWrappedKeyBytes), file.key.mutable_view()));
  const std::size_t name_bytes = std::to_integer<std::size_t>(all[kFixedBytes]);
  if (name_bytes > all.size() - kFixedBytes - 1) return damaged("its name is cut off");
  file.name = core::as_text(all.subspan(kFixedBytes + 1, name_bytes));
  if (!is_file_name(file.name)) return damaged("its name is none");
  file.manifest = core::to_bytes(all.subspan(kFixedBytes + 1 + name_bytes));
  return file;
}

}  // namespace ephfs::meta
