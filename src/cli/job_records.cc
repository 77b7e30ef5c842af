// SPDX-License-Identifier: Apache-2.0
// trace, replay, verify, export, checkpoint, fsck: of a running Aether, or of the store of one that
// is stopped.
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/job_json.h"
#include "api/json_text.h"
#include "cli/control_client.h"
#include "cli/job_commands.h"
#include "cli/job_proofs.h"
#include "cli/terminal.h"
#include "config/loader.h"
#include "daemon/jobs_reading.h"
#include "daemon/jobs_store.h"
#include "http/url.h"
#include "jobs/run_event_codec.h"
#include "jobs/view_check.h"
#include "journal/checkpoint.h"
#include "journal/fsck.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

/// Entries of the audit that are asked for at once.
constexpr std::size_t kAuditPage = 1000;

/// A running Aether, or the store of a stopped one.
struct Source {
  std::optional<ControlClient> client;
  std::unique_ptr<journal::Journal> journal;
  config::Config config;
};

Result<Source> find_source(Globals const& globals) {
  Source source;
  auto client = ControlClient::find(globals);
  if (client) {
    source.client = std::move(*client);
    return source;
  }
  if (client.error().code() != ErrorCode::NotRunning || globals.url)
    return fail(std::move(client).error());
  TRY_ASSIGN(source.config, config::load(globals.config_file()));
  if (source.config.store.type == config::StoreType::Memory) return fail(std::move(client).error());
  TRY_ASSIGN(source.journal, daemon::look_into_store(source.config));
  return source;
}

/// An answer that is passed on as it is.
Result<std::string> text_from(ControlClient const& client, std::string const& target) {
  std::string text;
  TRY(client.follow(target, [&text](std::string_view piece) { text += piece; }));
  return text;
}

std::string record_path(std::string const& id, std::string_view rest) {
  return fmt::format("/v1/jobs/{}/{}", http::percent_encode(id), rest);
}

/// @param file Empty: stdout.
Result<int> give_text(std::string const& text, std::string const& file) {
  if (file.empty()) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    return kDone;
  }
  std::ofstream stream(file, std::ios::binary);
  stream << text;
  stream.close();
  if (!stream) return fail(system_error("write", file));
  return kDone;
}

void print_line(std::string_view text) {
  fmt::print("{}{}", text, text.ends_with('\n') ? "" : "\n");
}

int print_check(Globals const& globals, daemon::StoreCheck const& check,
                std::string const& verifier) {
  bool const good = check.findings.empty();
  if (globals.output == Output::Json) {
    json::array findings;
    for (std::string const& one : check.findings) findings.emplace_back(one);
    fmt::print("{}\n", api::json_text(json::object{{"valid", good},
                                                   {"events", check.events},
                                                   {"jobs", check.runs},
                                                   {"unknown", check.unknown},
                                                   {"blobs", check.blobs},
                                                   {"checkpoints", check.checkpoints},
                                                   {"root", check.root},
                                                   {"key", verifier},
                                                   {"findings", std::move(findings)}}));
    return good ? kDone : kFailed;
  }
  Paint const paint = paint_for(stdout);
  for (std::string const& one : check.findings)
    fmt::print("{}✗{} {}\n", paint.red, paint.reset, one);
  fmt::print("{}{}{} {} events, {} jobs, {} blobs, {} signed checkpoints; root {}\n",
             good ? paint.green : paint.red, good ? "✓" : "✗", paint.reset, check.events,
             check.runs, check.blobs, check.checkpoints, check.root);
  if (!good) fmt::print("{} findings\n", check.findings.size());
  return good ? kDone : kFailed;
}

Result<config::Config> config_with_file(Globals const& globals) {
  TRY_ASSIGN(config::Config config, config::load(globals.config_file()));
  if (config.store.type != config::StoreType::Memory) return config;
  return fail(ErrorCode::UsageInvalid,
              "store.type is memory, which nothing but its Aether can read; `aether export ID` "
              "gives evidence of a job");
}

struct Checked {
  daemon::StoreCheck check;
  std::string verifier;
};

/// All of one moment, also while somebody appends.
/// @param with_views Compares what was derived from the events too.
Result<Checked> look_at_all(Globals const& globals, VerifyOptions const& options, bool with_views) {
  TRY_ASSIGN(config::Config const config, config_with_file(globals));
  std::string const path = daemon::store_path(config);
  TRY_ASSIGN(std::string verifier, key_from(options.key));
  TRY_ASSIGN(std::string const kept, kept_note(options.old));
  TRY_ASSIGN(std::optional<std::string> const own, daemon::public_key_of(path));
  if (verifier.empty()) verifier = own.value_or("");
  TRY_ASSIGN(std::unique_ptr<journal::Journal> const journal, daemon::look_into_store(config));
  TRY_ASSIGN(daemon::StoreCheck check, daemon::check_store(*journal, verifier, with_views, kept));
  return Checked{std::move(check), std::move(verifier)};
}

Result<int> check_all(Globals const& globals, VerifyOptions const& options, bool with_views) {
  TRY_ASSIGN(Checked const checked, look_at_all(globals, options, with_views));
  return print_check(globals, checked.check, checked.verifier);
}

/// Nothing is derived from events that are damaged: it would hide that.
Result<int> repair(Globals const& globals) {
  TRY_ASSIGN(Checked const events, look_at_all(globals, VerifyOptions{}, false));
  if (!events.check.findings.empty()) return print_check(globals, events.check, events.verifier);
  TRY_ASSIGN(config::Config const config, config::load(globals.config_file()));
  TRY_ASSIGN(std::unique_ptr<journal::Journal> const journal, daemon::open_store_alone(config));
  TRY(jobs::rebuild_views(*journal));
  return kDone;
}

}  // namespace

Result<int> trace(Globals const& globals, TraceOptions const& options) {
  bool const as_json = globals.output == Output::Json;
  TRY_ASSIGN(Source const source, find_source(globals));
  if (source.client) {
    std::string_view const form = options.otlp ? "otlp" : as_json ? "json" : "text";
    TRY_ASSIGN(
        std::string const text,
        text_from(*source.client, record_path(options.id, fmt::format("trace?format={}", form))));
    print_line(text);
    return kDone;
  }
  TRY_ASSIGN(jobs::RunId const run, jobs::parse_run_id(options.id));
  api::TraceForm const form = options.otlp ? api::TraceForm::Otlp
                              : as_json    ? api::TraceForm::Json
                                           : api::TraceForm::Tree;
  TRY_ASSIGN(std::string const text,
             daemon::read_trace(*source.journal, run, form, SystemClock().wall()));
  print_line(text);
  return kDone;
}

Result<int> replay(Globals const& globals, std::string const& id) {
  TRY_ASSIGN(Source const source, find_source(globals));
  json::value replayed;
  if (source.client) {
    TRY_ASSIGN(replayed, source.client->call("GET", record_path(id, "replay")));
  } else {
    TRY_ASSIGN(jobs::RunId const run, jobs::parse_run_id(id));
    TRY_ASSIGN(replayed, daemon::replay_recorded(*source.journal, run));
  }
  json::object const& told = replayed.as_object();
  bool const equal = told.at("equal").as_bool();
  if (globals.output == Output::Json) {
    fmt::print("{}\n", api::json_text(replayed));
  } else {
    Paint const paint = paint_for(stdout);
    fmt::print("{}{}{} {} {}: {} decisions again, 0 calls\n", equal ? paint.green : paint.red,
               equal ? "✓" : "✗", paint.reset, id, told.at("status").as_string().c_str(),
               json::serialize(told.at("decisions")));
    if (!equal) fmt::print("{}\n", told.at("difference").as_string().c_str());
    if (!told.at("output").is_null()) fmt::print("{}\n", api::json_text(told.at("output")));
  }
  return equal ? kDone : kFailed;
}

Result<int> verify(Globals const& globals, VerifyOptions const& options) {
  if (options.all) return check_all(globals, options, false);
  if (!options.files.empty()) return verify_files(globals, options);
  return fail(ErrorCode::UsageInvalid,
              "name a file of evidence, or the whole store with --all -c FILE");
}

Result<int> export_job(Globals const& globals, std::string const& id, std::string const& file) {
  TRY_ASSIGN(Source source, find_source(globals));
  std::string text;
  if (source.client) {
    TRY_ASSIGN(text, text_from(*source.client, record_path(id, "evidence")));
  } else {
    TRY_ASSIGN(jobs::RunId const run, jobs::parse_run_id(id));
    source.journal.reset();
    // The proof ends in a signature over all that is there, which is itself kept.
    TRY_ASSIGN(std::unique_ptr<journal::Journal> const journal, daemon::open_store(source.config));
    TRY_ASSIGN(journal::Signer const signer, daemon::open_signer(source.config));
    TRY_ASSIGN(text, daemon::make_evidence(*journal, signer, run));
  }
  return give_text(text, file);
}

Result<int> checkpoint(Globals const& globals, CheckpointOptions const& options) {
  TRY_ASSIGN(std::string const kept, kept_note(options.old));
  std::optional<std::uint64_t> old_size;
  if (!kept.empty()) {
    TRY_ASSIGN(journal::SignedNote const note, journal::parse_note(kept));
    TRY_ASSIGN(journal::Checkpoint const old, journal::parse_checkpoint_text(note.text));
    old_size = old.head.size;
  }
  TRY_ASSIGN(Source source, find_source(globals));
  std::string text;
  if (source.client) {
    std::string const query = old_size ? fmt::format("?old={}", *old_size) : "";
    TRY_ASSIGN(text, text_from(*source.client, "/v1/checkpoint" + query));
  } else {
    source.journal.reset();
    TRY_ASSIGN(std::unique_ptr<journal::Journal> const journal, daemon::open_store(source.config));
    TRY_ASSIGN(journal::Signer const signer, daemon::open_signer(source.config));
    TRY_ASSIGN(text, daemon::make_checkpoint(*journal, signer, old_size));
  }
  return give_text(text, options.file);
}

namespace {

/// A page of the audit, as the API tells it.
Result<json::array> audit_page(Source const& source, std::uint64_t after) {
  if (source.client) {
    TRY_ASSIGN(
        json::value const page,
        source.client->call("GET", fmt::format("/v1/audit?after={}&limit={}", after, kAuditPage)));
    return page.at("events").as_array();
  }
  TRY_ASSIGN(std::vector<journal::Event> const events,
             daemon::read_events(*source.journal, jobs::kAuditStream, after, kAuditPage));
  json::array page;
  for (journal::Event const& event : events) page.push_back(api::run_event_json(event));
  return page;
}

void print_note(json::object const& note) {
  json::object const& body = note.at("body").as_object();
  auto const word = [](json::object const& from, std::string_view key) {
    json::value const* const value = from.if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->as_string()) : "";
  };
  std::string const actor = word(note, "actor");
  std::string const detail = word(body, "detail");
  fmt::print("{}  {:16} {:8} {} {}{}{}\n", word(note, "time"), actor.empty() ? "aether" : actor,
             word(body, "decision"), word(body, "action"), word(body, "target"),
             detail.empty() ? "" : ": ", detail);
}

}  // namespace

Result<int> audit(Globals const& globals) {
  TRY_ASSIGN(Source const source, find_source(globals));
  std::uint64_t seen = 0;
  for (;;) {
    TRY_ASSIGN(json::array const page, audit_page(source, seen));
    for (json::value const& note : page) {
      if (globals.output == Output::Json) fmt::print("{}\n", api::json_text(note));
      if (globals.output == Output::Text) print_note(note.as_object());
    }
    seen += page.size();
    if (page.size() < kAuditPage) return kDone;
  }
}

Result<int> fsck(Globals const& globals, FsckOptions const& options) {
  if (options.repair) {
    TRY_ASSIGN(int const repaired, repair(globals));
    if (repaired != kDone) return repaired;
  }
  return check_all(globals, VerifyOptions{}, true);
}

}  // namespace aether::cli
