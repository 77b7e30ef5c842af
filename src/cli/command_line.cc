// SPDX-License-Identifier: Apache-2.0
#include "cli/command_line.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <boost/system/system_error.hpp>
#include <fmt/format.h>

#include "api/json_text.h"
#include "base/fault.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/job_command_line.h"
#include "cli/job_commands.h"
#include "cli/terminal.h"
#include "config/loader.h"
#include "config/suggest.h"

namespace aether::cli {
namespace {

/// The chosen command, ready to run.
using Command = std::function<Result<int>()>;

struct Parser {
  Globals globals;
  Command chosen;
  std::function<void(Command)> const choosing = [this](Command command) {
    choose(std::move(command));
  };
  CLI::App app;

  explicit Parser(std::string program) {
    globals.program = std::move(program);
    app.name(globals.program);
    app.description(
        "Keeps connections, memory and work alive while the processes that serve them are "
        "replaced.\nExample: " +
        globals.program + " up -f -c " + globals.default_files().front());
    app.set_version_flag("--version", fmt::format("{} {}", globals.program, version()));
    app.add_option("-c,--config", globals.config, "Configuration file");
    app.add_flag("-v,--verbose", globals.verbose, "Log what happens in detail");
    std::map<std::string, Output> const outputs{{"text", Output::Text}, {"json", Output::Json}};
    app.add_option("-o,--output", globals.output, "text or json")
        ->transform(CLI::CheckedTransformer(outputs))
        ->option_text("text|json");
    app.add_option("--url", globals.url, "Ask an Aether elsewhere: http://HOST:PORT")
        ->envname("AETHER_URL");
    app.add_option("--token-file", globals.token_file,
                   "File with the token for --url; else AETHER_TOKEN has it");
    app.require_subcommand(1);
    // -c, -v and -o stand before or after the command.
    app.fallthrough();
    add_running();
    add_swapping();
    add_looking();
    add_functions();
    add_tools();
    add_tokens();
    add_job_commands(app, globals, choosing);
  }

  CLI::App* command(std::string name, std::string description, std::string example) {
    CLI::App* const sub = app.add_subcommand(std::move(name), std::move(description));
    sub->footer("Example: " + globals.program + " " + example);
    return sub;
  }

  void add_running() {
    auto options = std::make_shared<UpOptions>();
    CLI::App* const up_command =
        command("up", "Start Aether and its services", "up -f -c aeterna.yaml");
    up_command->add_flag("-f,--foreground", options->foreground,
                         "Stay; do not go to the background");
    up_command->callback(
        [this, options] { choose([this, options] { return up(globals, *options); }); });

    CLI::App* const start =
        command("start", "Start in the foreground: for containers", "start -c aeterna.yaml");
    start->callback([this] { choose([this] { return up(globals, {.foreground = true}); }); });

    CLI::App* const down_command =
        command("down", "Stop the running Aether and its services", "down");
    down_command->callback([this] { choose([this] { return down(globals); }); });
  }

  void add_swapping() {
    auto options = std::make_shared<ReloadOptions>();
    CLI::App* const reload_command =
        command("reload", "Swap services to their new revision; waits for the verdict",
                "reload agent-core");
    reload_command->add_option("service", options->service, "Only this service");
    reload_command->add_option("--reason", options->reason, "For the record");
    reload_command->add_flag("--force", options->force, "Supersede a swap that runs");
    reload_command->add_flag("--check-state", options->check_state,
                             "First let a throwaway process of the new revision read the memory");
    reload_command->add_flag("!--no-wait", options->wait, "Do not wait for the verdict");
    reload_command->callback(
        [this, options] { choose([this, options] { return reload(globals, *options); }); });

    auto service = std::make_shared<std::string>();
    CLI::App* const rollback_command =
        command("rollback", "Back to the revision before", "rollback agent-core");
    rollback_command->add_option("name", *service,
                                 "The service or function; needed if there are several");
    rollback_command->callback(
        [this, service] { choose([this, service] { return rollback(globals, *service); }); });
  }

  void add_looking() {
    auto service = std::make_shared<std::string>();
    CLI::App* const status_command =
        command("status", "What runs, and how it stands", "status -o json");
    status_command->add_option("name", *service, "Only this service or function");
    status_command->callback(
        [this, service] { choose([this, service] { return status(globals, *service); }); });

    auto inspected = std::make_shared<std::string>();
    CLI::App* const inspect_command =
        command("inspect", "All that is known of one service or function", "inspect agent-core");
    inspect_command->add_option("name", *inspected,
                                "The service or function; needed if there are several");
    inspect_command->callback(
        [this, inspected] { choose([this, inspected] { return inspect(globals, *inspected); }); });

    CLI::App* const list_command = command("list", "Functions and services, a line each", "list");
    list_command->callback([this] { choose([this] { return list(globals); }); });

    auto options = std::make_shared<LogsOptions>();
    CLI::App* const logs_command = command("logs", "What the programs wrote", "logs -f agent-core");
    logs_command->add_option("name", options->service,
                             "The service or function; needed if there are several");
    logs_command->add_flag("-f,--follow", options->follow, "Go on until interrupted");
    logs_command->add_option("-n,--lines", options->lines, "How many of the last lines")
        ->capture_default_str();
    logs_command->callback(
        [this, options] { choose([this, options] { return logs(globals, *options); }); });
  }

  void add_functions() {
    auto file = std::make_shared<std::string>();
    CLI::App* const deploy_command = command(
        "deploy", "Start the functions of a file, or replace those that run", "deploy hello.yaml");
    deploy_command->add_option("file", *file, "The configuration file")->required();
    deploy_command->callback(
        [this, file] { choose([this, file] { return deploy(globals, *file); }); });

    auto shown = std::make_shared<StatsOptions>();
    CLI::App* const stats_command =
        command("stats", "Requests, latencies, starts and memory", "stats --dashboard");
    CLI::Option* const watch =
        stats_command->add_flag("--watch", shown->watch, "Again and again, until interrupted");
    stats_command->add_flag("--dashboard", shown->dashboard, "On the whole terminal, with keys")
        ->excludes(watch);
    stats_command
        ->add_flag("--prometheus", shown->prometheus, "As /metrics has it (docs/metrics.md)")
        ->excludes("--dashboard");
    stats_command->callback(
        [this, shown] { choose([this, shown] { return stats(globals, *shown); }); });

    auto options = std::make_shared<InvokeOptions>();
    CLI::App* const invoke_command = command("invoke", "Send a request to a function",
                                             R"(invoke hello-api -d '{"name": "Ada"}' /users)");
    invoke_command->add_option("function", options->function, "Its id")->required();
    invoke_command->add_option("path", options->path, "Path and query")->capture_default_str();
    invoke_command->add_option("-X,--method", options->method, "POST with data, else GET");
    invoke_command->add_option("-H,--header", options->headers, "NAME: VALUE; may be repeated")
        ->allow_extra_args(false);
    invoke_command->add_option("-d,--data", options->data,
                               "What to send; @FILE for what a file holds, @- for stdin");
    invoke_command->add_flag("-i,--include", options->head, "Show the answer's head too");
    invoke_command->callback(
        [this, options] { choose([this, options] { return invoke(globals, *options); }); });
  }

  void add_tokens() {
    auto options = std::make_shared<TokenOptions>();
    CLI::App* const token_command =
        command("token", "Make a token for the API", "token --name ci --role operator");
    token_command->add_option("--name", options->name, "For the log")->capture_default_str();
    token_command->add_option("--role", options->role, "What its bearer may do")
        ->capture_default_str()
        ->check(
            CLI::IsMember({"viewer", "submitter", "approver", "operator", "auditor", "worker"}));
    token_command->add_option("-w,--write", options->file,
                              "Write it to a new file that only you can read");
    token_command->callback(
        [this, options] { choose([this, options] { return token(globals, *options); }); });
  }

  void add_tools() {
    auto file = std::make_shared<std::string>();
    CLI::App* const validate_command =
        command("validate", "Check a configuration file", "validate aeterna.yaml");
    validate_command->add_option("file", *file, "The file; else the one of -c");
    validate_command->callback(
        [this, file] { choose([this, file] { return validate(globals, *file); }); });

    CLI::App* const doctor_command =
        command("doctor", "What this machine offers, and what is missing for what", "doctor");
    doctor_command->callback([this] { choose([this] { return doctor(globals); }); });

    auto words = std::make_shared<std::vector<std::string>>();
    CLI::App* const exec_command =
        command("exec", "Set LISTEN_PID and execute a command: for wrappers like sh -c",
                "exec -- gunicorn app:app");
    exec_command->add_option("command", *words, "The command and its arguments")->required();
    exec_command->callback(
        [this, words] { choose([this, words] { return exec(globals, *words); }); });

    auto shell = std::make_shared<std::string>();
    CLI::App* const completion_command =
        command("completion", "Print the completion script of a shell", "completion bash");
    completion_command->add_option("shell", *shell, "bash, zsh or fish")
        ->required()
        ->check(CLI::IsMember({"bash", "zsh", "fish"}));
    completion_command->callback([this, shell] { choose([shell] { return completion(*shell); }); });

    auto kind = std::make_shared<std::string>();
    CLI::App* const words_command = app.add_subcommand("words", "Words for completion scripts");
    words_command->group("");
    words_command->add_option("kind", *kind)->required();
    words_command->callback([this, kind] { choose([this, kind] { return print_words(*kind); }); });

    CLI::App* const reference =
        app.add_subcommand("config-reference", "docs/configuration.md, from the schema");
    reference->group("");
    reference->callback([this] {
      choose([]() -> Result<int> {
        std::fputs(config::reference_markdown().c_str(), stdout);
        return kDone;
      });
    });
  }

  /// What completion scripts ask: the commands, or what runs.
  Result<int> print_words(std::string const& kind) {
    if (kind == "services") return print_names(globals, NamesOf::Services);
    if (kind == "functions") return print_names(globals, NamesOf::Functions);
    if (kind == "names") return print_names(globals, NamesOf::All);
    if (kind == "jobs") return jobs_ids(globals);
    for (CLI::App const* const sub : app.get_subcommands({})) {
      if (!sub->get_group().empty()) fmt::print("{}\n", sub->get_name());
    }
    return kDone;
  }

  void choose(Command command) { chosen = std::move(command); }
};

std::string program_name(char const* argv0) {
  std::string const name = argv0 == nullptr ? "aether" : argv0;
  std::string base = name.substr(name.rfind('/') + 1);
  return base == "aeterna" || base == "aetheris" ? base : "aether";
}

/// A command that cannot run gives what a shell would give for it.
int exit_code_of(Error const& error) {
  constexpr int kNotExecutable = 126;
  constexpr int kNotFound = 127;
  if (error.code() == ErrorCode::UsageInvalid) return kUsage;
  if (error.code() == ErrorCode::CommandNotExecutable) return kNotExecutable;
  return error.code() == ErrorCode::CommandNotFound ? kNotFound : kFailed;
}

int explain(Error const& error, Output output = Output::Text) {
  int const code = exit_code_of(error);
  if (output == Output::Json) {
    ErrorInfo const& known = info(error.code());
    fmt::print(stderr, "{}\n",
               api::json_text(boost::json::object{
                   {"code", known.name}, {"detail", error.message()}, {"cure", known.cure}}));
    return code;
  }
  Paint const paint = paint_for(stderr);
  if (error.code() == ErrorCode::ConfigInvalid) {
    // Each mistake is a line that begins with file:line:column, for editors.
    fmt::print(stderr, "{}✗{} Configuration validation failed (config-invalid):\n{}\n", paint.red,
               paint.reset, error.message());
    return kFailed;
  }
  fmt::print(stderr, "{}error{}: {}\n", paint.red, paint.reset, error.describe());
  fmt::print(stderr, "  {}{}{}\n", paint.dim, info(error.code()).cure, paint.reset);
  return code;
}

/// The fault of a first word that is no command, with the one that was probably meant.
std::optional<Error> unknown_command(CLI::App const& app, int argc, char** argv) {
  std::vector<std::string> names;
  for (CLI::App const* const sub : app.get_subcommands({})) names.push_back(sub->get_name());
  for (int i = 1; i < argc; ++i) {
    std::string_view const word = argv[i];
    bool const takes_value = word == "-c" || word == "--config" || word == "-o" ||
                             word == "--output" || word == "--url" || word == "--token-file";
    if (takes_value) ++i;
    if (word.starts_with('-')) continue;
    if (std::ranges::find(names, word) != names.end()) return std::nullopt;
    std::vector<std::string_view> const known(names.begin(), names.end());
    return Error(ErrorCode::UsageInvalid, fmt::format("there is no command \"{}\"{}", word,
                                                      config::did_you_mean(word, known)));
  }
  return std::nullopt;
}

}  // namespace

int run(int argc, char** argv) {
  Parser parser(program_name(argc > 0 ? argv[0] : nullptr));
  try {
    parser.app.parse(argc, argv);
  } catch (CLI::ParseError const& error) {
    if (auto const unknown = unknown_command(parser.app, argc, argv)) return explain(*unknown);
    // --help and --version arrive here too, with code 0.
    return parser.app.exit(error) == 0 ? kDone : kUsage;
  }
  if (parser.globals.verbose) log::set_level(log::Level::Debug);
  if (char const* faults = std::getenv("AETHER_FAULT"); faults != nullptr) {
    if (auto configured = fault::configure(faults); !configured) return explain(configured.error());
  }
  try {
    Result<int> const done = parser.chosen();
    return done ? *done : explain(done.error(), parser.globals.output);
  } catch (Error const& error) {
    return explain(error, parser.globals.output);
  } catch (std::system_error const& error) {
    // Whoever read our output is gone (`| head`): there is nobody left to tell.
    return error.code() == std::errc::broken_pipe ? kDone : kFailed;
  } catch (boost::system::system_error const& error) {
    // No descriptor or no watch was left for one of the loop's own.
    return explain(system_error_from(error.code().value(), error.what()));
  }
}

}  // namespace aether::cli
