// SPDX-License-Identifier: Apache-2.0
// The secret in a share's link, and what is derived from it: who holds the link can show the token and open the share,
// and from token, share or another link nobody comes back to the secret. docs/sharing.md says what each is for.
#pragma once

#include "core/records.hpp"
#include "core/secret.hpp"

namespace ephfs::core {

using ShareSecret = Key;

/// What a node asks for before it gives the share out. It opens nothing.
[[nodiscard]] Hash share_token(const ShareSecret& secret, const ShareId& share);
/// What the node knows of the token.
[[nodiscard]] Hash share_token_hash(const Hash& token);
/// What the share's content is sealed with.
[[nodiscard]] Key share_content_key(const ShareSecret& secret, const ShareId& share);
/// What the file's key is wrapped with, inside the content.
[[nodiscard]] Key share_wrapping_key(const ShareSecret& secret, const ShareId& share);

}  // namespace ephfs::core
