// SPDX-License-Identifier: Apache-2.0
#include "functions/handler_hooks.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "os/file.h"
#include "os/proc.h"

namespace aether::functions {
namespace {

constexpr std::size_t kStatusBytesMax = std::size_t{64} * 1024;
/// Within the folder of the hook libraries.
constexpr std::string_view kPythonHook = "python/aetherless/autohook";
constexpr std::string_view kNodeHook = "node/aetherless/autohook.js";

std::optional<std::string_view> value_of(std::vector<std::string> const& environment,
                                         std::string_view name) {
  for (std::string const& entry : environment) {
    std::string_view const text = entry;
    if (text.starts_with(name) && text.substr(name.size()).starts_with('='))
      return text.substr(name.size() + 1);
  }
  return std::nullopt;
}

bool exists(std::string const& path) {
  return ::access(path.c_str(), R_OK) == 0;
}

/// The folder in which this program lies, without a '/' at its end.
std::string own_folder() {
  std::array<char, 4096> path{};
  ssize_t const size = ::readlink("/proc/self/exe", path.data(), path.size());
  if (size <= 0) return {};
  std::string_view const text(path.data(), static_cast<std::size_t>(size));
  return std::string(text.substr(0, text.rfind('/')));
}

bool is_sdk(std::string const& folder) {
  return exists(fmt::format("{}/{}", folder, kPythonHook));
}

}  // namespace

std::string restored_line(InstanceId instance) {
  std::array<unsigned char, 16> seed{};
  AETHER_CHECK(::getrandom(seed.data(), seed.size(), 0) == std::ssize(seed), "getrandom failed");
  return fmt::format("RESTORED {} {:02x}\n", instance, fmt::join(seed, ""));
}

std::vector<std::string> hook_variables(std::vector<std::string> const& environment,
                                        std::string const& sdk_folder) {
  if (sdk_folder.empty() || value_of(environment, "AETHER_HOOKS") == "off") return {};
  std::vector<std::string> variables;
  if (std::string const hook = fmt::format("{}/{}", sdk_folder, kPythonHook); exists(hook)) {
    auto const given = value_of(environment, "PYTHONPATH").value_or("");
    // The hook first: its sitecustomize runs the one that it stands before.
    variables.push_back(fmt::format("PYTHONPATH={}:{}/python{}{}", hook, sdk_folder,
                                    given.empty() ? "" : ":", given));
  }
  std::string const hook = fmt::format("{}/{}", sdk_folder, kNodeHook);
  // Node splits its options at spaces; there is no certain way to quote a path.
  if (exists(hook) && !hook.contains(' ')) {
    auto const given = value_of(environment, "NODE_OPTIONS").value_or("");
    variables.push_back(
        fmt::format("NODE_OPTIONS=--require={}{}{}", hook, given.empty() ? "" : " ", given));
    auto const modules = value_of(environment, "NODE_PATH").value_or("");
    variables.push_back(
        fmt::format("NODE_PATH={}/node{}{}", sdk_folder, modules.empty() ? "" : ":", modules));
  }
  return variables;
}

std::string find_sdk_folder() {
  if (char const* const named = std::getenv("AETHER_SDK"); named != nullptr) return named;
  std::string const own = own_folder();
  // Installed; or bin/ of a build folder two below the source folder.
  for (std::string_view const place : {"../share/aether/sdk", "../../../sdk", "../../sdk"}) {
    std::string const folder = fmt::format("{}/{}", own, place);
    if (!is_sdk(folder)) continue;
    char* const real = ::realpath(folder.c_str(), nullptr);
    std::string found = real != nullptr ? real : folder;
    ::free(real);
    return found;
  }
  return {};
}

bool has_loaded_hook(pid_t pid) {
  auto const status = os::read_file(fmt::format("/proc/{}/status", pid), kStatusBytesMax);
  std::string const name = os::read_comm(pid);
  if (!status || !(name.starts_with("python") || name.starts_with("node"))) return false;
  std::size_t const at = status->find("SigCgt:\t");
  if (at == std::string::npos) return false;
  std::uint64_t const caught = std::strtoull(status->c_str() + at + 8, nullptr, 16);
  return (caught >> (kHookSignal - 1) & 1) != 0;
}

}  // namespace aether::functions
