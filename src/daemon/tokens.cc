// SPDX-License-Identifier: Apache-2.0
#include "daemon/tokens.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "os/unique_fd.h"

namespace aether::daemon {
namespace {

Failure unusable(std::string why) {
  return fail(ErrorCode::ConfigInvalid, std::move(why));
}

Status check_file(std::string const& path, struct stat const& status) {
  if (!S_ISREG(status.st_mode)) return unusable(fmt::format("{} is not a file", path));
  if ((status.st_mode & (S_IROTH | S_IWOTH | S_IWGRP)) != 0) {
    return unusable(fmt::format("{} may be read or written by others (mode {:04o}): chmod 600 {}",
                                path, status.st_mode & 07777U, path));
  }
  if (status.st_uid != 0 && status.st_uid != ::geteuid()) {
    return unusable(fmt::format("{} belongs to the user {}, who could change it: chown {} {}", path,
                                status.st_uid, ::geteuid(), path));
  }
  return {};
}

Result<std::string> token_in(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  std::size_t const begin = std::min(text.find_first_not_of(kBlank), text.size());
  std::string_view token = text.substr(begin);
  token = token.substr(0, token.find_last_not_of(kBlank) + 1);
  if (token.empty()) return unusable("it is empty; `aether token` makes one");
  if (token.size() < kTokenBytesMin) {
    return unusable(
        fmt::format("it has {} characters, and {} are the least; `aether token` makes "
                    "one",
                    token.size(), kTokenBytesMin));
  }
  bool const plain = std::ranges::all_of(token, [](char c) { return c > 0x20 && c < 0x7F; });
  if (token.size() > kTokenBytesMax || !plain) {
    return unusable(
        fmt::format("it is not one word of at most {} printable characters", kTokenBytesMax));
  }
  return std::string(token);
}

Result<api::Digest> digest_of_variable(std::string const& name) {
  char const* const value = std::getenv(name.c_str());
  if (value == nullptr) return unusable(fmt::format("the variable {} is not set", name));
  auto const token = token_in(value);
  // Our own copy of the environment; /proc/PID/environ shows the first one, to us and root.
  if (!token) return fail(token.error());
  api::Digest const digest = api::digest_of(*token);
  ::unsetenv(name.c_str());
  return digest;
}

}  // namespace

Result<std::string> read_token_file(std::string const& path) {
  // Judged by its descriptor: the name may mean another file a moment later.
  os::UniqueFd const file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status{};
  if (!file || ::fstat(file.get(), &status) != 0) {
    return unusable(system_error("open", path).message());
  }
  TRY(check_file(path, status));
  std::array<char, kTokenBytesMax + 2> buffer{};
  ssize_t const got = ::read(file.get(), buffer.data(), buffer.size());
  if (got < 0) return unusable(system_error("read", path).message());
  return token_in({buffer.data(), static_cast<std::size_t>(got)});
}

Result<std::vector<api::KnownToken>> Tokens::load(config::Config const& config) {
  std::vector<api::KnownToken> known;
  std::vector<std::string> mistakes;
  for (config::Token const& token : config.api.tokens) {
    auto const read = [&]() -> Result<api::Digest> {
      if (!token.sha256.empty()) return api::parse_digest(token.sha256).value();
      if (!token.file.empty()) {
        TRY_ASSIGN(std::string const text, read_token_file(token.file));
        return api::digest_of(text);
      }
      if (auto const seen = of_variables_.find(token.env); seen != of_variables_.end()) {
        return seen->second;
      }
      TRY_ASSIGN(api::Digest const digest, digest_of_variable(token.env));
      of_variables_.emplace(token.env, digest);
      return digest;
    };
    auto digest = read();
    if (digest) {
      known.push_back({.name = token.name,
                       .role = token.role,
                       .digest = *digest,
                       .namespaces = token.namespaces});
    } else {
      mistakes.push_back(fmt::format("{}: the token {} cannot be used: {}", config.path, token.name,
                                     digest.error().message()));
    }
  }
  if (mistakes.empty()) return known;
  return fail(ErrorCode::ConfigInvalid, fmt::format("{}", fmt::join(mistakes, "\n")));
}

}  // namespace aether::daemon
