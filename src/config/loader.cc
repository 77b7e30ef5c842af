// SPDX-License-Identifier: Apache-2.0
#include "config/loader.h"

#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>

#include <fmt/format.h>

#include "config/limits.h"
#include "config/resolve.h"
#include "config/yaml_tree.h"

namespace aether::config {
namespace {

std::string line_of(std::string const& file_name, Remark const& remark) {
  if (remark.place.line == 0) return fmt::format("{}: {}", file_name, remark.message);
  return fmt::format("{}:{}:{}: {}", file_name, remark.place.line, remark.place.column,
                     remark.message);
}

// One line each, in the file's order, each once: a section that several services share is judged
// for each.
Failure refuse(std::string const& file_name, std::vector<Remark> mistakes) {
  std::ranges::sort(mistakes);
  mistakes.erase(std::ranges::unique(mistakes).begin(), mistakes.end());
  std::string message;
  for (std::size_t i = 0; i < std::min(mistakes.size(), kMistakesMax); ++i) {
    message += (i == 0 ? "" : "\n") + line_of(file_name, mistakes[i]);
  }
  if (mistakes.size() > kMistakesMax) {
    message += fmt::format("\n{}: and {} more mistakes", file_name, mistakes.size() - kMistakesMax);
  }
  return fail(ErrorCode::ConfigInvalid, std::move(message));
}

Result<Config> parse_in_folder(std::string_view text, std::string const& file_name,
                               std::string folder, Environment const& environment) {
  auto tree = Tree::parse(text);
  if (!tree) return refuse(file_name, {std::move(tree.error())});
  Reader reader(environment, std::move(folder));
  RootDraft root;
  read_root(reader, tree->root(), root);
  Config config;
  if (tree->root().kind == Node::Kind::Map) config = resolve(reader, std::move(root));
  std::vector<Remark> mistakes = reader.take_mistakes();
  mistakes.insert(mistakes.end(), tree->mistakes().begin(), tree->mistakes().end());
  if (!mistakes.empty()) return refuse(file_name, std::move(mistakes));
  std::vector<Remark> warnings = reader.take_warnings();
  std::ranges::sort(warnings);
  warnings.erase(std::ranges::unique(warnings).begin(), warnings.end());
  for (Remark& warning : warnings) {
    config.warnings.push_back(
        {warning.place.line, warning.place.column, std::move(warning.message)});
  }
  config.path = file_name;
  return config;
}

Failure unreadable(std::string const& path, int errno_value) {
  Error const reason = system_error_from(errno_value, "reading", path);
  return fail(ErrorCode::ConfigNotFound,
              fmt::format("{}; name the file with -c FILE", reason.message()), errno_value);
}

// At most one byte over the limit, so that the limit is told and not the machine's memory used.
Result<std::string> read_file(std::string const& path) {
  auto const close = [](std::FILE* file) { std::fclose(file); };
  std::unique_ptr<std::FILE, decltype(close)> const file(std::fopen(path.c_str(), "re"), close);
  if (!file) return unreadable(path, errno);
  std::string text;
  std::array<char, 16384> buffer{};
  while (text.size() <= kFileBytesMax) {
    std::size_t const count = std::fread(buffer.data(), 1, buffer.size(), file.get());
    if (count == 0 && std::ferror(file.get()) != 0) return unreadable(path, errno);
    if (count == 0) break;
    text.append(buffer.data(), count);
  }
  return text;
}

}  // namespace

Environment process_environment() {
  Environment environment;
  for (char** variable = ::environ; variable && *variable; ++variable) {
    std::string_view const text = *variable;
    std::size_t const equals = text.find('=');
    if (equals != std::string_view::npos)
      environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return environment;
}

Result<Config> load(std::string const& path, Environment const& environment) {
  TRY_ASSIGN(std::string const text, read_file(path));
  std::error_code error;
  std::filesystem::path const whole = std::filesystem::absolute(path, error);
  return parse_in_folder(text, path, error ? std::string() : whole.parent_path().string(),
                         environment);
}

Result<Config> load(std::string const& path) {
  return load(path, process_environment());
}

Result<Config> parse(std::string_view text, std::string const& file_name,
                     Environment const& environment) {
  return parse_in_folder(text, file_name, std::filesystem::path(file_name).parent_path().string(),
                         environment);
}

}  // namespace aether::config
