// SPDX-License-Identifier: Apache-2.0
#include "cli/job_command_line.h"

#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include <CLI/CLI.hpp>

#include "cli/agent_commands.h"
#include "cli/commands.h"
#include "cli/job_commands.h"

namespace aether::cli {
namespace {

using Choose = std::function<void(std::function<Result<int>()>)>;

struct Declaring {
  CLI::App& app;
  Globals const& globals;
  Choose const& choose;

  CLI::App* command(CLI::App& below, std::string name, std::string description,
                    std::string const& example) const {
    CLI::App* const sub = below.add_subcommand(std::move(name), std::move(description));
    sub->fallthrough();
    sub->footer("Example: " + globals.program + " " + example);
    return sub;
  }
  /// Runs `action(globals, *options)` when the command was typed.
  template <class Options, class Action>
  void run(CLI::App* sub, std::shared_ptr<Options> options, Action action) const {
    sub->callback([globals = &globals, choose = &choose, options = std::move(options), action] {
      (*choose)([globals, options, action] { return action(*globals, *options); });
    });
  }
};

void add_looking(Declaring const& to, CLI::App& jobs) {
  auto listing = std::make_shared<JobsListOptions>();
  CLI::App* const list =
      to.command(jobs, "list", "Jobs, newest first", "jobs list --status parked");
  list->add_option("--status", listing->status,
                   "pending, running, parked, retrying, stuck, paused, completed, failed or "
                   "cancelled");
  list->add_option("--namespace", listing->space, "Only of this namespace");
  list->add_option("-n,--limit", listing->limit, "At most so many")->capture_default_str();
  list->add_option("--after", listing->after, "Older ones than this job");
  to.run(list, listing, jobs_list);

  auto id = std::make_shared<std::string>();
  CLI::App* const show =
      to.command(jobs, "show", "One job: its steps, waits and output", "jobs show 0193b5c2-...");
  show->add_option("id", *id, "The job")->required();
  to.run(show, id, jobs_show);
}

void add_submit(Declaring const& to, CLI::App& jobs) {
  auto options = std::make_shared<SubmitOptions>();
  CLI::App* const submit = to.command(jobs, "submit", "Submit a graph, an agent or a goal",
                                      R"(jobs submit graph.yaml --input '{"n": 1}' --wait)");
  submit->add_option("file", options->file, "A graph, or a whole job; YAML or JSON; - for stdin");
  submit->add_option("--agent", options->agent, "One of agents:");
  submit->add_option("--goal", options->goal, "In words; a graph is planned from it");
  submit->add_option("--input", options->input, "JSON, or text");
  submit->add_option("--key", options->key, "Idempotency-Key: the same again is the same job");
  submit->add_option("--name", options->name, "For lists");
  submit->add_option("--namespace", options->space, "default, if not given");
  submit->add_option("--queue", options->queue, "realtime, default, background or heavy");
  submit->add_option("--priority", options->priority, "-1000 to 1000, higher first");
  submit->add_option("--deadline", options->deadline, "2h, or 2026-01-31T12:00:00Z");
  submit->add_flag("--wait", options->wait, "Until its end; fails if it does not succeed");
  to.run(submit, options, jobs_submit);
}

void add_control(Declaring const& to, CLI::App& jobs) {
  for (auto const& [action, description] :
       {std::pair("cancel", "Cancel a job"), std::pair("pause", "Begin nothing new in a job"),
        std::pair("resume", "Go on with a job that is paused or stuck")}) {
    auto options = std::make_shared<ControlOptions>();
    std::string const name = action;
    CLI::App* const control = to.command(jobs, name, description, "jobs " + name + " 0193b5c2-...");
    control->add_option("id", options->id, "The job")->required();
    control->add_option("--reason", options->reason, "For the record");
    to.run(control, options, [name](Globals const& globals, ControlOptions const& given) {
      return jobs_control(globals, name, given);
    });
  }
}

void add_answers(Declaring const& to, CLI::App& jobs) {
  auto signalling = std::make_shared<SignalOptions>();
  CLI::App* const signal = to.command(jobs, "signal", "Send a signal to a job",
                                      R"(jobs signal 0193b5c2-... paid --payload '{"sum": 5}')");
  signal->add_option("id", signalling->id, "The job")->required();
  signal->add_option("name", signalling->name, "Of the signal")->required();
  signal->add_option("--payload", signalling->payload, "JSON, or text");
  signal->add_option("--key", signalling->key, "Idempotency-Key");
  to.run(signal, signalling, jobs_signal);

  for (std::string const decision : {"approve", "reject"}) {
    auto options = std::make_shared<ApprovalOptions>();
    CLI::App* const answer = to.command(jobs, decision, "Answer an approval that a job waits for",
                                        "jobs " + decision + " 0193b5c2-... --reason checked");
    answer->add_option("id", options->id, "The job")->required();
    answer->add_option("--step", options->step, "Which approval; needed if there are several");
    answer->add_option("--reason", options->reason, "For the record");
    answer->add_option("--form", options->form, "What the form asks for, as JSON");
    to.run(answer, options, [decision](Globals const& globals, ApprovalOptions const& given) {
      return jobs_approve(globals, decision, given);
    });
  }
}

void add_repairs(Declaring const& to, CLI::App& jobs) {
  auto resolving = std::make_shared<ResolveOptions>();
  CLI::App* const resolve =
      to.command(jobs, "resolve", "Say what became of a call when nobody knows",
                 "jobs resolve 0193b5c2-... --happened");
  resolve->add_option("id", resolving->id, "The job")->required();
  resolve->add_option("effect", resolving->effect, "The call; needed if there are several");
  CLI::Option_group* const ways = resolve->add_option_group("outcome");
  for (auto const& [flag, outcome, meaning] :
       {std::tuple("--happened", "happened", "It happened; --result is what it gave"),
        std::tuple("--not-happened", "not_happened", "It did not: it is called (again)"),
        std::tuple("--abandon", "abandon", "Give the step up")}) {
    ways->add_flag_callback(
        flag, [resolving = resolving.get(), outcome] { resolving->outcome = outcome; }, meaning);
  }
  ways->require_option(1);
  resolve->add_option("--result", resolving->result, "What it gave: JSON, or text");
  to.run(resolve, resolving, jobs_resolve);

  auto forking = std::make_shared<ForkOptions>();
  CLI::App* const fork =
      to.command(jobs, "fork", "A new job that shares all that came before a step",
                 R"(jobs fork 0193b5c2-... --from review --input '{"n": 2}')");
  fork->add_option("id", forking->id, "The job")->required();
  fork->add_option("--from,--step", forking->step, "The step")->required();
  fork->add_option("--input", forking->input, "Another input: JSON, or text");
  fork->add_option("--graph", forking->graph, "Another graph: a file");
  to.run(fork, forking, jobs_fork);

  auto erasing = std::make_shared<ControlOptions>();
  CLI::App* const erase =
      to.command(jobs, "erase", "Take the values of a job that has ended away, not its proofs",
                 "jobs erase 0193b5c2-... --reason 'article 17, request 12'");
  erase->add_option("id", erasing->id, "The job")->required();
  erase->add_option("--reason", erasing->reason, "For the audit");
  to.run(erase, erasing, jobs_erase);
}

void add_reading(Declaring const& to) {
  auto tracing = std::make_shared<TraceOptions>();
  CLI::App* const trace_command =
      to.command(to.app, "trace", "A job as a tree, with durations", "trace 0193b5c2-...");
  trace_command->add_option("id", tracing->id, "The job")->required();
  trace_command->add_flag("--otlp", tracing->otlp, "As OpenTelemetry's JSON");
  to.run(trace_command, tracing, trace);

  auto replayed = std::make_shared<std::string>();
  CLI::App* const replay_command =
      to.command(to.app, "replay", "Decide a job again from its record, without any call",
                 "replay 0193b5c2-...");
  replay_command->add_option("id", *replayed, "The job")->required();
  to.run(replay_command, replayed, replay);

  auto verifying = std::make_shared<VerifyOptions>();
  CLI::App* const verify_command = to.command(
      to.app, "verify", "Prove that a record is whole and unchanged", "verify evidence.txt");
  CLI::Option* const file =
      verify_command->add_option("file", verifying->files, "Files of evidence, or of growth");
  verify_command->add_flag("--all", verifying->all, "The whole store of -c")->excludes(file);
  verify_command->add_option("--key", verifying->key,
                             "The public key that must have signed, or a file with it");
  verify_command->add_option("--old", verifying->old,
                             "A file with a checkpoint that you kept: what is there now must "
                             "begin with what it was signed for");
  to.run(verify_command, verifying, verify);

  struct Exporting {
    std::string id, file;
  };
  auto exporting = std::make_shared<Exporting>();
  CLI::App* const export_command =
      to.command(to.app, "export", "A job as a file that proves itself",
                 "export 0193b5c2-... -w evidence.txt");
  export_command->add_option("id", exporting->id, "The job")->required();
  export_command->add_option("-w,--write", exporting->file, "Where it goes; else stdout");
  to.run(export_command, exporting, [](Globals const& globals, Exporting const& given) {
    return export_job(globals, given.id, given.file);
  });

  auto keeping = std::make_shared<CheckpointOptions>();
  CLI::App* const checkpoint_command =
      to.command(to.app, "checkpoint", "What the journal has now, signed, to be kept elsewhere",
                 "checkpoint --old kept.txt");
  checkpoint_command->add_option("-w,--write", keeping->file, "Where it goes; else stdout");
  checkpoint_command->add_option("--old", keeping->old,
                                 "A file with one that you kept: adds the proof that nothing "
                                 "which it was signed for has changed");
  to.run(checkpoint_command, keeping, checkpoint);

  auto checking = std::make_shared<FsckOptions>();
  CLI::App* const fsck_command =
      to.command(to.app, "fsck", "Read a whole store, and compare what was derived from it",
                 "fsck -c aether.yaml");
  fsck_command->add_flag("--repair", checking->repair,
                         "If all events are whole, write again what is derived from them; "
                         "stop Aether first");
  to.run(fsck_command, checking, fsck);
}

void add_audit(Declaring const& to) {
  CLI::App* const audit_command = to.command(
      to.app, "audit", "Who did what, or was refused: beside jobs, oldest first", "audit");
  to.run(audit_command, std::make_shared<bool>(),
         [](Globals const& globals, bool) { return audit(globals); });
}

/// `NAME start`: what `up` does, under the name by which other such systems have it.
void add_start(Declaring const& to, std::string const& name, std::string const& about,
               UpOptions options) {
  std::string const example = name + " start -c aether.yaml";
  CLI::App* const named = to.command(to.app, name, about, example);
  named->require_subcommand(1);
  CLI::App* const start = to.command(*named, "start", "Start in the foreground", example);
  to.run(start, std::make_shared<UpOptions>(options), up);
}

void add_agents(Declaring const& to) {
  auto made = std::make_shared<InitOptions>();
  CLI::App* const init_command = to.command(
      to.app, "init", "A folder with a first agent, which works at once", "init my-agent");
  init_command->add_option("folder", made->folder, "The new folder; the agent has its name")
      ->required();
  init_command->add_flag("--node", made->in_node, "An agent in Node, not in Python");
  to.run(init_command, made, init);

  CLI::App* const run_command =
      to.command(to.app, "run", "Start in the foreground: API, scheduler and agents", "run");
  to.run(run_command, std::make_shared<UpOptions>(UpOptions{.foreground = true}), up);

  auto talk = std::make_shared<ChatOptions>();
  CLI::App* const chat_command =
      to.command(to.app, "chat", "Talk with an agent; each message is a job", "chat hello");
  chat_command->add_option("message", talk->message, "Else what is typed, line for line");
  chat_command->add_option("--agent", talk->agent, "Needed if there are several");
  to.run(chat_command, talk, chat);

  auto checked = std::make_shared<ConformanceOptions>();
  std::string const example = "conformance worker --command 'python3 -m aetheris.conformance'";
  CLI::App* const conformance =
      to.command(to.app, "conformance", "Whether a program keeps to a protocol", example);
  conformance->require_subcommand(1);
  CLI::App* const worker = to.command(*conformance, "worker",
                                      "Of an SDK's conformance agent: kills it, and checks "
                                      "what it says",
                                      example);
  worker->add_option("--command", checked->command, "The worker, as a shell takes it")->required();
  worker->add_option("--each", checked->each, "Kill it at each N-th message only")
      ->check(CLI::Range(1, 1000));
  worker->add_flag("--lines", checked->verbose, "Show what goes over the line");
  to.run(worker, checked, conformance_worker);
}

}  // namespace

void add_job_commands(CLI::App& app, Globals const& globals, Choose const& choose) {
  Declaring const to{app, globals, choose};
  CLI::App* const jobs = to.command(app, "jobs", "Submit, watch and steer jobs", "jobs list");
  jobs->require_subcommand(1);
  add_looking(to, *jobs);
  add_submit(to, *jobs);
  add_control(to, *jobs);
  add_answers(to, *jobs);
  add_repairs(to, *jobs);
  add_reading(to);
  add_audit(to);
  add_agents(to);
  add_start(to, "server", "API, scheduler and workers of jobs in one process",
            {.foreground = true});
  add_start(to, "worker", "Scheduler and workers of jobs, without a port for the API",
            {.foreground = true, .jobs_alone = true});
}

}  // namespace aether::cli
