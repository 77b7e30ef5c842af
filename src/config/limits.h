// SPDX-License-Identifier: Apache-2.0
// How much of a configuration Aether is willing to read. Each limit is there so that a file made by
// mistake or malice ends in a message and not in memory; each is reached by a test.
#pragma once
#include <cstddef>

namespace aether::config {

/// A file. The largest sensible one (250 services) is about a tenth of this.
inline constexpr std::size_t kFileBytesMax = 1 << 20;
/// One line: YAML's scanner looks ahead within a line, and keeps what it saw.
inline constexpr std::size_t kLineBytesMax = 128 << 10;
/// Maps and lists within each other. The schema needs 7.
inline constexpr std::size_t kNestingMax = 32;
/// Values in a file, those reached through merge keys counted again.
inline constexpr std::size_t kNodesMax = 200'000;
/// One value. The kernel takes 128 KiB for one argument or variable (MAX_ARG_STRLEN).
inline constexpr std::size_t kScalarBytesMax = 64 << 10;
/// All text of a Config once aliases and variables are expanded: the end of alias bombs.
inline constexpr std::size_t kExpandedBytesMax = 16 << 20;
/// fd_store of a service. Each costs one of Aether's own descriptors.
inline constexpr int kStoredFdsMax = 4096;
/// Mistakes told at once; more are counted.
inline constexpr std::size_t kMistakesMax = 100;

inline constexpr std::size_t kServicesMax = 256;
inline constexpr std::size_t kFunctionsMax = 1024;
inline constexpr std::size_t kListenersMax = 64;
/// Of all services together: each is compared with each, and costs file descriptors.
inline constexpr std::size_t kListenersTotalMax = 1024;
/// Of one service. All are walked for each when circles are looked for.
inline constexpr std::size_t kAfterMax = 64;
inline constexpr std::size_t kHooksMax = 32;
/// Of one canary. Each is a new weight, of which there are 100.
inline constexpr std::size_t kCanaryStepsMax = 99;
/// Each is compared with each request's: a constant and small time.
inline constexpr std::size_t kTokensMax = 64;
/// Agents, tools or schedules.
inline constexpr std::size_t kNamedMax = 256;
inline constexpr std::size_t kArgumentsMax = 1024;
inline constexpr std::size_t kVariablesMax = 1024;

}  // namespace aether::config
