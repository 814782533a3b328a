// SPDX-License-Identifier: Apache-2.0
// What people type: invitations, links, spans, instants, sizes, addresses, profiles.
#include "core/config.hpp"
#include "core/erasure.hpp"
#include "core/secret.hpp"
#include "core/time.hpp"
#include "net/share_link.hpp"
#include "net/token.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace ephfs::fuzz {

std::vector<core::Bytes> samples() {
  net::Token token;
  token.pool = core::random_id<core::PoolId>();
  token.inviter = core::random_id<core::NodeId>();
  token.addresses = {"a.example.org:7400", "[2001:db8::1]:7400"};
  const auto text = net::format_token(token);
  EPHFS_CHECK(text.has_value(), "the sample is a token");
  net::ShareLink link;
  link.secret = core::random_key();
  link.deadline = core::Deadline(core::Instant{1'800'000'000'000});
  link.holders = {{token.inviter, token.addresses[0]}};
  const auto link_text = net::format_share_link(link);
  EPHFS_CHECK(link_text.has_value(), "the sample is a link");
  std::vector<core::Bytes> samples;
  for (const std::string& one : {*text, *link_text, std::string("1h30m"), std::string("2w"),
                                 std::string("2026-11-21T09:46:31.385Z"), std::string("2026-11-21T09:46:31+02:00"),
                                 std::string("10G"), std::string("4+2"), std::string("[2001:db8::1]:7400")}) {
    samples.push_back(core::to_bytes(core::as_bytes(one)));
  }
  return samples;
}

void try_bytes(core::ByteView bytes) {
  const std::string_view text = core::as_text(bytes);
  if (const auto token = net::parse_token(text)) {
    const auto again = net::format_token(*token);
    EPHFS_CHECK(again && net::parse_token(*again) == *token, "a token that was read is written as it is");
  }
  if (const auto link = net::parse_share_link(text)) {
    const auto again = net::format_share_link(*link);
    EPHFS_CHECK(again && net::parse_share_link(*again)->holders == link->holders,
                "a link that was read is written as it is");
  }
  if (const auto span = core::parse_span(text)) {
    EPHFS_CHECK(core::parse_span(core::format_span(*span)) == *span, "a span that was read is written as it is");
  }
  if (const auto instant = core::parse_instant(text)) {
    EPHFS_CHECK(core::parse_instant(core::format_instant(*instant)) == *instant,
                "an instant that was read is written as it is");
  }
  (void)core::parse_size(text);
  (void)core::parse_address(text, true);
  if (const auto profile = core::parse_profile(text)) {
    EPHFS_CHECK(core::parse_profile(core::format_profile(*profile)) == *profile,
                "a profile that was read is written as it is");
  }
}

}  // namespace ephfs::fuzz
