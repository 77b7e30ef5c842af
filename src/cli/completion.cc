// SPDX-License-Identifier: Apache-2.0
// completion: small scripts that ask the program itself for words, so that they never go stale.
#include <cstdio>

#include <fmt/format.h>

#include "cli/commands.h"

namespace aether::cli {
namespace {

// clang-format off: the formatter takes parts of shell scripts for code
constexpr char const* kBash = R"sh(# bash completion: source <(aether completion bash)
_aether() {
  local program="${COMP_WORDS[0]}" word="${COMP_WORDS[COMP_CWORD]}"
  local words
  case "${COMP_WORDS[COMP_CWORD-1]}" in
    -c|--config|--token-file|-w|--write|--old|--key|validate|deploy)
      COMPREPLY=($(compgen -f -- "$word"))
      return ;;
    -o|--output) words="text json" ;;
    completion) words="bash zsh fish" ;;
    --role) words="viewer submitter approver operator auditor worker" ;;
    reload) words="$("$program" words services 2>/dev/null)" ;;
    invoke) words="$("$program" words functions 2>/dev/null)" ;;
    rollback|status|logs|inspect) words="$("$program" words names 2>/dev/null)" ;;
    stats) words="--watch --dashboard -o --help" ;;
    jobs) words="list show submit cancel pause resume signal approve reject resolve fork erase" ;;
    server|worker) words="start" ;;
    conformance) words="worker" ;;
    chat) words="--agent" ;;
    init) COMPREPLY=($(compgen -d -- "$word")); return ;;
    show|cancel|pause|resume|signal|approve|reject|resolve|fork|erase|trace|replay|export)
      words="$("$program" words jobs 2>/dev/null)" ;;
    submit|verify) COMPREPLY=($(compgen -f -- "$word")); return ;;
    *) words="-c -v -o --url --token-file --help --version"
       words="$("$program" words commands 2>/dev/null) $words" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -F _aether aether aeterna aetheris
)sh";

constexpr char const* kZsh = R"sh(#compdef aether aeterna aetheris
# zsh completion: source <(aether completion zsh)
_aether() {
  local program="${words[1]}"
  case "${words[CURRENT-1]}" in
    -c|--config|--token-file|-w|--write|--old|--key|validate|deploy) _files; return ;;
    -o|--output) compadd text json; return ;;
    completion) compadd bash zsh fish; return ;;
    --role) compadd viewer submitter approver operator auditor worker; return ;;
    reload) compadd -- ${(f)"$("$program" words services 2>/dev/null)"}; return ;;
    invoke) compadd -- ${(f)"$("$program" words functions 2>/dev/null)"}; return ;;
    rollback|status|logs|inspect)
      compadd -- ${(f)"$("$program" words names 2>/dev/null)"}
      return ;;
    stats) compadd -- --watch --dashboard -o --help; return ;;
    jobs)
      compadd list show submit cancel pause resume signal approve reject resolve fork erase
      return ;;
    server|worker) compadd start; return ;;
    conformance) compadd worker; return ;;
    chat) compadd -- --agent; return ;;
    init) _files -/; return ;;
    show|cancel|pause|resume|signal|approve|reject|resolve|fork|erase|trace|replay|export)
      compadd -- ${(f)"$("$program" words jobs 2>/dev/null)"}
      return ;;
    submit|verify) _files; return ;;
  esac
  compadd -- ${(f)"$("$program" words commands 2>/dev/null)"}
  compadd -- -c -v -o --url --token-file --help --version
}
compdef _aether aether aeterna aetheris
)sh";

constexpr char const* kFish = R"sh(# fish completion: aether completion fish | source
for program in aether aeterna aetheris
  complete -c $program -f -n __fish_use_subcommand -a "($program words commands 2>/dev/null)"
  complete -c $program -f -n "__fish_seen_subcommand_from reload" \
    -a "($program words services 2>/dev/null)"
  complete -c $program -f -n "__fish_seen_subcommand_from invoke" \
    -a "($program words functions 2>/dev/null)"
  complete -c $program -f -n "__fish_seen_subcommand_from rollback status logs inspect" \
    -a "($program words names 2>/dev/null)"
  complete -c $program -n "__fish_seen_subcommand_from deploy submit verify" -F
  complete -c $program -f -n "__fish_seen_subcommand_from jobs" \
    -a "list show submit cancel pause resume signal approve reject resolve fork erase"
  complete -c $program -f -n "__fish_seen_subcommand_from trace replay export" \
    -a "($program words jobs 2>/dev/null)"
  complete -c $program -f -n "__fish_seen_subcommand_from server worker" -a start
  complete -c $program -f -n "__fish_seen_subcommand_from conformance" -a worker
  complete -c $program -f -n "__fish_seen_subcommand_from chat" -l agent
  complete -c $program -f -n "__fish_seen_subcommand_from stats" -a "--watch --dashboard"
  complete -c $program -s c -l config -r -d "Configuration file"
  complete -c $program -s o -l output -x -a "text json"
  complete -c $program -s v -l verbose
  complete -c $program -l url -x -d "Ask an Aether elsewhere"
  complete -c $program -l token-file -r -d "File with its token"
  complete -c $program -n "__fish_seen_subcommand_from token" -l role -x \
    -a "viewer submitter approver operator auditor worker"
end
)sh";
// clang-format on

}  // namespace

Result<int> completion(std::string const& shell) {
  char const* const script = shell == "zsh" ? kZsh : shell == "fish" ? kFish : kBash;
  std::fputs(script, stdout);
  return kDone;
}

}  // namespace aether::cli
