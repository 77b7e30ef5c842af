// SPDX-License-Identifier: Apache-2.0
// The journal's limits, with their reasons. Each is met by a test.
#pragma once
#include <cstddef>
#include <cstdint>

namespace aether::journal {

/// Of a stream, kind, span, actor or key. Room for two UUIDs and a path; a page holds dozens.
inline constexpr std::size_t kNameBytesMax = 256;
/// Of one event's body. What is larger belongs into a blob (from 4 KiB on it should).
inline constexpr std::size_t kBodyBytesMax = std::size_t{64} << 10U;
/// Of one blob: far below SQLite's own limit, and read into memory whole.
inline constexpr std::size_t kBlobBytesMax = std::size_t{64} << 20U;
/// Events, and blobs, of one batch: it is one transaction, and others wait for it.
inline constexpr std::size_t kBatchEventsMax = 4096;
inline constexpr std::size_t kBatchBlobsMax = 256;
/// Keys, and blobs, that one event may name.
inline constexpr std::size_t kEventKeysMax = 16;
inline constexpr std::size_t kEventBlobsMax = 64;
/// Of the value of a record: what is larger is no index, but a history.
inline constexpr std::size_t kRecordBytesMax = std::size_t{1} << 20U;
/// Of the time of an event, since 1970: the year 2248. Nanoseconds in 64 bits end soon after.
inline constexpr std::uint64_t kMillisecondsMax = std::uint64_t{1} << 43U;
/// Arrays and objects within each other in a body: more is an attack on whoever reads it.
inline constexpr std::size_t kJsonDepthMax = 64;

/// Batches that wait for the writer. At some 10 000 commits a second it is seconds of work; more
/// waiting would only be more memory.
inline constexpr std::size_t kQueuedBatchesMax = 65536;
/// Events of one group commit: bounds how long the first of them waits for the last.
inline constexpr std::size_t kGroupEventsMax = 8192;
/// Spans and streams that the writer remembers (some 8 MiB); beyond it forgets and reads again.
inline constexpr std::size_t kRememberedSpansMax = 50'000;
/// Events that one read gives at most, whatever was asked for.
inline constexpr std::size_t kReadEventsMax = 10'000;
/// Pages of the write-ahead log (16 KiB each) after which it is copied into the store.
inline constexpr int kCheckpointPages = 1024;

}  // namespace aether::journal
