// SPDX-License-Identifier: Apache-2.0
// RecordingVfs: SQLite's way to files, with a record of every write, sync, truncation and removal,
// and with faults to order. Tests only.
#pragma once
#include <errno.h>
#include <sqlite3.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"

namespace aether::journal::testing {

class RecordingVfs {
 public:
  struct Operation {
    enum class Kind : std::uint8_t { Write, Truncate, Sync, Remove, Note };
    Kind kind = Kind::Note;
    std::string file;         ///< Without its folder.
    std::int64_t offset = 0;  ///< Of a write; the new size of a truncation; a note's number.
    std::string bytes{};
  };

  /// @param name Its name for SQLite; one of its own for each object.
  explicit RecordingVfs(std::string name) : name_(std::move(name)) {
    vfs_ = *base();
    vfs_.pNext = nullptr;
    vfs_.zName = name_.c_str();
    vfs_.pAppData = this;
    vfs_.szOsFile = static_cast<int>(sizeof(File)) + base()->szOsFile;
    vfs_.xOpen = open;
    vfs_.xDelete = remove;
    AETHER_CHECK(sqlite3_vfs_register(&vfs_, 0) == SQLITE_OK);
  }
  ~RecordingVfs() { sqlite3_vfs_unregister(&vfs_); }
  RecordingVfs(RecordingVfs const&) = delete;
  RecordingVfs& operator=(RecordingVfs const&) = delete;

  [[nodiscard]] std::string const& name() const { return name_; }
  void note(std::int64_t number) {
    record({.kind = Operation::Kind::Note, .file = {}, .offset = number});
  }
  [[nodiscard]] std::vector<Operation> operations() {
    std::lock_guard const lock(mutex_);
    return operations_;
  }

  std::atomic<bool> sync_fails = false;
  /// Bytes that may still be written; then the disk is full.
  std::atomic<std::int64_t> room = std::numeric_limits<std::int64_t>::max();
  std::atomic<int> syncs = 0;
  /// Called before each sync. Set while nothing writes.
  std::function<void()> before_sync;

 private:
  struct File {
    sqlite3_file base;
    RecordingVfs* vfs;
    std::string* path;  ///< Without its folder.
  };

  static sqlite3_vfs* base() { return sqlite3_vfs_find(nullptr); }
  static File* own(sqlite3_file* file) { return reinterpret_cast<File*>(file); }
  static sqlite3_file* real(sqlite3_file* file) {
    return reinterpret_cast<sqlite3_file*>(own(file) + 1);
  }
  static std::string short_name(char const* path) {
    std::string_view const text(path == nullptr ? "" : path);
    return std::string(text.substr(text.rfind('/') + 1));
  }
  void record(Operation operation) {
    std::lock_guard const lock(mutex_);
    operations_.push_back(std::move(operation));
  }

  static int open(sqlite3_vfs* vfs, char const* path, sqlite3_file* file, int flags, int* given) {
    file->pMethods = nullptr;
    int const code = base()->xOpen(base(), path, real(file), flags, given);
    if (code != SQLITE_OK) return code;
    own(file)->vfs = static_cast<RecordingVfs*>(vfs->pAppData);
    own(file)->path = new std::string(short_name(path));
    file->pMethods = methods();
    return SQLITE_OK;
  }
  static int remove(sqlite3_vfs* vfs, char const* path, int sync_folder) {
    static_cast<RecordingVfs*>(vfs->pAppData)
        ->record({.kind = Operation::Kind::Remove, .file = short_name(path)});
    return base()->xDelete(base(), path, sync_folder);
  }
  static int close(sqlite3_file* file) {
    delete own(file)->path;
    return real(file)->pMethods->xClose(real(file));
  }
  static int read(sqlite3_file* file, void* to, int count, sqlite3_int64 offset) {
    return real(file)->pMethods->xRead(real(file), to, count, offset);
  }
  static int write(sqlite3_file* file, void const* from, int count, sqlite3_int64 offset) {
    RecordingVfs& vfs = *own(file)->vfs;
    if (vfs.room.fetch_sub(count) < count) {
      errno = ENOSPC;
      return SQLITE_FULL;
    }
    vfs.record(
        {.kind = Operation::Kind::Write,
         .file = *own(file)->path,
         .offset = offset,
         .bytes = std::string(static_cast<char const*>(from), static_cast<std::size_t>(count))});
    return real(file)->pMethods->xWrite(real(file), from, count, offset);
  }
  static int truncate(sqlite3_file* file, sqlite3_int64 size) {
    own(file)->vfs->record(
        {.kind = Operation::Kind::Truncate, .file = *own(file)->path, .offset = size});
    return real(file)->pMethods->xTruncate(real(file), size);
  }
  static int sync(sqlite3_file* file, int flags) {
    RecordingVfs& vfs = *own(file)->vfs;
    if (vfs.before_sync) vfs.before_sync();
    ++vfs.syncs;
    if (vfs.sync_fails) {
      errno = EIO;
      return SQLITE_IOERR_FSYNC;
    }
    int const code = real(file)->pMethods->xSync(real(file), flags);
    vfs.record({.kind = Operation::Kind::Sync, .file = *own(file)->path});
    return code;
  }
  static int size(sqlite3_file* file, sqlite3_int64* bytes) {
    return real(file)->pMethods->xFileSize(real(file), bytes);
  }
  static int lock(sqlite3_file* file, int level) {
    return real(file)->pMethods->xLock(real(file), level);
  }
  static int unlock(sqlite3_file* file, int level) {
    return real(file)->pMethods->xUnlock(real(file), level);
  }
  static int is_reserved(sqlite3_file* file, int* answer) {
    return real(file)->pMethods->xCheckReservedLock(real(file), answer);
  }
  static int control(sqlite3_file* file, int what, void* argument) {
    return real(file)->pMethods->xFileControl(real(file), what, argument);
  }
  static int sector(sqlite3_file* file) { return real(file)->pMethods->xSectorSize(real(file)); }
  static int traits(sqlite3_file* file) {
    return real(file)->pMethods->xDeviceCharacteristics(real(file));
  }
  static int shm_map(sqlite3_file* file, int page, int bytes, int extend, void volatile** at) {
    return real(file)->pMethods->xShmMap(real(file), page, bytes, extend, at);
  }
  static int shm_lock(sqlite3_file* file, int offset, int count, int flags) {
    return real(file)->pMethods->xShmLock(real(file), offset, count, flags);
  }
  static void shm_barrier(sqlite3_file* file) { real(file)->pMethods->xShmBarrier(real(file)); }
  static int shm_unmap(sqlite3_file* file, int remove_it) {
    return real(file)->pMethods->xShmUnmap(real(file), remove_it);
  }
  static sqlite3_io_methods const* methods() {
    // Version 2: with shared memory, without memory-mapped reading.
    static sqlite3_io_methods const table = {
        .iVersion = 2,
        .xClose = close,
        .xRead = read,
        .xWrite = write,
        .xTruncate = truncate,
        .xSync = sync,
        .xFileSize = size,
        .xLock = lock,
        .xUnlock = unlock,
        .xCheckReservedLock = is_reserved,
        .xFileControl = control,
        .xSectorSize = sector,
        .xDeviceCharacteristics = traits,
        .xShmMap = shm_map,
        .xShmLock = shm_lock,
        .xShmBarrier = shm_barrier,
        .xShmUnmap = shm_unmap,
        .xFetch = nullptr,
        .xUnfetch = nullptr,
    };
    return &table;
  }

  std::string name_;
  sqlite3_vfs vfs_{};
  std::mutex mutex_;
  std::vector<Operation> operations_;
};

}  // namespace aether::journal::testing
