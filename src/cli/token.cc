// SPDX-License-Identifier: Apache-2.0
// token: makes one for the API. It is printed once; the configuration gets its digest only.
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string>
#include <string_view>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/access.h"
#include "api/json_text.h"
#include "cli/commands.h"
#include "cli/terminal.h"
#include "os/unique_fd.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

/// 43 characters of base64url: 256 bits of the kernel's randomness. The prefix is for those who
/// search for secrets that have leaked.
Result<std::string> make_token() {
  constexpr std::string_view kLetters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::array<unsigned char, 33> random{};
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    return fail(system_error("getrandom"));
  }
  std::string token = "aether_";
  for (std::size_t i = 0; i < random.size(); i += 3) {
    unsigned const three = static_cast<unsigned>(random[i]) << 16U |
                           static_cast<unsigned>(random[i + 1]) << 8U | random[i + 2];
    for (unsigned const shift : {18U, 12U, 6U, 0U}) token += kLetters[three >> shift & 63U];
  }
  return token;
}

/// A file of our own, for nobody else's eyes; one that exists is not replaced.
Status write_token(std::string const& path, std::string const& token) {
  os::UniqueFd const file(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return fail(system_error("create", path));
  std::string const text = token + "\n";
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return fail(system_error("write", path));
  }
  return {};
}

}  // namespace

Result<int> token(Globals const& globals, TokenOptions const& options) {
  TRY_ASSIGN(std::string const made, make_token());
  if (!options.file.empty()) TRY(write_token(options.file, made));
  std::string const digest = api::hex(api::digest_of(made));
  if (globals.output == Output::Json) {
    json::object told{{"name", options.name}, {"role", options.role}, {"sha256", digest}};
    if (options.file.empty()) told["token"] = made;
    if (!options.file.empty()) told["file"] = options.file;
    fmt::print("{}\n", api::json_text(told));
    return kDone;
  }
  Paint const paint = paint_for(stdout);
  if (options.file.empty()) {
    fmt::print("{}{}{}\n\nIt is shown this once: give it to its bearer.", paint.bold, made,
               paint.reset);
  } else {
    fmt::print("The token is in {}: give it to its bearer.", options.file);
  }
  fmt::print(
      " The configuration takes its digest:\n\napi:\n  tokens:\n    - {{name: {}, role: {}, "
      "sha256: "
      "\"{}\"}}\n",
      options.name, options.role, digest);
  return kDone;
}

}  // namespace aether::cli
