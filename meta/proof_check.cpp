// SPDX-License-Identifier: Apache-2.0
// Reading a proof as somebody does who trusts nobody: all he has is the text.
#include <algorithm>
#include <functional>
#include <map>

#include <boost/json.hpp>

#include "meta/manifest.hpp"
#include "meta/proof.hpp"
#include "meta/proof_format.hpp"

namespace ephfs::meta {
namespace {

namespace json = boost::json;
using core::Error;
using core::fail;

std::string short_name(std::string_view hex) {
  return std::string(hex.substr(0, 16));
}

Result<const json::value*> member(const json::object& object, std::string_view name) {
  const json::value* found = object.if_contains(name);
  if (found == nullptr) return fail(Error::damaged, "has no " + std::string(name));
  return found;
}

Result<std::string_view> text_in(const json::object& object, std::string_view name) {
  EPHFS_TRY(const json::value* value, member(object, name));
  if (!value->is_string()) return fail(Error::damaged, std::string(name) + " is no string");
  return std::string_view(value->get_string());
}

Result<std::int64_t> integer_in(const json::object& object, std::string_view name) {
  EPHFS_TRY(const json::value* value, member(object, name));
  if (!value->is_int64() || value->get_int64() < 0) {
    return fail(Error::damaged, std::string(name) + " is no natural number");
  }
  return value->get_int64();
}

/// null: never.
Result<Deadline> deadline_in(const json::object& object, std::string_view name) {
  EPHFS_TRY(const json::value* value, member(object, name));
  if (value->is_null()) return Deadline::never();
  EPHFS_TRY(const auto ms, integer_in(object, name));
  return Deadline::from_raw(ms);
}

// There is one way to write a value: digits above 9 are small letters. The signature itself is under no other one.
template <class Id>
Result<Id> id_in(const json::object& object, std::string_view name) {
  EPHFS_TRY(const auto text, text_in(object, name));
  const auto id = Id::from_hex(text);
  if (!id || id->hex() != text) return fail(Error::damaged, std::string(name) + " is none");
  return *id;
}

Result<core::Bytes> bytes_in(const json::object& object, std::string_view name) {
  EPHFS_TRY(const auto text, text_in(object, name));
  core::Bytes bytes(text.size() / 2);
  if (!core::from_hex(text, bytes) || core::to_hex(bytes) != text)
    return fail(Error::damaged, std::string(name) + " is not hexadecimal");
  return bytes;
}

Result<const json::array*> array_in(const json::object& object, std::string_view name) {
  EPHFS_TRY(const json::value* value, member(object, name));
  if (!value->is_array()) return fail(Error::damaged, std::string(name) + " is no list");
  return &value->get_array();
}

struct StripeSaid {
  core::StripeId id;
  core::Profile profile;
  std::uint64_t length = 0;
  std::uint64_t shard_bytes = 0;
  Deadline deadline;
};
struct ShardSaid {
  std::uint8_t index = 0;
  core::ShardId shard;
  core::NodeId node;
};

/// One proof under examination.
class Examination {
 public:
  ProofReport run(std::string_view text) {
    if (auto read = examine(text); !read) fault(read.error().detail);
    return std::move(report_);
  }

 private:
  void fault(std::string line) { report_.faults.push_back(std::move(line)); }
  /// Notes what is wrong with `what`.
  void note(const std::string& what, const Result<>& outcome) {
    if (!outcome) fault(what + ": " + outcome.error().message());
  }

  Result<> examine(std::string_view text) {
    json::parse_options options;
    options.max_depth = kProofDepthMax;
    boost::system::error_code error;
    json::value value = json::parse(text, error, {}, options);
    if (error || !value.is_object()) return fail(Error::damaged, "not a JSON object");
    json::object& proof = value.get_object();
    EPHFS_TRY(const auto format, text_in(proof, "format"));
    if (format != kProofFormat) return fail(Error::damaged, "not a proof");
    EPHFS_TRY(const auto version, integer_in(proof, "version"));
    if (version != kProofVersion) return fail(Error::version, "a proof of version " + std::to_string(version));
    EPHFS_TRY(report_.owner, id_in<core::OwnerId>(proof, "owner"));
    EPHFS_TRY(const auto signature, id_in<core::Signature>(proof, "signature"));
    proof.erase("signature");
    const auto key = *core::PublicKey::from_bytes(report_.owner.view());
    if (!core::verify_signature(key, kProofContext, core::as_bytes(json::serialize(proof)), signature)) {
      return fail(Error::not_permitted, "the owner's signature over the proof does not match");
    }
    EPHFS_TRY(report_.file, id_in<core::FileId>(proof, "file"));
    EPHFS_TRY(volume_, id_in<core::VolumeId>(proof, "volume"));
    EPHFS_TRY(report_.deadline, deadline_in(proof, "deadline_ms"));
    EPHFS_TRY(const auto made, integer_in(proof, "made_ms"));
    made_ = {made};
    EPHFS_TRY_VOID(read_death(proof));
    EPHFS_TRY_VOID(read_stripes(proof));
    note("manifest", check_manifest(proof));
    if (proof.contains("puncture")) note("puncture", check_puncture(proof));
    return {};
  }

  Result<> read_death(const json::object& proof) {
    if (!proof.contains("died")) {
      if (report_.deadline.passed(made_)) fault("made after the deadline, and says nothing of the file's death");
      return {};
    }
    EPHFS_TRY(const json::value* value, member(proof, "died"));
    if (!value->is_object()) return fail(Error::damaged, "died is no object");
    const json::object& died = value->get_object();
    EPHFS_TRY(const auto cause, text_in(died, "cause"));
    if (cause != kCauseExpired && cause != kCauseRemoved) return fail(Error::damaged, "an unknown cause of death");
    report_.cause = cause == kCauseExpired ? DeathCause::expired : DeathCause::removed;
    EPHFS_TRY(const auto at, integer_in(died, "at_ms"));
    report_.died = {at};
    if (cause == kCauseExpired && !report_.deadline.passed(report_.died + kLeeway)) {
      fault("it expired before its deadline");
    }
    if (report_.died > made_) fault("it died after the proof was made");
    return {};
  }

  Result<> read_stripes(const json::object& proof) {
    EPHFS_TRY(const json::array* stripes, array_in(proof, "stripes"));
    for (const json::value& value : *stripes) {
      if (!value.is_object()) return fail(Error::damaged, "a stripe is no object");
      EPHFS_TRY_VOID(read_stripe(value.get_object()));
    }
    return {};
  }

  Result<> read_stripe(const json::object& object) {
    StripeSaid stripe;
    EPHFS_TRY(stripe.id, id_in<core::StripeId>(object, "id"));
    EPHFS_TRY(const auto k, integer_in(object, "k"));
    EPHFS_TRY(const auto m, integer_in(object, "m"));
    EPHFS_TRY(const auto length, integer_in(object, "length"));
    EPHFS_TRY(const auto shard_bytes, integer_in(object, "shard_bytes"));
    EPHFS_TRY(stripe.deadline, deadline_in(object, "deadline_ms"));
    const std::string name = "stripe " + short_name(stripe.id.hex());
    if (k < 1 || k > std::int64_t{core::kDataShardsMax} || m > std::int64_t{core::kParityShardsMax}) {
      return fail(Error::damaged, name + ": a profile that cannot be");
    }
    stripe.profile = {static_cast<std::uint8_t>(k), static_cast<std::uint8_t>(m)};
    stripe.length = static_cast<std::uint64_t>(length);
    stripe.shard_bytes = static_cast<std::uint64_t>(shard_bytes);
    if (stripe.length > kStripeLengthMax || core::shard_bytes(stripe.length, stripe.profile) != stripe.shard_bytes) {
      fault(name + ": its shards have another length");
    }
    // For a file that lives or expired. What was removed early may share its stripe with what lives on.
    const bool bound = report_.cause != DeathCause::removed && !report_.deadline.is_never();
    if (bound && (stripe.deadline.is_never() || stripe.deadline.instant() > report_.deadline.instant() + kBucketMax)) {
      fault(name + ": it is kept past the file's deadline");
    }
    ++report_.stripes;
    EPHFS_TRY(const json::array* shards, array_in(object, "shards"));
    for (const json::value& value : *shards) {
      if (!value.is_object()) return fail(Error::damaged, name + ": a shard is no object");
      EPHFS_TRY_VOID(read_shard(stripe, value.get_object()));
    }
    stripes_.push_back(stripe);
    return {};
  }

  Result<> read_shard(const StripeSaid& stripe, const json::object& object) {
    ShardSaid shard;
    EPHFS_TRY(const auto index, integer_in(object, "index"));
    EPHFS_TRY(shard.shard, id_in<core::ShardId>(object, "shard"));
    EPHFS_TRY(shard.node, id_in<core::NodeId>(object, "node"));
    const std::string name = "shard " + short_name(shard.shard.hex()) + " on node " + short_name(shard.node.hex());
    if (index >= stripe.profile.width()) return fail(Error::damaged, name + ": an index outside its stripe");
    shard.index = static_cast<std::uint8_t>(index);
    shards_.emplace(stripe.id, shard);
    ++report_.shards;
    if (object.contains("key")) {
      EPHFS_TRY(const auto key, id_in<core::PublicKey>(object, "key"));
      if (core::node_id_of(key) != shard.node) fault(name + ": the node's id is not its key's");
    }
    std::optional<core::Receipt> taken;
    if (object.contains("receipt")) note(name + ": receipt", check_receipt(stripe, shard, object, taken));
    if (object.contains("deletion")) note(name + ": deletion", check_deletion(stripe, shard, object, taken));
    if (object.contains("audit")) note(name + ": audit", check_audit(stripe, shard, object));
    return {};
  }

  /// The receipt in a member of `object`, when its node signed it about just this shard of this owner.
  Result<core::Receipt> receipt_in(const StripeSaid& stripe, const ShardSaid& shard, const json::object& object,
                                   std::string_view member_name) const {
    EPHFS_TRY(const auto bytes, bytes_in(object, member_name));
    EPHFS_TRY(const auto envelope, core::Envelope::parse(bytes));
    EPHFS_TRY(const auto receipt, core::open_receipt(envelope));
    if (receipt.shard != shard.shard || receipt.node != shard.node) {
      return fail(Error::damaged, "it is about another shard or node");
    }
    if (receipt.owner != report_.owner) return fail(Error::damaged, "it is for another owner");
    if (receipt.bytes != stripe.shard_bytes) return fail(Error::damaged, "it is about a shard of another length");
    return receipt;
  }

  Result<> check_receipt(const StripeSaid& stripe, const ShardSaid& shard, const json::object& object,
                         std::optional<core::Receipt>& taken) {
    EPHFS_TRY(taken, receipt_in(stripe, shard, object, "receipt"));
    if (taken->kind != core::ReceiptKind::stored && taken->kind != core::ReceiptKind::renewed) {
      return fail(Error::damaged, "of another kind");
    }
    if (taken->deadline.passed(taken->at)) return fail(Error::damaged, "given after its own deadline");
    if (taken->deadline > stripe.deadline) return fail(Error::damaged, "the lease ends after the stripe does");
    ++report_.receipts;
    return {};
  }

  Result<> check_deletion(const StripeSaid& stripe, const ShardSaid& shard, const json::object& object,
                          const std::optional<core::Receipt>& taken) {
    EPHFS_TRY(const auto receipt, receipt_in(stripe, shard, object, "deletion"));
    if (receipt.kind != core::ReceiptKind::deleted) return fail(Error::damaged, "of another kind");
    if (taken && receipt.at < taken->at) return fail(Error::damaged, "of a time before the node had the shard");
    // Before the lease ended, only the owner could have it deleted, and he does when the file has died.
    if (!receipt.deadline.passed(receipt.at) && !report_.cause) {
      return fail(Error::damaged, "the file lives and its shard was deleted before the deadline");
    }
    ++report_.deletions;
    return {};
  }

  Result<> check_audit(const StripeSaid& stripe, const ShardSaid& shard, const json::object& object) {
    EPHFS_TRY(const json::value* value, member(object, "audit"));
    if (!value->is_object()) return fail(Error::damaged, "it is no object");
    const json::object& audit = value->get_object();
    EPHFS_TRY(const json::value* passed, member(audit, "passed"));
    if (!passed->is_bool()) return fail(Error::damaged, "passed is neither true nor false");
    EPHFS_TRY_VOID(integer_in(audit, "at_ms"));
    if (!passed->get_bool()) return {};
    EPHFS_TRY(const auto receipt, receipt_in(stripe, shard, audit, "receipt"));
    if (receipt.kind != core::ReceiptKind::served) return fail(Error::damaged, "its receipt is of another kind");
    ++report_.audits;
    return {};
  }

  Result<> check_manifest(const json::object& proof) {
    if (!proof.contains("manifest_hash")) return {};
    EPHFS_TRY(const auto hash, id_in<core::Hash>(proof, "manifest_hash"));
    if (!proof.contains("manifest")) return {};
    EPHFS_TRY(const auto bytes, bytes_in(proof, "manifest"));
    if (manifest_hash(bytes) != hash) return fail(Error::damaged, "it has another hash");
    EPHFS_TRY(const Manifest manifest, open_manifest(bytes));
    report_.has_manifest = true;
    if (manifest.owner != report_.owner || manifest.volume != volume_ || manifest.file != report_.file ||
        manifest.deadline != report_.deadline) {
      return fail(Error::damaged, "it is about another file");
    }
    for (const ManifestStripe& stripe : manifest.stripes) {
      const auto said = std::ranges::find(stripes_, stripe.id, &StripeSaid::id);
      if (said == stripes_.end() || said->profile != stripe.profile || said->length != stripe.length ||
          said->shard_bytes != stripe.shard_bytes) {
        return fail(Error::damaged, "stripe " + short_name(stripe.id.hex()) + " is not the proof's");
      }
      for (const ManifestShard& shard : stripe.shards) {
        const auto [from, to] = shards_.equal_range(stripe.id);
        const bool is_there = std::any_of(from, to, [&](const auto& entry) {
          return entry.second.index == shard.index && entry.second.shard == shard.id && entry.second.node == shard.node;
        });
        if (!is_there) return fail(Error::damaged, "shard " + short_name(shard.id.hex()) + " is not in the proof");
      }
    }
    return {};
  }

  Result<> check_puncture(const json::object& proof) {
    EPHFS_TRY(const auto bytes, bytes_in(proof, "puncture"));
    EPHFS_TRY(const auto envelope, core::Envelope::parse(bytes));
    EPHFS_TRY(const auto puncture, core::open_puncture(envelope));
    if (puncture.owner != report_.owner || puncture.volume != volume_) {
      return fail(Error::damaged, "it is about another volume");
    }
    // So no living file's key is said to be destroyed.
    if (puncture.at > made_) return fail(Error::damaged, "of a time after the proof was made");
    report_.key_destroyed = !report_.deadline.is_never() && report_.deadline.instant() < puncture.until;
    return {};
  }

  /// Reads are refused, and deaths may be noted, this long before the deadline.
  static constexpr core::Milliseconds kLeeway{20};
  static constexpr std::uint64_t kStripeLengthMax = std::uint64_t{1} << 30U;

  ProofReport report_;
  core::VolumeId volume_;
  core::Instant made_;
  std::vector<StripeSaid> stripes_;
  std::multimap<core::StripeId, ShardSaid> shards_;
};

}  // namespace

std::vector<std::string> ProofReport::missing() const {
  std::vector<std::string> lines;
  if (!cause) return lines;
  if (deletions < shards) lines.push_back(std::to_string(shards - deletions) + " shards are not proven to be deleted");
  if (*cause == DeathCause::expired && !key_destroyed) {
    lines.emplace_back("the key is not stated to be destroyed: that is when the deadline's minute has ended");
  }
  return lines;
}

ProofReport check_proof(std::string_view text) {
  if (text.size() > kProofBytesMax) {
    ProofReport report;
    report.faults.emplace_back("longer than any proof");
    return report;
  }
  return Examination().run(text);
}

}  // namespace ephfs::meta
