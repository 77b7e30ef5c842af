// SPDX-License-Identifier: Apache-2.0
// OTLP/JSON (opentelemetry-proto, JSON Protobuf encoding: ids in hex, 64-bit numbers as texts).
#include <algorithm>
#include <string>

#include "jobs/trace.h"
#include "journal/hash.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

constexpr int kSpanInternal = 1;
constexpr int kSpanClient = 3;
constexpr int kStatusUnset = 0;
constexpr int kStatusOk = 1;
constexpr int kStatusError = 2;

std::string trace_id(RunId const& run) {
  std::string id = run.text;  // A UUID has the 16 bytes that a trace's id has.
  std::erase(id, '-');
  return id;
}

std::string span_id(RunId const& run, TraceNode const& node) {
  return journal::to_hex(journal::sha256({run.text, "\n", node.span}).view().substr(0, 8));
}

json::object any_value(json::value const& value) {
  if (value.is_bool()) return {{"boolValue", value}};
  if (value.is_int64()) return {{"intValue", std::to_string(value.get_int64())}};
  if (value.is_uint64()) return {{"intValue", std::to_string(value.get_uint64())}};
  if (value.is_double()) return {{"doubleValue", value}};
  if (value.is_string()) return {{"stringValue", value}};
  return {{"stringValue", canonical_json(value)}};
}

void add_attribute(json::array& attributes, std::string_view name, json::value const& value) {
  attributes.push_back(json::object{{"key", name}, {"value", any_value(value)}});
}

std::string nanoseconds(WallTime time) {
  return std::to_string(Duration(time.time_since_epoch()).count());
}

json::value status_of(TraceNode const& node) {
  if (node.mark == TraceMark::Bad || node.mark == TraceMark::Unknown) {
    return json::object{{"code", kStatusError},
                        {"message", node.detail.empty() ? node.outcome : node.detail}};
  }
  return json::object{{"code", node.mark == TraceMark::Good ? kStatusOk : kStatusUnset}};
}

json::object span_of_node(RunId const& run, TraceNode const& node, std::string const& parent,
                          WallTime now) {
  WallTime const end = node.end.value_or(std::max(now, node.begin));
  json::array attributes;
  for (auto const& [name, value] : node.attributes) add_attribute(attributes, name, value);
  add_attribute(attributes, "aether.span", json::value(node.span));
  add_attribute(attributes, "aether.type", json::value(node.type));
  if (!node.outcome.empty()) add_attribute(attributes, "aether.outcome", json::value(node.outcome));
  if (!node.end) add_attribute(attributes, "aether.open", json::value(true));
  json::array events;
  for (TraceNode const& child : node.children) {
    if (child.kind != TraceKind::Point) continue;
    json::array detail;
    if (!child.detail.empty()) add_attribute(detail, "aether.detail", json::value(child.detail));
    events.push_back(json::object{{"timeUnixNano", nanoseconds(child.begin)},
                                  {"name", child.title},
                                  {"attributes", std::move(detail)}});
  }
  json::object span{{"traceId", trace_id(run)},
                    {"spanId", span_id(run, node)},
                    {"name", node.title.empty() ? node.span : node.title},
                    {"kind", node.kind == TraceKind::Effect ? kSpanClient : kSpanInternal},
                    {"startTimeUnixNano", nanoseconds(node.begin)},
                    {"endTimeUnixNano", nanoseconds(end)},
                    {"attributes", std::move(attributes)},
                    {"events", std::move(events)},
                    {"status", status_of(node)}};
  if (!parent.empty()) span["parentSpanId"] = parent;
  return span;
}

void add_spans(json::array& spans, RunId const& run, TraceNode const& node,
               std::string const& parent, WallTime now) {
  spans.push_back(span_of_node(run, node, parent, now));
  std::string const id = span_id(run, node);
  for (TraceNode const& child : node.children) {
    if (child.kind != TraceKind::Point) add_spans(spans, run, child, id, now);
  }
}

}  // namespace

json::value trace_otlp(RunId const& run, TraceNode const& root, WallTime now) {
  json::array spans;
  add_spans(spans, run, root, {}, now);
  json::array resource;
  add_attribute(resource, "service.name", json::value("aether"));
  json::object scope{{"scope", json::object{{"name", "aether.jobs"}}}, {"spans", std::move(spans)}};
  json::object resource_spans{{"resource", json::object{{"attributes", std::move(resource)}}},
                              {"scopeSpans", json::array{std::move(scope)}}};
  return json::object{{"resourceSpans", json::array{std::move(resource_spans)}}};
}

}  // namespace aether::jobs
