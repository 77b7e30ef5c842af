// SPDX-License-Identifier: Apache-2.0
// Error: a fault, told so that a program can branch on it and a person can act on it.
#pragma once
#include <cstdint>
#include <exception>
#include <source_location>
#include <string>
#include <string_view>

namespace aether {

/// What went wrong. Stable: see error_codes.def.
enum class ErrorCode : std::uint8_t {
#define AETHER_ERROR(name, code, origin, retry, meaning, cure) name,
#include "base/error_codes.def"
#undef AETHER_ERROR
};

/// Whose mistake it is.
enum class Origin : std::uint8_t { Caller, UserProgram, Dependency, System, Us };

/// Whether trying again can help.
enum class Retry : std::uint8_t { Never, Later, Now, OnlyIfIdempotent };

/// One row of error_codes.def. The strings live as long as the program.
struct ErrorInfo {
  ErrorCode code;
  std::string_view name;  ///< Stable kebab-case code, also the name of its page in docs/errors/.
  Origin origin;
  Retry retry;
  std::string_view meaning;
  std::string_view cure;
};
[[nodiscard]] ErrorInfo const& info(ErrorCode code);

/// A fault with its context. Cheap to move. Also an exception, so that coroutines may let it
/// travel.
class Error final : public std::exception {
 public:
  /// @param message What was tried, what happened, what the user can do: one sentence or more.
  /// @param errno_value The kernel's reason, 0 if there is none.
  Error(ErrorCode code, std::string message, int errno_value = 0);

  [[nodiscard]] ErrorCode code() const { return code_; }
  [[nodiscard]] std::string const& message() const { return message_; }
  [[nodiscard]] int errno_value() const { return errno_; }
  [[nodiscard]] Origin origin() const { return info(code_).origin; }
  [[nodiscard]] Retry retry() const { return info(code_).retry; }
  /// "code: message (reason)": one line for logs and terminals.
  [[nodiscard]] std::string describe() const;
  [[nodiscard]] char const* what() const noexcept override { return message_.c_str(); }
  /// The same fault with what the caller was doing put before its message: "opening X: ...".
  [[nodiscard]] Error while_doing(std::string_view doing) &&;

 private:
  ErrorCode code_;
  int errno_;
  std::string message_;
};

/// The fault of a failed system call: "call what: reason". Reads errno if not given.
[[nodiscard]] Error system_error(std::string_view call, std::string_view what = {});
[[nodiscard]] Error system_error_from(int errno_value, std::string_view call,
                                      std::string_view what = {});

}  // namespace aether
