// SPDX-License-Identifier: Apache-2.0
#include "meta/proof.hpp"

#include <algorithm>
#include <map>
#include <unordered_set>

#include <boost/json.hpp>
#include <sys/stat.h>

#include "meta/manifest.hpp"
#include "meta/proof_format.hpp"

namespace ephfs::meta {
namespace {

namespace json = boost::json;
using core::Error;
using core::fail;

/// A manifest is part of the proof up to this length; its hash is always.
constexpr std::size_t kManifestCarriedMax = std::size_t{4} << 20U;

json::value ms_of(Deadline deadline) {
  if (deadline.is_never()) return nullptr;
  return deadline.raw();
}

/// One shard, as a placement or a dead shard has it.
struct ShardFacts {
  std::uint8_t index = 0;
  core::ShardId shard;
  core::NodeId node;
  core::Bytes receipt;
  core::Bytes deletion;
  std::optional<AuditRecord> audit;
};

/// The same of a living or dead stripe.
struct StripeFacts {
  core::StripeId id;
  core::Profile profile;
  std::uint64_t length = 0;
  Deadline deadline;
  std::vector<ShardFacts> shards;
};

Result<StripeFacts> living_stripe(const Catalog& catalog, const StripeRecord& record) {
  StripeFacts stripe{record.id, record.profile, record.length, record.deadline, {}};
  EPHFS_TRY(const auto placements, catalog.placements(record.number));
  EPHFS_TRY(const auto audits, catalog.audits(record.number));
  for (const PlacementRecord& row : placements) {
    ShardFacts shard{row.index, row.shard, row.node, row.receipt, {}, {}};
    for (const AuditRecord& audit : audits) {
      if (audit.index == row.index && audit.shard == row.shard && audit.node == row.node) shard.audit = audit;
    }
    stripe.shards.push_back(std::move(shard));
  }
  return stripe;
}

/// None for a stripe that died before any of it left this machine.
Result<std::optional<StripeFacts>> stripe_facts(const Catalog& catalog, StripeNumber number) {
  EPHFS_TRY(const auto record, catalog.stripe(number));
  if (record) {
    EPHFS_TRY(auto stripe, living_stripe(catalog, *record));
    return std::optional(std::move(stripe));
  }
  EPHFS_TRY(const auto dead, catalog.dead_stripe(number));
  if (!dead) return std::optional<StripeFacts>();
  StripeFacts stripe{dead->id, dead->profile, dead->length, dead->deadline, {}};
  EPHFS_TRY(const auto shards, catalog.dead_shards(number));
  for (const DeadShardRecord& row : shards) {
    stripe.shards.push_back({row.index, row.shard, row.node, row.receipt, row.deletion, {}});
  }
  return std::optional(std::move(stripe));
}

Result<json::object> describe_shard(const ShardFacts& shard) {
  json::object out;
  out["index"] = shard.index;
  out["shard"] = shard.shard.hex();
  out["node"] = shard.node.hex();
  const core::Bytes& any = shard.receipt.empty() ? shard.deletion : shard.receipt;
  if (!any.empty()) {
    EPHFS_TRY(const auto envelope, core::Envelope::parse(any));
    out["key"] = envelope.signer.hex();
  }
  if (!shard.receipt.empty()) out["receipt"] = core::to_hex(shard.receipt);
  if (!shard.deletion.empty()) out["deletion"] = core::to_hex(shard.deletion);
  if (shard.audit) {
    json::object audit;
    audit["at_ms"] = shard.audit->at.ms;
    audit["passed"] = shard.audit->passed;
    if (!shard.audit->receipt.empty()) audit["receipt"] = core::to_hex(shard.audit->receipt);
    out["audit"] = std::move(audit);
  }
  return out;
}

Result<json::array> describe_stripes(const Catalog& catalog, const std::vector<ExtentRecord>& extents) {
  json::array out;
  std::unordered_set<StripeNumber> seen;
  for (const ExtentRecord& extent : extents) {
    if (!seen.insert(extent.stripe).second) continue;
    EPHFS_TRY(const auto stripe, stripe_facts(catalog, extent.stripe));
    if (!stripe) continue;
    json::object entry;
    entry["id"] = stripe->id.hex();
    entry["k"] = stripe->profile.k;
    entry["m"] = stripe->profile.m;
    entry["length"] = stripe->length;
    entry["shard_bytes"] = core::shard_bytes(stripe->length, stripe->profile);
    entry["deadline_ms"] = ms_of(stripe->deadline);
    json::array shards;
    for (const ShardFacts& shard : stripe->shards) {
      EPHFS_TRY(auto described, describe_shard(shard));
      shards.push_back(std::move(described));
    }
    entry["shards"] = std::move(shards);
    out.push_back(std::move(entry));
  }
  return out;
}

core::Envelope sign_punctured(const ProofContext& context) {
  const auto id = *core::OwnerId::from_bytes(context.owner.public_key().view());
  return core::sign_puncture({context.volume, id, context.punctured.until, context.punctured.at}, context.owner);
}

/// busy while the file was given less time and its bytes are on their way to where they die with it, or a node has yet
/// to agree to that: a proof of this moment would not hold.
Result<> check_at_rest(const Catalog& catalog, Deadline deadline, const std::vector<ExtentRecord>& extents) {
  if (deadline.is_never()) return {};
  std::unordered_set<StripeNumber> seen;
  for (const ExtentRecord& extent : extents) {
    if (!seen.insert(extent.stripe).second) continue;
    EPHFS_TRY(const auto stripe, catalog.stripe(extent.stripe));
    if (!stripe) continue;
    if (stripe->deadline.is_never() || stripe->deadline.instant() > deadline.instant() + kBucketMax) {
      return fail(Error::busy, "bytes of the file are still in a stripe that outlives it");
    }
    EPHFS_TRY(const auto placements, catalog.placements(extent.stripe));
    for (const PlacementRecord& row : placements) {
      if (row.stored && row.lease_deadline > stripe->deadline) {
        return fail(Error::busy, "node " + row.node.hex() + " has not agreed to a shorter lease yet");
      }
    }
  }
  return {};
}

/// The parts that a living and a dead file have in common; `died` is put between them by the caller's object.
Result<std::string> finish(const ProofContext& context, json::object proof, const Result<Manifest>& manifest,
                           const std::vector<ExtentRecord>& extents) {
  // A file that has not been placed in full has no manifest yet, or never had one.
  const auto signed_one = manifest ? sign_manifest(*manifest, context.owner) : Result<core::Bytes>(manifest.error());
  if (signed_one) {
    proof["manifest_hash"] = manifest_hash(*signed_one).hex();
    if (signed_one->size() <= kManifestCarriedMax) proof["manifest"] = core::to_hex(*signed_one);
  }
  EPHFS_TRY(proof["stripes"], describe_stripes(context.catalog, extents));
  if (proof.contains("died") && context.punctured.until > core::Instant{}) {
    proof["puncture"] = core::to_hex(sign_punctured(context).serialize());
  }
  const std::string text = json::serialize(proof);
  proof["signature"] = context.owner.sign(kProofContext, core::as_bytes(text)).hex();
  return json::serialize(proof);
}

json::object begin(const ProofContext& context, const core::FileId& file, std::uint64_t size, Deadline deadline) {
  json::object proof;
  proof["format"] = kProofFormat;
  proof["version"] = kProofVersion;
  proof["owner"] = context.owner.public_key().hex();
  proof["volume"] = context.volume.hex();
  proof["file"] = file.hex();
  proof["size"] = size;
  proof["deadline_ms"] = ms_of(deadline);
  proof["made_ms"] = context.now.ms;
  return proof;
}

}  // namespace

Result<std::string> prove_file(const ProofContext& context, InodeNumber number) {
  EPHFS_TRY(const auto inode, context.catalog.inode(number));
  if (!inode) return fail(Error::not_found, "inode " + std::to_string(number.value));
  if (!S_ISREG(inode->mode)) return fail(Error::invalid_argument, "only regular files have proofs");
  EPHFS_TRY(const auto extents, context.catalog.extents(number));
  EPHFS_TRY_VOID(check_at_rest(context.catalog, inode->deadline, extents));
  return finish(context, begin(context, inode->file, inode->size, inode->deadline),
                build_manifest(context.catalog, number, context.volume), extents);
}

Result<std::string> prove_dead_file(const ProofContext& context, const core::FileId& file) {
  EPHFS_TRY(const auto dead, context.catalog.dead_file(file));
  if (!dead) return fail(Error::not_found, "no file " + file.hex() + " is remembered among the dead");
  json::object proof = begin(context, dead->file, dead->size, dead->deadline);
  json::object died;
  died["cause"] = dead->cause == DeathCause::expired ? kCauseExpired : kCauseRemoved;
  died["at_ms"] = dead->died.ms;
  proof["died"] = std::move(died);
  return finish(context, std::move(proof), build_dead_manifest(context.catalog, *dead, context.volume), dead->extents);
}

}  // namespace ephfs::meta
