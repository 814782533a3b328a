// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/metrics.hpp"

#include <array>
#include <charconv>

#include <boost/json.hpp>

namespace ephfs::cli {
namespace {

namespace json = boost::json;

constexpr std::array kShares{0.5, 0.9, 0.99};
/// The upper bounds of the histograms shown to Prometheus, in seconds.
constexpr std::array kBounds{1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0};

double microseconds(core::Nanoseconds span) {
  return std::chrono::duration<double, std::micro>(span).count();
}
double seconds(core::Nanoseconds span) {
  return std::chrono::duration<double>(span).count();
}

json::object describe(const core::ProbeReading& probe) {
  json::object out;
  out["name"] = probe.name;
  out["count"] = probe.count;
  out["bytes"] = probe.bytes;
  out["total_us"] = microseconds(probe.total);
  out["mean_us"] = microseconds(probe.total) / static_cast<double>(probe.count);
  out["p50_us"] = microseconds(probe.quantile(kShares[0]));
  out["p90_us"] = microseconds(probe.quantile(kShares[1]));
  out["p99_us"] = microseconds(probe.quantile(kShares[2]));
  out["max_us"] = microseconds(probe.longest);
  json::array histogram;
  for (std::size_t i = 0; i < probe.buckets.size(); ++i) {
    if (probe.buckets[i] > 0) histogram.push_back(json::array{microseconds(core::bucket_end(i)), probe.buckets[i]});
  }
  out["histogram"] = std::move(histogram);
  return out;
}

json::array describe_group(const core::ProfileReading& profile, std::string_view group) {
  json::array out;
  for (const auto& probe : profile.probes) {
    if (probe.group == group) out.push_back(describe(probe));
  }
  return out;
}

std::string number(double value) {
  std::array<char, 32> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value);
  return {digits.data(), end.ptr};
}

void flatten(const std::string& prefix, const json::object& object, std::string& text) {
  for (const auto& [key, value] : object) {
    const std::string name = prefix + "_" + std::string(key);
    if (value.is_object()) {
      flatten(name, value.as_object(), text);
    } else if (value.is_number()) {
      text += name + ' ' + number(value.to_number<double>()) + '\n';
    } else if (value.is_bool()) {
      text += name + (value.as_bool() ? " 1\n" : " 0\n");
    }
  }
}

void append_histogram(const core::ProbeReading& probe, std::string& text) {
  const std::string family = "ephfs_" + std::string(probe.group) + "_seconds";
  std::string label(probe.name);
  const std::string labels = std::string(probe.group) + "=\"" + label + '"';
  std::uint64_t below = 0;
  std::size_t bucket = 0;
  for (const double bound : kBounds) {
    for (; bucket < probe.buckets.size() && seconds(core::bucket_end(bucket)) <= bound; ++bucket) {
      below += probe.buckets[bucket];
    }
    text.append(family).append("_bucket{").append(labels).append(",le=\"").append(number(bound)).append("\"} ");
    text.append(std::to_string(below)).append("\n");
  }
  text += family + "_bucket{" + labels + ",le=\"+Inf\"} " + std::to_string(probe.count) + '\n';
  text += family + "_sum{" + labels + "} " + number(seconds(probe.total)) + '\n';
  text += family + "_count{" + labels + "} " + std::to_string(probe.count) + '\n';
}

}  // namespace

std::string profile_json(const core::ProfileReading& profile) {
  json::object out;
  out["running"] = profile.running;
  out["seconds"] = seconds(profile.lasted);
  out["operations"] = describe_group(profile, "operation");
  out["stages"] = describe_group(profile, "stage");
  return json::serialize(out);
}

std::string metrics_text(const json::object& status, const core::ProfileReading& profile) {
  std::string text;
  flatten("ephfs", status, text);
  std::string_view group;
  for (const auto& probe : profile.probes) {
    if (probe.group != group) {
      group = probe.group;
      text += "# TYPE ephfs_" + std::string(group) + "_seconds histogram\n";
    }
    append_histogram(probe, text);
  }
  // The lines of one metric stand together.
  for (const auto& probe : profile.probes) {
    if (probe.bytes == 0) continue;
    const std::string_view of_group = probe.group;
    text.append("ephfs_").append(of_group).append("_bytes{").append(of_group).append("=\"").append(probe.name);
    text.append("\"} ").append(std::to_string(probe.bytes)).append("\n");
  }
  return text;
}

node::ControlHandler profile_handler() {
  return [](const node::ControlRequest& request) {
    node::ControlResponse response;
    constexpr std::string_view kStart = "start=";
    if (request.query.starts_with(kStart)) {
      const auto digits = request.query.substr(kStart.size());
      unsigned span = 0;
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), span);
      if (error != std::errc{} || end != digits.data() + digits.size() || span == 0 ||
          std::chrono::seconds(span) > core::kProfilingMax) {
        response.status = 400;
        response.content_type = "text/plain";
        response.body = "start takes 1 to 3600 seconds\n";
        return response;
      }
      core::start_profiling(std::chrono::seconds(span));
    } else if (request.query == "stop") {
      core::stop_profiling();
    }
    response.body = profile_json(core::read_profile());
    return response;
  };
}

}  // namespace ephfs::cli
