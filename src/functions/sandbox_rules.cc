// SPDX-License-Identifier: Apache-2.0
#include "functions/sandbox_rules.h"

#include "functions/handler_hooks.h"
#include "os/sandbox.h"

namespace aether::functions {

std::vector<std::string> sandbox_rules(config::Function const& function) {
  os::SandboxSpec spec;
  switch (function.sandbox) {
    case config::Sandbox::None:
      return {};
    case config::Sandbox::Basic:
      spec.level = os::SandboxLevel::Basic;
      spec.copies_have_pid_namespaces = function.pid_namespace;
      break;
    case config::Sandbox::Strict:
      spec.level = os::SandboxLevel::Strict;
      spec.read_write = {"a folder of its own (TMPDIR)"};
      break;
  }
  if (std::string sdk = find_sdk_folder(); !sdk.empty()) spec.read_only = {std::move(sdk)};
  return os::describe_sandbox(spec);
}

}  // namespace aether::functions
