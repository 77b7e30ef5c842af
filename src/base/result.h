// SPDX-License-Identifier: Apache-2.0
// Result<T>: a value or the fault that kept it from being. TRY passes the fault on.
#pragma once
#include <expected>
#include <utility>

#include "base/error.h"

namespace aether {

template <class T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

using Failure = std::unexpected<Error>;

/// `return fail(ErrorCode::X, "...")` in a function that returns a Result.
[[nodiscard]] inline Failure fail(ErrorCode code, std::string message, int errno_value = 0) {
  return Failure(Error(code, std::move(message), errno_value));
}
[[nodiscard]] inline Failure fail(Error error) {
  return Failure(std::move(error));
}

/// The value, or the fault thrown: the bridge from synchronous rooms into coroutines.
template <class T>
T or_throw(Result<T> result) {
  if (!result) throw std::move(result).error();
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

}  // namespace aether

#define AETHER_CONCAT_(a, b) a##b
#define AETHER_CONCAT(a, b) AETHER_CONCAT_(a, b)

/// TRY(expression): returns the fault from the enclosing function, goes on if there is none.
#define TRY(expression)                                        \
  do {                                                         \
    if (auto aether_try = (expression); !aether_try)           \
      return ::aether::Failure(std::move(aether_try).error()); \
  } while (false)

/// TRY_ASSIGN(auto x, expression): as TRY, and keeps the value.
#define TRY_ASSIGN(declaration, expression) \
  TRY_ASSIGN_(AETHER_CONCAT(aether_try_, __LINE__), declaration, expression)
#define TRY_ASSIGN_(temporary, declaration, expression)                   \
  auto temporary = (expression);                                          \
  if (!temporary) return ::aether::Failure(std::move(temporary).error()); \
  declaration = std::move(*temporary)
