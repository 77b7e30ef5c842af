// SPDX-License-Identifier: Apache-2.0
// init: a folder in which `run` works at once, without a network.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "cli/agent_commands.h"
#include "os/unique_fd.h"

namespace aether::cli {
namespace {

// In {0} goes the agent's name, in {1} what runs its file.
constexpr std::string_view kConfig =
    R"(# All in one process: the API, the scheduler, and the agent below.
version: "1.0"
api: {{port: 8080}}              # what `aetheris jobs`, AetherisClient and curl ask
store: {{path: jobs.db}}         # every step is here before it counts
observability: {{metrics_port: none}}
agents:
  - name: {0}
    command: [{1}]   # kept running; `aetheris reload` swaps it for the changed one
)";

constexpr std::string_view kAgentInPython =
    R"(# {0}: each step is recorded. Kill anything at any time: the job goes on where it was,
# and nothing that is a @tool is called twice.
from aetheris import agent, serve, tool


@tool  # policy once: after a crash in the middle a person is asked
def announce(text):
    with open("announced.txt", "a") as file:
        file.write(text + "\n")
    return len(text)


@agent(name="{0}")
def main(ctx, message):
    answer = ctx.llm(f"say You said: {{message}}")  # the built-in model; model= names another
    if "approve" in str(message) and not ctx.approve(f"Announce it? {{answer}}"):
        return "It was not announced."
    announce(answer)
    return answer


serve()
)";

constexpr std::string_view kAgentInNode =
    R"(// {0}: each step is recorded. Kill anything at any time: the job goes on where it was,
// and nothing that is a tool is called twice.
const {{ appendFileSync }} = require('node:fs');
const {{ agent, serve, tool }} = require('aetheris');

// policy once: after a crash in the middle a person is asked
const announce = tool('announce', text => {{
  appendFileSync('announced.txt', `${{text}}\n`);
  return text.length;
}});

agent('{0}', async (ctx, message) => {{
  // the built-in model; {{ model: … }} names another
  const answer = await ctx.llm(`say You said: ${{message}}`);
  if (String(message).includes('approve') && !(await ctx.approve(`Announce it? ${{answer}}`)))
    return 'It was not announced.';
  await announce(answer);
  return answer;
}});

serve();
)";

struct NewFile {
  std::string name, text;
};

Status write_new(std::string const& path, std::string_view text) {
  os::UniqueFd const file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!file && errno == EEXIST)
    return fail(ErrorCode::Conflict, fmt::format("{} is there already: name another folder", path));
  if (!file) return fail(system_error("open", path));
  while (!text.empty()) {
    ssize_t const written = ::write(file.get(), text.data(), text.size());
    if (written < 0) return fail(system_error("write", path));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

/// What may be the name of an agent, a service and a Python text.
std::string agent_name(std::string_view folder) {
  while (folder.ends_with('/')) folder.remove_suffix(1);
  std::string name(folder.substr(folder.rfind('/') + 1).substr(0, 64));
  for (char& c : name) {
    bool const good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '-' || c == '_' || c == '.';
    if (!good) c = '-';
  }
  name.erase(0, std::min(name.find_first_not_of("-_."), name.size()));
  return name.empty() ? "agent" : name;
}

}  // namespace

Result<int> init(Globals const& globals, InitOptions const& options) {
  std::string const& folder = options.folder;
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST)
    return fail(system_error("mkdir", folder));
  std::string const name = agent_name(folder);
  std::string const config = globals.default_files().front();
  std::string const program = options.in_node ? "agent.js" : "agent.py";
  std::string const command = fmt::format("{}, {}", options.in_node ? "node" : "python3", program);
  std::string const code =
      options.in_node ? fmt::format(kAgentInNode, name) : fmt::format(kAgentInPython, name);
  std::array const files{NewFile{config, fmt::format(kConfig, name, command)},
                         NewFile{program, code}};
  for (NewFile const& file : files) {
    if (::access(fmt::format("{}/{}", folder, file.name).c_str(), F_OK) != 0) continue;
    return fail(ErrorCode::Conflict,
                fmt::format("{}/{} is there already: name another folder", folder, file.name));
  }
  for (NewFile const& file : files)
    TRY(write_new(fmt::format("{}/{}", folder, file.name), file.text));
  fmt::print(
      "✓ {0}/{1} and {0}/{3}\n\n  cd {0}\n  {2} run\n\nand in another terminal, there:\n\n"
      "  {2} chat hello\n  {2} jobs list\n",
      folder, config, globals.program, program);
  return kDone;
}

}  // namespace aether::cli
