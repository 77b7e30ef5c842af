// SPDX-License-Identifier: Apache-2.0
// Aether's ring of shared memory, for C11 and C++: docs/ring.md has the layout and the rules.
//
// This one file is all that a peer needs; Aether's own side is built from it too, and its order of
// loads and stores is what the explorer of src/ring/model_test.cc walks through. One aether_ring_*
// object belongs to one thread. The other side is taken for hostile: every shared word is read once
// into a local and bounded by what this side knows, and what makes no sense poisons the ring.
//
//   aether_ring ring;                                     aether_ring_producer out;
//   aether_ring_open(&ring, memory, size)                 aether_ring_attach_producer(&out, &ring)
//   void* payload; aether_ring_claim(&out, type, 3, n, &payload); ... aether_ring_commit(&out, n);
//   aether_ring_flush(&out);
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the ring's words are little endian: this machine's are not"
#endif

// What touches shared memory, named by where it stands. The explorer puts its own in their place.
#ifndef AETHER_RING_LOAD
#define AETHER_RING_LOAD(site, pointer, order) __atomic_load_n(pointer, __ATOMIC_##order)
#define AETHER_RING_STORE(site, pointer, value, order) \
  __atomic_store_n(pointer, value, __ATOMIC_##order)
#define AETHER_RING_EXCHANGE(site, pointer, value) \
  __atomic_exchange_n(pointer, value, __ATOMIC_ACQ_REL)
#define AETHER_RING_CAS(site, pointer, expected, desired) \
  __atomic_compare_exchange_n(pointer, expected, desired, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)
#define AETHER_RING_FENCE(site) aether_ring_fence()
#define AETHER_RING_COPY_OUT(to, from, size) memcpy(to, from, size)
#define AETHER_RING_ZERO(to, size) memset(to, 0, size)
#define AETHER_RING_FUTEX_WAIT(word, value, nanoseconds) \
  aether_ring_futex_wait(word, value, nanoseconds)
#define AETHER_RING_FUTEX_WAKE(word) \
  (void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, (void*)0, (void*)0, 0)
#define AETHER_RING_NOW() aether_ring_now()
#define AETHER_RING_IS_DEAD(process) aether_ring_is_dead(process)
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum {
  AETHER_RING_ABI = 1,
  AETHER_RING_SINGLE = 1,  // kind: one producer
  AETHER_RING_MANY = 2,    // kind: up to AETHER_RING_SLOTS producers
  AETHER_RING_SLOTS = 64,
  AETHER_RING_UNCHECKED = 0,  // checksum: none
  AETHER_RING_CRC32 = 1,      // checksum: zlib's
  AETHER_RING_CRC32C = 2,     // checksum: Castagnoli's
  AETHER_RING_FIRST = 1,      // flag of a record: the first fragment of its message
  AETHER_RING_LAST = 2,       // flag of a record: the last one
  AETHER_RING_PADDING = 0xFFFF,
  AETHER_RING_RECORD = 24,   // bytes before the payload
  AETHER_RING_BLOCK = 8192,  // bytes that are copied and summed at a time
  AETHER_RING_CAPACITY_MIN = 4096,
  AETHER_RING_CAPACITY_MAX = 1 << 30,
  // Offsets in the header.
  AETHER_RING_AT_CRC = 76,
  AETHER_RING_AT_TAIL = 128,
  AETHER_RING_AT_HEAD = 256,
  AETHER_RING_AT_CONSUMER = 264,
  AETHER_RING_AT_CONSUMER_WAITS = 384,
  AETHER_RING_AT_PRODUCER_WAITS = 512,
  AETHER_RING_AT_POISON = 640,
  AETHER_RING_AT_SLOTS = 1024,
  AETHER_RING_SLOT = 128,
  // Values of the words that say who waits, to be added.
  AETHER_RING_ON_FUTEX = 1,
  AETHER_RING_ON_DOORBELL = 2,
};
#define AETHER_RING_MAGIC UINT64_C(0x474E495248544541)  // "AETHRING"
#define AETHER_RING_WRITING UINT32_C(0x80000000)        // in a length: not committed yet
#define AETHER_RING_NO_INTENT UINT64_MAX
#define AETHER_RING_LIFE_CHECK_NS UINT64_C(20000000)  // how often a wait looks at its peer's life

enum aether_ring_status {
  AETHER_RING_OK = 0,
  AETHER_RING_EMPTY,      // nothing to read now
  AETHER_RING_FULL,       // no room now
  AETHER_RING_TIMEOUT,    // the wait's time is over
  AETHER_RING_CLOSED,     // every producer has closed, all is read
  AETHER_RING_PEER_GONE,  // the other side's process has ended, or the consumer has closed
  AETHER_RING_GAP,        // the next message is not the one that was due; it can be read now
  AETHER_RING_MISMATCH,   // a message arrived changed; it was passed over
  AETHER_RING_POISONED,   // the ring holds nonsense: `reason` says which word
  AETHER_RING_TOO_LARGE,  // no record of that size fits this ring, or the buffer given
  AETHER_RING_INVALID,    // not a ring of this ABI, or a wrong argument
  AETHER_RING_BUSY,       // a claim is open, or somebody else has this side
};

enum aether_ring_reason {
  AETHER_RING_SOUND = 0,
  AETHER_RING_BAD_LENGTH,    // a record's length
  AETHER_RING_BAD_PADDING,   // a padding record's check
  AETHER_RING_BAD_PRODUCER,  // a record's producer
  AETHER_RING_BAD_HEAD,      // the consumer's position
  AETHER_RING_BAD_TAIL,      // the producer's position
  AETHER_RING_BAD_CLAIM,     // a claim that nobody makes
  AETHER_RING_PEER_SAID,     // the other side had found one of these
};

// A process: its number in its own pid namespace, when it started, which namespace that is.
typedef struct aether_ring_process {
  uint32_t pid;
  uint64_t start;
  uint64_t space;
} aether_ring_process;

// As zlib's crc32: the checksum of earlier bytes, followed by these.
typedef uint32_t (*aether_ring_crc)(uint32_t crc, void const* data, size_t size);

typedef struct aether_ring {
  unsigned char* base;
  unsigned char* data;
  uint64_t total;  // bytes of header and data: where the next ring of the same memory begins
  uint64_t capacity;
  uint64_t generation;
  uint32_t kind;
  uint32_t checksum;
  uint32_t slots;
  aether_ring_crc crc;  // set by open; may be replaced by a faster one
} aether_ring;

typedef struct aether_ring_producer {
  aether_ring ring;
  uint64_t tail;       // one producer: where the next record goes
  uint64_t head_seen;  // how far the consumer was when we last looked
  uint64_t sequence;
  uint64_t position;  // of the open claim
  uint64_t extent;    // of the open claim, 0 if there is none
  uint32_t slot;
  uint16_t type;
  uint16_t flags;
  int doorbell;  // written to when the consumer waits on its doorbell; -1: none
  uint32_t reason;
} aether_ring_producer;

typedef struct aether_ring_message {
  void const* payload;  // in the ring (until release), or in the buffer given
  uint32_t size;
  uint16_t type;
  uint16_t flags;
  uint32_t producer;
  uint64_t sequence;
  uint64_t expected;  // the sequence number that was due
} aether_ring_message;

typedef struct aether_ring_consumer {
  aether_ring ring;
  uint64_t head;   // published: what lies before it may be overwritten
  uint64_t next;   // what is read next
  uint64_t known;  // producers whose next sequence number is known
  uint64_t dead;   // producers known to be dead by other means than their process number
  uint64_t expected[AETHER_RING_SLOTS];
  uint64_t messages;
  uint64_t gaps;
  uint64_t mismatches;
  uint64_t unblocked;
  uint64_t stalled_tail;  // one producer: the tail of the last look, while a record was missing
  int doorbell;           // written to when producers wait for room on theirs; -1: none
  uint32_t reason;
} aether_ring_consumer;

// ---- the machine ----

static inline void aether_ring_fence(void) {
#if defined(__x86_64__)
  __asm__ volatile("lock; orl $0, -8(%%rsp)" ::: "memory", "cc");  // a third of mfence's time
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

static inline void aether_ring_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static inline uint64_t aether_ring_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static inline void aether_ring_futex_wait(uint32_t* word, uint32_t value, uint64_t nanoseconds) {
  struct timespec limit;
  limit.tv_sec = (time_t)(nanoseconds / UINT64_C(1000000000));
  limit.tv_nsec = (long)(nanoseconds % UINT64_C(1000000000));
  (void)syscall(SYS_futex, word, FUTEX_WAIT, value, &limit, (void*)0, 0);
}

// Never waits, whatever the other side does with the descriptor, if it is a socket; of a pipe or an
// eventfd this side must have an open file description of its own with O_NONBLOCK for that.
static inline void aether_ring_ring_doorbell(int fd) {
  uint64_t const one = 1;
  int const before = errno;
  if (fd >= 0 && send(fd, &one, sizeof one, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == ENOTSOCK) {
    ssize_t const written = write(fd, &one, sizeof one);
    (void)written;  // A doorbell that is full has been rung.
  }
  errno = before;
}

// Field 22 of /proc/PID/stat and the state before it; false if there is no such process.
static inline bool aether_ring_read_stat(char const* path, char* state, uint64_t* start) {
  char text[1024];
  int const fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno != ENOENT;  // Not to be seen is not to be dead.
  ssize_t const got = read(fd, text, sizeof text - 1);
  close(fd);
  if (got <= 0) return false;  // ESRCH: it ended in between.
  text[got] = 0;
  char const* at = strrchr(text, ')');  // The name before it may hold anything.
  if (at == NULL || at[1] == 0) return true;
  *state = at[2];
  for (int field = 2; field < 22 && at != NULL; ++field) at = strchr(at + 1, ' ');
  unsigned long long ticks = 0;
  if (at != NULL && sscanf(at, " %llu", &ticks) == 1) *start = ticks;
  return true;
}

static inline void aether_ring_self(aether_ring_process* self) {
  struct stat space;
  char state = 0;
  memset(self, 0, sizeof *self);
  self->pid = (uint32_t)getpid();
  if (stat("/proc/self/ns/pid", &space) == 0) self->space = space.st_ino;
  aether_ring_read_stat("/proc/self/stat", &state, &self->start);
}

// Certainly ended. What cannot be seen from here (another pid namespace) counts as alive.
static inline bool aether_ring_is_dead(aether_ring_process const* process) {
  struct stat space;
  char path[32];
  char state = 0;
  uint64_t start = process->start;
  if (process->pid == 0 || stat("/proc/self/ns/pid", &space) != 0) return false;
  if (space.st_ino != process->space) return false;
  snprintf(path, sizeof path, "/proc/%u/stat", process->pid);
  if (!aether_ring_read_stat(path, &state, &start)) return true;
  return state == 'Z' || state == 'X' || start != process->start;
}

// Bit by bit over a table of sixteen: for peers that bring nothing faster. zlib's crc32 does.
static inline uint32_t aether_ring_slow_crc(uint32_t crc, void const* data, size_t size,
                                            uint32_t polynomial) {
  unsigned char const* byte = (unsigned char const*)data;
  uint32_t table[16];
  for (uint32_t entry = 0; entry < 16; ++entry) {
    uint32_t value = entry;
    for (int bit = 0; bit < 4; ++bit) value = (value >> 1) ^ ((value & 1) ? polynomial : 0);
    table[entry] = value;
  }
  crc = ~crc;
  for (; size > 0; --size, ++byte) {
    crc ^= *byte;
    crc = (crc >> 4) ^ table[crc & 15];
    crc = (crc >> 4) ^ table[crc & 15];
  }
  return ~crc;
}
static inline uint32_t aether_ring_crc32(uint32_t crc, void const* data, size_t size) {
  return aether_ring_slow_crc(crc, data, size, 0xEDB88320);
}
static inline uint32_t aether_ring_crc32c(uint32_t crc, void const* data, size_t size) {
  return aether_ring_slow_crc(crc, data, size, 0x82F63B78);
}

// ---- words and records ----

static inline uint64_t* aether_ring_word(aether_ring const* ring, uint64_t at) {
  return (uint64_t*)(void*)(ring->base + at);
}
static inline uint32_t* aether_ring_half(aether_ring const* ring, uint64_t at) {
  return (uint32_t*)(void*)(ring->base + at);
}
static inline unsigned char* aether_ring_at(aether_ring const* ring, uint64_t position) {
  return ring->data + (position & (ring->capacity - 1));
}
// The first eight bytes of a record: length, type and flags, read and written as one.
static inline uint64_t* aether_ring_lead(aether_ring const* ring, uint64_t position) {
  return (uint64_t*)(void*)aether_ring_at(ring, position);
}
static inline uint64_t aether_ring_make_lead(uint32_t length, uint16_t type, uint16_t flags) {
  return (uint64_t)length | (uint64_t)type << 32 | (uint64_t)flags << 48;
}
// A padding record has no checksum: its flags are a check of its length.
static inline uint64_t aether_ring_padding(uint64_t extent) {
  uint32_t const length = (uint32_t)extent;
  return aether_ring_make_lead(length, AETHER_RING_PADDING,
                               (uint16_t)(length ^ length >> 16 ^ 0xA5C3));
}
static inline uint64_t aether_ring_extent(uint64_t length) {
  return (length + 7) & ~UINT64_C(7);
}
static inline bool aether_ring_committed(uint64_t lead) {
  uint32_t const length = (uint32_t)lead;
  return length != 0 && (length & AETHER_RING_WRITING) == 0;
}
// The largest length of a record, so that one always fits once all is read, wrap or not.
static inline uint64_t aether_ring_record_max(aether_ring const* ring) {
  return ring->capacity / 2 - 8;
}
static inline uint64_t aether_ring_payload_max(aether_ring const* ring) {
  return aether_ring_record_max(ring) - AETHER_RING_RECORD;
}
// Covers the committed lead, the sequence number and the payload, and begins with the producer.
static inline uint32_t aether_ring_sum(aether_ring const* ring, uint64_t lead, uint64_t sequence,
                                       uint32_t producer, void const* payload, size_t size) {
  uint64_t const head[2] = {lead, sequence};
  if (ring->checksum == AETHER_RING_UNCHECKED) return 0;
  return ring->crc(ring->crc(producer, head, sizeof head), payload, size);
}

// Copies a payload out and says its checksum as aether_ring_sum would: block by block, so that each
// is still in the core's nearest cache when it is summed.
static inline uint32_t aether_ring_copy_sum(aether_ring const* ring, uint64_t lead,
                                            aether_ring_message const* message, void* buffer) {
  unsigned char const* const from = (unsigned char const*)message->payload;
  unsigned char* const to = (unsigned char*)buffer;
  uint64_t const head[2] = {lead, message->sequence};
  bool const summed = ring->checksum != AETHER_RING_UNCHECKED;
  uint32_t sum = summed ? ring->crc(message->producer, head, sizeof head) : 0;
  for (uint32_t at = 0; at < message->size;) {
    uint32_t const rest = message->size - at;
    uint32_t const block = rest < AETHER_RING_BLOCK ? rest : (uint32_t)AETHER_RING_BLOCK;
    AETHER_RING_COPY_OUT(to + at, from + at, block);
    if (summed) sum = ring->crc(sum, to + at, block);
    at += block;
  }
  return sum;
}

static inline int aether_ring_poison(aether_ring const* ring, uint32_t* reason, uint32_t found) {
  uint32_t* const word = aether_ring_half(ring, AETHER_RING_AT_POISON);
  if (*reason == AETHER_RING_SOUND) *reason = found;
  if (found != AETHER_RING_PEER_SAID) AETHER_RING_STORE(poison, word, found, RELAXED);
  return AETHER_RING_POISONED;
}

static inline bool aether_ring_was_poisoned(aether_ring const* ring) {
  return AETHER_RING_LOAD(poison, aether_ring_half(ring, AETHER_RING_AT_POISON), RELAXED) != 0;
}

// ---- making and opening ----

static inline uint64_t aether_ring_data_offset(uint32_t slots) {
  uint64_t const end = AETHER_RING_AT_SLOTS + (uint64_t)slots * AETHER_RING_SLOT;
  return (end + 4095) & ~UINT64_C(4095);
}

static inline uint32_t aether_ring_slots_of(uint32_t kind) {
  return kind == AETHER_RING_SINGLE ? 1 : AETHER_RING_SLOTS;
}

// Bytes that a ring of so much data takes; 0 if there is no such ring.
static inline uint64_t aether_ring_size(uint32_t kind, uint64_t capacity) {
  if (kind != AETHER_RING_SINGLE && kind != AETHER_RING_MANY) return 0;
  if (capacity < AETHER_RING_CAPACITY_MIN || capacity > AETHER_RING_CAPACITY_MAX) return 0;
  if ((capacity & (capacity - 1)) != 0) return 0;
  return aether_ring_data_offset(aether_ring_slots_of(kind)) + capacity;
}

// Makes a ring of aether_ring_size() bytes of memory that are zero and shared, 4096-aligned.
static inline int aether_ring_format(void* memory, uint32_t kind, uint64_t capacity,
                                     uint32_t checksum, uint64_t generation) {
  unsigned char* const base = (unsigned char*)memory;
  uint64_t const total = aether_ring_size(kind, capacity);
  uint32_t const slots = aether_ring_slots_of(kind);
  aether_ring_process self;
  if (total == 0 || checksum > AETHER_RING_CRC32C) return AETHER_RING_INVALID;
  aether_ring_self(&self);
  uint64_t const magic = AETHER_RING_MAGIC;
  uint64_t const data = aether_ring_data_offset(slots);
  uint32_t const abi = AETHER_RING_ABI;
  memcpy(base, &magic, 8);
  memcpy(base + 8, &abi, 4);
  memcpy(base + 12, &kind, 4);
  memcpy(base + 16, &checksum, 4);
  memcpy(base + 20, &slots, 4);
  memcpy(base + 24, &total, 8);
  memcpy(base + 32, &data, 8);
  memcpy(base + 40, &capacity, 8);
  memcpy(base + 48, &generation, 8);
  memcpy(base + 56, &self.start, 8);
  memcpy(base + 64, &self.space, 8);
  memcpy(base + 72, &self.pid, 4);
  uint32_t const crc = aether_ring_crc32(0, base, AETHER_RING_AT_CRC);
  memcpy(base + AETHER_RING_AT_CRC, &crc, 4);
  for (uint32_t slot = 0; slot < slots; ++slot) {
    uint64_t const none = AETHER_RING_NO_INTENT;
    memcpy(base + AETHER_RING_AT_SLOTS + slot * AETHER_RING_SLOT, &none, 8);
  }
  return AETHER_RING_OK;
}

// Takes what somebody else has made. The fixed part of the header is read once, checked, and not
// looked at again.
static inline int aether_ring_open(aether_ring* ring, void* memory, uint64_t size) {
  unsigned char header[AETHER_RING_AT_TAIL];
  uint64_t magic, total, data, capacity;
  uint32_t abi, crc;
  if (size < AETHER_RING_AT_SLOTS || ((uintptr_t)memory & 4095) != 0) return AETHER_RING_INVALID;
  memset(ring, 0, sizeof *ring);
  memcpy(header, memory, sizeof header);
  memcpy(&magic, header, 8);
  memcpy(&abi, header + 8, 4);
  memcpy(&ring->kind, header + 12, 4);
  memcpy(&ring->checksum, header + 16, 4);
  memcpy(&ring->slots, header + 20, 4);
  memcpy(&total, header + 24, 8);
  memcpy(&data, header + 32, 8);
  memcpy(&capacity, header + 40, 8);
  memcpy(&ring->generation, header + 48, 8);
  memcpy(&crc, header + AETHER_RING_AT_CRC, 4);
  if (magic != AETHER_RING_MAGIC || abi != AETHER_RING_ABI) return AETHER_RING_INVALID;
  if (crc != aether_ring_crc32(0, header, AETHER_RING_AT_CRC)) return AETHER_RING_INVALID;
  if (total == 0 || total != aether_ring_size(ring->kind, capacity) || total > size ||
      ring->slots != aether_ring_slots_of(ring->kind) || ring->checksum > AETHER_RING_CRC32C ||
      data != aether_ring_data_offset(ring->slots))
    return AETHER_RING_INVALID;
  ring->base = (unsigned char*)memory;
  ring->data = ring->base + data;
  ring->total = total;
  ring->capacity = capacity;
  ring->crc = ring->checksum == AETHER_RING_CRC32C ? aether_ring_crc32c : aether_ring_crc32;
  return AETHER_RING_OK;
}

// ---- who is at which side ----

// {u32 state, u32 pid, u64 start, u64 space} at `at`. The low two bits of a state: 0 nobody yet,
// 1 attached, 2 closed, 3 being changed; above them how often it was taken.
static inline uint32_t aether_ring_state(aether_ring const* ring, uint64_t at) {
  return AETHER_RING_LOAD(state, aether_ring_half(ring, at), ACQUIRE) & 3;
}

static inline bool aether_ring_gone(aether_ring const* ring, uint64_t at) {
  aether_ring_process process;
  process.pid = AETHER_RING_LOAD(process, aether_ring_half(ring, at + 4), RELAXED);
  process.start = AETHER_RING_LOAD(process, aether_ring_word(ring, at + 8), RELAXED);
  process.space = AETHER_RING_LOAD(process, aether_ring_word(ring, at + 16), RELAXED);
  return AETHER_RING_IS_DEAD(&process);
}

static inline int aether_ring_register(aether_ring const* ring, uint64_t at) {
  uint32_t* const word = aether_ring_half(ring, at);
  uint32_t state = AETHER_RING_LOAD(state, word, ACQUIRE);
  aether_ring_process self;
  if ((state & 3) == 3 || ((state & 3) == 1 && !aether_ring_gone(ring, at)))
    return AETHER_RING_BUSY;
  aether_ring_self(&self);
  if (!AETHER_RING_CAS(state, word, &state, state | 3)) return AETHER_RING_BUSY;
  AETHER_RING_STORE(process, aether_ring_half(ring, at + 4), self.pid, RELAXED);
  AETHER_RING_STORE(process, aether_ring_word(ring, at + 8), self.start, RELAXED);
  AETHER_RING_STORE(process, aether_ring_word(ring, at + 16), self.space, RELAXED);
  AETHER_RING_STORE(state, word, (((state >> 2) + 1) << 2) | 1, RELEASE);
  return AETHER_RING_OK;
}

static inline void aether_ring_unregister(aether_ring const* ring, uint64_t at) {
  uint32_t* const word = aether_ring_half(ring, at);
  uint32_t const state = AETHER_RING_LOAD(state, word, RELAXED);
  AETHER_RING_STORE(state, word, (state & ~UINT32_C(3)) | 2, RELEASE);
}

static inline uint64_t aether_ring_slot_at(uint32_t slot) {
  return AETHER_RING_AT_SLOTS + (uint64_t)slot * AETHER_RING_SLOT;
}

// Wakes who said that it waits. The fence stands between what was published before and this look:
// the waiter has one between its saying so and its last look (both see, or one of them does).
static inline void aether_ring_wake(aether_ring const* ring, uint64_t at, int doorbell) {
  uint32_t* const word = aether_ring_half(ring, at);
  AETHER_RING_FENCE(wake);
  if (AETHER_RING_LOAD(wake, word, RELAXED) == 0) return;
  uint32_t const waiting = AETHER_RING_EXCHANGE(wake, word, 0);
  if ((waiting & AETHER_RING_ON_FUTEX) != 0) AETHER_RING_FUTEX_WAKE(word);
  if ((waiting & AETHER_RING_ON_DOORBELL) != 0) aether_ring_ring_doorbell(doorbell);
}

// ---- producer ----

// One producer: a record that its dead predecessor had committed without moving the tail is kept.
static inline int aether_ring_resume_tail(aether_ring_producer* out) {
  aether_ring const* const ring = &out->ring;
  uint64_t tail = AETHER_RING_LOAD(resume, aether_ring_word(ring, AETHER_RING_AT_TAIL), ACQUIRE);
  uint64_t const head =
      AETHER_RING_LOAD(resume, aether_ring_word(ring, AETHER_RING_AT_HEAD), ACQUIRE);
  if (tail < head && head - tail <= ring->capacity) tail = head;
  if (tail % 8 != 0 || head % 8 != 0 || tail - head > ring->capacity)
    return aether_ring_poison(ring, &out->reason, AETHER_RING_BAD_TAIL);
  uint64_t const lead = AETHER_RING_LOAD(resume, aether_ring_lead(ring, tail), ACQUIRE);
  uint64_t const extent = aether_ring_extent((uint32_t)lead);
  if (tail - head < ring->capacity && aether_ring_committed(lead)) {
    if (extent > ring->capacity - (tail & (ring->capacity - 1)))
      return aether_ring_poison(ring, &out->reason, AETHER_RING_BAD_LENGTH);
    tail += extent;
  }
  out->tail = tail;
  out->head_seen = head;
  AETHER_RING_STORE(resume, aether_ring_word(ring, AETHER_RING_AT_TAIL), tail, RELEASE);
  return AETHER_RING_OK;
}

// Takes the producer's side, or one of its slots: BUSY if there is none to be had.
static inline int aether_ring_attach_producer(aether_ring_producer* out, aether_ring const* ring) {
  uint64_t const head =
      AETHER_RING_LOAD(resume, aether_ring_word(ring, AETHER_RING_AT_HEAD), ACQUIRE);
  int status = AETHER_RING_BUSY;
  memset(out, 0, sizeof *out);
  out->ring = *ring;
  out->doorbell = -1;
  for (uint32_t slot = 0; slot < ring->slots && status == AETHER_RING_BUSY; ++slot) {
    uint64_t* const intent = aether_ring_word(ring, aether_ring_slot_at(slot));
    uint64_t const claimed = AETHER_RING_LOAD(intent, intent, ACQUIRE);
    // A dead producer's claim that is not unblocked yet keeps its slot until the reader is past it.
    bool const passed = head > claimed && head - claimed >= ring->capacity / 2;
    bool const open = claimed != AETHER_RING_NO_INTENT && !passed;
    if (open && ring->kind == AETHER_RING_MANY) continue;
    out->slot = slot;
    status = aether_ring_register(ring, aether_ring_slot_at(slot) + 16);
  }
  if (status != AETHER_RING_OK) return status;
  AETHER_RING_STORE(intent, aether_ring_word(ring, aether_ring_slot_at(out->slot)),
                    AETHER_RING_NO_INTENT, RELEASE);
  uint64_t* const next = aether_ring_word(ring, aether_ring_slot_at(out->slot) + 8);
  out->sequence = AETHER_RING_LOAD(sequence, next, RELAXED);
  return ring->kind == AETHER_RING_SINGLE ? aether_ring_resume_tail(out) : AETHER_RING_OK;
}

static inline void aether_ring_abort(aether_ring_producer* out);

static inline void aether_ring_close_producer(aether_ring_producer* out) {
  aether_ring_abort(out);
  aether_ring_unregister(&out->ring, aether_ring_slot_at(out->slot) + 16);
  aether_ring_wake(&out->ring, AETHER_RING_AT_CONSUMER_WAITS, out->doorbell);
}

// What a record takes at `tail`, with the padding before it when it would cross the end.
static inline uint64_t aether_ring_pad(aether_ring const* ring, uint64_t tail, uint64_t extent) {
  uint64_t const room = ring->capacity - (tail & (ring->capacity - 1));
  return room < extent ? room : 0;
}

// Looks how far the consumer is. A position that makes no sense is read again, since a peer without
// 64-bit stores may be in the middle of one.
static inline int aether_ring_see_head(aether_ring_producer* out, uint64_t tail) {
  uint64_t* const word = aether_ring_word(&out->ring, AETHER_RING_AT_HEAD);
  for (int look = 0; look < 1000; ++look) {
    uint64_t const head = AETHER_RING_LOAD(see_head, word, ACQUIRE);
    if (head % 8 == 0 && head <= tail && tail - head <= out->ring.capacity) {
      if (head > out->head_seen) out->head_seen = head;
      return AETHER_RING_OK;
    }
    aether_ring_relax();
  }
  return aether_ring_poison(&out->ring, &out->reason, AETHER_RING_BAD_HEAD);
}

static inline int aether_ring_claim_single(aether_ring_producer* out, uint64_t extent) {
  aether_ring const* const ring = &out->ring;
  uint64_t const pad = aether_ring_pad(ring, out->tail, extent);
  uint64_t const end = out->tail + pad + extent + 8;  // The next lead is zeroed at commit.
  if (end - out->head_seen > ring->capacity) {
    int const status = aether_ring_see_head(out, out->tail);
    if (status != AETHER_RING_OK) return status;
    if (end - out->head_seen > ring->capacity) return AETHER_RING_FULL;
  }
  if (pad != 0) {
    AETHER_RING_STORE(zero_next, aether_ring_lead(ring, out->tail + pad), 0, RELAXED);
    AETHER_RING_STORE(commit_pad, aether_ring_lead(ring, out->tail), aether_ring_padding(pad),
                      RELEASE);
    out->tail += pad;
    AETHER_RING_STORE(tail, aether_ring_word(ring, AETHER_RING_AT_TAIL), out->tail, RELEASE);
  }
  out->position = out->tail;
  return AETHER_RING_OK;
}

// Many producers: the tail and the head as of one moment, or nearly: head <= tail held then.
static inline int aether_ring_see_both(aether_ring_producer* out, uint64_t* tail) {
  aether_ring const* const ring = &out->ring;
  uint64_t* const at_head = aether_ring_word(ring, AETHER_RING_AT_HEAD);
  for (int look = 0; look < 1000; ++look) {
    uint64_t const before = AETHER_RING_LOAD(see_head, at_head, ACQUIRE);
    *tail = AETHER_RING_LOAD(see_tail, aether_ring_word(ring, AETHER_RING_AT_TAIL), ACQUIRE);
    uint64_t const head = AETHER_RING_LOAD(see_head, at_head, ACQUIRE);
    bool const sound = *tail % 8 == 0 && head % 8 == 0 && before <= *tail;
    if (sound && head <= *tail && *tail - head <= ring->capacity) {
      if (head > out->head_seen) out->head_seen = head;
      return AETHER_RING_OK;
    }
    aether_ring_relax();
  }
  return aether_ring_poison(ring, &out->reason, AETHER_RING_BAD_TAIL);
}

static inline int aether_ring_claim_many(aether_ring_producer* out, uint64_t extent) {
  aether_ring const* const ring = &out->ring;
  uint64_t* const at_tail = aether_ring_word(ring, AETHER_RING_AT_TAIL);
  uint64_t* const intent = aether_ring_word(ring, aether_ring_slot_at(out->slot));
  uint64_t tail = AETHER_RING_LOAD(claim_tail, at_tail, ACQUIRE);
  uint64_t pad;
  for (;;) {
    pad = aether_ring_pad(ring, tail, extent);
    if (tail % 8 != 0 || tail + pad + extent - out->head_seen > ring->capacity) {
      int const status = aether_ring_see_both(out, &tail);
      pad = aether_ring_pad(ring, tail, extent);
      bool const full = tail + pad + extent - out->head_seen > ring->capacity;
      if (status != AETHER_RING_OK || full) {
        AETHER_RING_STORE(intent, intent, AETHER_RING_NO_INTENT, RELEASE);
        return status != AETHER_RING_OK ? status : AETHER_RING_FULL;
      }
    }
    // Said before the claim is made: whoever sees the tail beyond `tail` sees whose it can be.
    AETHER_RING_STORE(intent, intent, tail, RELAXED);
    if (AETHER_RING_CAS(claim, at_tail, &tail, tail + pad + extent)) break;
  }
  if (pad != 0) {
    AETHER_RING_STORE(commit_pad, aether_ring_lead(ring, tail), aether_ring_padding(pad), RELEASE);
  }
  out->position = tail + pad;
  return AETHER_RING_OK;
}

// Opens a claim: `*payload` is where its `size` bytes are to be written, in the ring. FULL,
// TOO_LARGE, POISONED, BUSY while another claim is open, INVALID for the type of padding.
static inline int aether_ring_claim(aether_ring_producer* out, uint16_t type, uint16_t flags,
                                    uint64_t size, void** payload) {
  aether_ring const* const ring = &out->ring;
  if (out->reason != AETHER_RING_SOUND) return AETHER_RING_POISONED;
  if (out->extent != 0) return AETHER_RING_BUSY;
  if (type == AETHER_RING_PADDING) return AETHER_RING_INVALID;
  if (size > aether_ring_payload_max(ring)) return AETHER_RING_TOO_LARGE;
  uint64_t const extent = aether_ring_extent(AETHER_RING_RECORD + size);
  int const status = ring->kind == AETHER_RING_SINGLE ? aether_ring_claim_single(out, extent)
                                                      : aether_ring_claim_many(out, extent);
  if (status != AETHER_RING_OK) return status;
  out->extent = extent;
  out->type = type;
  out->flags = flags;
  uint32_t const length = (uint32_t)(AETHER_RING_RECORD + size) | AETHER_RING_WRITING;
  AETHER_RING_STORE(claim_lead, aether_ring_lead(ring, out->position),
                    aether_ring_make_lead(length, type, flags), RELAXED);
  *payload = aether_ring_at(ring, out->position) + AETHER_RING_RECORD;
  return AETHER_RING_OK;
}

// What follows the payload's last byte: one producer zeroes the next lead before it shows this one;
// many give back what they claimed and do not use.
static inline void aether_ring_publish(aether_ring_producer* out, uint64_t lead, uint64_t extent) {
  aether_ring const* const ring = &out->ring;
  uint64_t* const after = aether_ring_lead(ring, out->position + extent);
  if (ring->kind == AETHER_RING_SINGLE) {
    AETHER_RING_STORE(zero_next, after, 0, RELAXED);
    AETHER_RING_STORE(commit, aether_ring_lead(ring, out->position), lead, RELEASE);
    out->tail = out->position + extent;
    AETHER_RING_STORE(tail, aether_ring_word(ring, AETHER_RING_AT_TAIL), out->tail, RELEASE);
  } else {
    uint64_t* const intent = aether_ring_word(ring, aether_ring_slot_at(out->slot));
    if (extent < out->extent)
      AETHER_RING_STORE(commit_pad, after, aether_ring_padding(out->extent - extent), RELAXED);
    AETHER_RING_STORE(commit, aether_ring_lead(ring, out->position), lead, RELEASE);
    AETHER_RING_STORE(intent, intent, AETHER_RING_NO_INTENT, RELEASE);
  }
  out->extent = 0;
}

// Shows the consumer the claimed record, of `size` bytes, at most what was claimed. It is woken by
// aether_ring_flush(), so that many records cost one look at whether it sleeps.
static inline int aether_ring_commit(aether_ring_producer* out, uint64_t size) {
  aether_ring const* const ring = &out->ring;
  if (out->extent == 0) return AETHER_RING_INVALID;
  if (size > out->extent - AETHER_RING_RECORD) return AETHER_RING_TOO_LARGE;
  unsigned char* const record = aether_ring_at(ring, out->position);
  uint32_t const length = (uint32_t)(AETHER_RING_RECORD + size);
  uint64_t const lead = aether_ring_make_lead(length, out->type, out->flags);
  uint32_t const sum =
      aether_ring_sum(ring, lead, out->sequence, out->slot, record + AETHER_RING_RECORD, size);
  AETHER_RING_STORE(record, (uint64_t*)(void*)(record + 8), out->sequence, RELAXED);
  AETHER_RING_STORE(record, (uint64_t*)(void*)(record + 16), sum | (uint64_t)out->slot << 32,
                    RELAXED);
  // Before the record shows: who takes this slot over may leave a gap, but never sends one twice.
  ++out->sequence;
  AETHER_RING_STORE(sequence, aether_ring_word(ring, aether_ring_slot_at(out->slot) + 8),
                    out->sequence, RELAXED);
  aether_ring_publish(out, lead, aether_ring_extent(length));
  return AETHER_RING_OK;
}

// Gives the open claim back; the consumer does not see it.
static inline void aether_ring_abort(aether_ring_producer* out) {
  aether_ring const* const ring = &out->ring;
  if (out->extent == 0) return;
  if (ring->kind == AETHER_RING_SINGLE) {
    AETHER_RING_STORE(claim_lead, aether_ring_lead(ring, out->position), 0, RELEASE);
    out->extent = 0;
  } else {
    aether_ring_publish(out, aether_ring_padding(out->extent), out->extent);
  }
}

// Wakes the consumer if it sleeps. After the last commit of a batch.
static inline void aether_ring_flush(aether_ring_producer* out) {
  aether_ring_wake(&out->ring, AETHER_RING_AT_CONSUMER_WAITS, out->doorbell);
}

// One whole record: claimed, copied, committed, flushed.
static inline int aether_ring_send(aether_ring_producer* out, uint16_t type, uint16_t flags,
                                   void const* data, uint64_t size) {
  void* payload;
  int const status = aether_ring_claim(out, type, flags, size, &payload);
  if (status != AETHER_RING_OK) return status;
  if (size != 0) memcpy(payload, data, size);
  aether_ring_commit(out, size);
  aether_ring_flush(out);
  return AETHER_RING_OK;
}

// OK if a record with `size` bytes of payload would fit now, FULL, or POISONED.
static inline int aether_ring_fits(aether_ring_producer* out, uint64_t size) {
  uint64_t const extent = aether_ring_extent(AETHER_RING_RECORD + size);
  bool const single = out->ring.kind == AETHER_RING_SINGLE;
  uint64_t tail = out->tail;
  if (size > aether_ring_payload_max(&out->ring)) return AETHER_RING_TOO_LARGE;
  int const status = single ? aether_ring_see_head(out, tail) : aether_ring_see_both(out, &tail);
  if (status != AETHER_RING_OK) return status;
  uint64_t const end = tail + aether_ring_pad(&out->ring, tail, extent) + extent + (single ? 8 : 0);
  return end - out->head_seen > out->ring.capacity ? AETHER_RING_FULL : AETHER_RING_OK;
}

// Says that this producer wants to be woken when there is room, then looks once more: OK means that
// there is room already, FULL that a wake-up will come (through the futex or the doorbell of
// the producer's side, `how`).
static inline int aether_ring_ask_for_room(aether_ring_producer* out, uint64_t size, uint32_t how) {
  uint32_t* const word = aether_ring_half(&out->ring, AETHER_RING_AT_PRODUCER_WAITS);
  AETHER_RING_STORE(ask, word, how, RELAXED);
  AETHER_RING_FENCE(ask_room);
  return aether_ring_fits(out, size);
}

// Waits until a record with `size` bytes of payload fits, at most `nanoseconds`.
static inline int aether_ring_wait_room(aether_ring_producer* out, uint64_t size,
                                        uint64_t nanoseconds) {
  aether_ring const* const ring = &out->ring;
  uint32_t* const word = aether_ring_half(ring, AETHER_RING_AT_PRODUCER_WAITS);
  uint64_t const begin = AETHER_RING_NOW();
  int status = aether_ring_fits(out, size);
  while (status == AETHER_RING_FULL) {
    uint64_t const spent = AETHER_RING_NOW() - begin;
    if (spent >= nanoseconds) return AETHER_RING_TIMEOUT;
    uint64_t const rest = nanoseconds - spent;
    status = aether_ring_ask_for_room(out, size, AETHER_RING_ON_FUTEX);
    if (status != AETHER_RING_FULL) break;
    AETHER_RING_FUTEX_WAIT(word, AETHER_RING_ON_FUTEX,
                           rest < AETHER_RING_LIFE_CHECK_NS ? rest : AETHER_RING_LIFE_CHECK_NS);
    status = aether_ring_fits(out, size);
    if (status != AETHER_RING_FULL) break;
    uint32_t const state = aether_ring_state(ring, AETHER_RING_AT_CONSUMER);
    if (state == 2 || (state == 1 && aether_ring_gone(ring, AETHER_RING_AT_CONSUMER)))
      return AETHER_RING_PEER_GONE;
    if (aether_ring_was_poisoned(ring))
      return aether_ring_poison(ring, &out->reason, AETHER_RING_PEER_SAID);
  }
  return status;
}

// ---- consumer ----

static inline int aether_ring_attach_consumer(aether_ring_consumer* in, aether_ring const* ring) {
  memset(in, 0, sizeof *in);
  in->ring = *ring;
  in->doorbell = -1;
  int const status = aether_ring_register(ring, AETHER_RING_AT_CONSUMER);
  if (status != AETHER_RING_OK) return status;
  in->head = AETHER_RING_LOAD(resume, aether_ring_word(ring, AETHER_RING_AT_HEAD), ACQUIRE);
  if (in->head % 8 != 0) return aether_ring_poison(ring, &in->reason, AETHER_RING_BAD_HEAD);
  in->next = in->head;
  if (in->head == 0) in->known = UINT64_MAX;  // From the beginning: each producer begins with 0.
  return AETHER_RING_OK;
}

static inline int aether_ring_poison_reading(aether_ring_consumer* in, uint32_t found) {
  return aether_ring_poison(&in->ring, &in->reason, found);
}

// Makes room of what was read: payloads given before are no longer valid.
static inline void aether_ring_release(aether_ring_consumer* in) {
  aether_ring const* const ring = &in->ring;
  if (in->next == in->head) return;
  if (ring->kind == AETHER_RING_MANY) {  // An unwritten lead is found to be zero.
    uint64_t const count = in->next - in->head;
    uint64_t const room = ring->capacity - (in->head & (ring->capacity - 1));
    AETHER_RING_ZERO(aether_ring_at(ring, in->head), count < room ? count : room);
    if (count > room) AETHER_RING_ZERO(ring->data, count - room);
  }
  in->head = in->next;
  AETHER_RING_STORE(head, aether_ring_word(ring, AETHER_RING_AT_HEAD), in->head, RELEASE);
  aether_ring_wake(ring, AETHER_RING_AT_PRODUCER_WAITS, in->doorbell);
}

static inline void aether_ring_close_consumer(aether_ring_consumer* in) {
  aether_ring_release(in);
  aether_ring_unregister(&in->ring, AETHER_RING_AT_CONSUMER);
  aether_ring_wake(&in->ring, AETHER_RING_AT_PRODUCER_WAITS, in->doorbell);
}

// Whether something is there to be read, without reading it.
static inline bool aether_ring_ready(aether_ring_consumer const* in) {
  if (in->next - in->head >= in->ring.capacity) return false;
  uint64_t* const lead = aether_ring_lead(&in->ring, in->next);
  return aether_ring_committed(AETHER_RING_LOAD(ready, lead, ACQUIRE));
}

// The extent of a committed record, 0 if its length is nonsense.
static inline uint64_t aether_ring_check_lead(aether_ring_consumer* in, uint64_t lead) {
  aether_ring const* const ring = &in->ring;
  uint32_t const length = (uint32_t)lead;
  uint64_t const extent = aether_ring_extent(length);
  uint64_t const room = ring->capacity - (in->next & (ring->capacity - 1));
  bool const padding = (uint16_t)(lead >> 32) == AETHER_RING_PADDING;
  bool sound = extent <= room && extent <= ring->capacity - (in->next - in->head);
  if (padding && (length % 8 != 0 || lead != aether_ring_padding(length))) {
    aether_ring_poison_reading(in, AETHER_RING_BAD_PADDING);
    return 0;
  }
  if (!padding && (length < AETHER_RING_RECORD || length > aether_ring_record_max(ring)))
    sound = false;
  if (!sound) aether_ring_poison_reading(in, AETHER_RING_BAD_LENGTH);
  return sound ? extent : 0;
}

// The committed lead of the next message, past padding; 0 if there is none or the ring is poisoned.
static inline uint64_t aether_ring_next_lead(aether_ring_consumer* in) {
  while (in->next - in->head < in->ring.capacity) {
    uint64_t* const word = aether_ring_lead(&in->ring, in->next);
    uint64_t const lead = AETHER_RING_LOAD(peek, word, ACQUIRE);
    if (!aether_ring_committed(lead)) return 0;
    uint64_t const extent = aether_ring_check_lead(in, lead);
    if (extent == 0) return 0;
    if ((uint16_t)(lead >> 32) != AETHER_RING_PADDING) return lead;
    in->next += extent;
  }
  return 0;
}

// Whether the message is the one that was due; if not, the next look takes it as it is.
static inline int aether_ring_in_order(aether_ring_consumer* in, aether_ring_message* message) {
  uint64_t const bit = UINT64_C(1) << message->producer;
  uint64_t* const expected = &in->expected[message->producer];
  message->expected = *expected;
  if ((in->known & bit) != 0 && message->sequence != *expected) {
    *expected = message->sequence;
    ++in->gaps;
    return AETHER_RING_GAP;
  }
  in->known |= bit;
  *expected = message->sequence + 1;
  return AETHER_RING_OK;
}

// The next message. With `buffer` its payload is copied there first and checked there, so that the
// other side cannot change it afterwards; without, it stays in the ring until release, and the
// producer is trusted not to touch it. EMPTY, GAP, MISMATCH, POISONED; TOO_LARGE if it
// does not fit the buffer, `message->size` saying what would.
static inline int aether_ring_read(aether_ring_consumer* in, aether_ring_message* message,
                                   void* buffer, uint64_t room) {
  aether_ring const* const ring = &in->ring;
  if (in->reason != AETHER_RING_SOUND) return AETHER_RING_POISONED;
  uint64_t const lead = aether_ring_next_lead(in);
  if (lead == 0) return in->reason != AETHER_RING_SOUND ? AETHER_RING_POISONED : AETHER_RING_EMPTY;
  unsigned char* const record = aether_ring_at(ring, in->next);
  uint64_t const tail = AETHER_RING_LOAD(record, (uint64_t*)(void*)(record + 16), RELAXED);
  message->sequence = AETHER_RING_LOAD(record, (uint64_t*)(void*)(record + 8), RELAXED);
  message->size = (uint32_t)lead - AETHER_RING_RECORD;
  message->type = (uint16_t)(lead >> 32);
  message->flags = (uint16_t)(lead >> 48);
  message->producer = (uint32_t)(tail >> 32);
  message->expected = message->sequence;
  message->payload = record + AETHER_RING_RECORD;
  uint32_t sum;
  if (buffer != NULL) {
    if (message->size > room) return AETHER_RING_TOO_LARGE;
    sum = aether_ring_copy_sum(ring, lead, message, buffer);
    message->payload = buffer;
  } else {
    sum = aether_ring_sum(ring, lead, message->sequence, message->producer, message->payload,
                          message->size);
  }
  uint64_t const extent = aether_ring_extent((uint32_t)lead);
  if (sum != (uint32_t)tail) {
    bool const named = message->producer < ring->slots;
    if (named && message->sequence == in->expected[message->producer])
      ++in->expected[message->producer];
    in->next += extent;
    ++in->mismatches;
    return AETHER_RING_MISMATCH;
  }
  if (message->producer >= ring->slots)
    return aether_ring_poison_reading(in, AETHER_RING_BAD_PRODUCER);
  int const order = aether_ring_in_order(in, message);
  if (order != AETHER_RING_OK) return order;
  in->next += extent;
  ++in->messages;
  return AETHER_RING_OK;
}

// A claim at `intent` covers `next` if it begins there, or in front of the end with its record at
// the beginning.
static inline bool aether_ring_covers(aether_ring const* ring, uint64_t intent, uint64_t next) {
  if (intent == next) return true;
  bool const begins = (next & (ring->capacity - 1)) == 0;
  return begins && intent < next && next - intent < ring->capacity / 2;
}

// Where the unwritten claim at `next` ends: at the first word that somebody has written, at the
// first place that somebody meant to claim, at the end of the data, or at the tail.
static inline uint64_t aether_ring_hole(aether_ring_consumer* in, uint64_t tail) {
  aether_ring const* const ring = &in->ring;
  uint64_t const room = ring->capacity - (in->next & (ring->capacity - 1));
  uint64_t end = tail - in->next < room ? tail : in->next + room;
  for (uint32_t slot = 0; slot < ring->slots; ++slot) {
    uint64_t* const word = aether_ring_word(ring, aether_ring_slot_at(slot));
    uint64_t const intent = AETHER_RING_LOAD(hole_intent, word, ACQUIRE);
    if (intent > in->next && intent < end && intent % 8 == 0) end = intent;
  }
  for (uint64_t at = in->next; at < end; at += 8) {
    if (AETHER_RING_LOAD(hole, aether_ring_lead(ring, at), ACQUIRE) != 0) return at;
  }
  return end;
}

// How many bytes the dead claim at `next` takes; 0 if what it says is nonsense.
static inline uint64_t aether_ring_dead_extent(aether_ring_consumer* in, uint64_t lead,
                                               uint64_t tail) {
  aether_ring const* const ring = &in->ring;
  if (lead == 0) return aether_ring_hole(in, tail) - in->next;
  uint32_t const length = (uint32_t)lead & ~AETHER_RING_WRITING;
  uint64_t const extent = aether_ring_extent(length);
  uint64_t const room = ring->capacity - (in->next & (ring->capacity - 1));
  bool const sound = length >= AETHER_RING_RECORD && length <= aether_ring_record_max(ring) &&
                     extent <= room && extent <= tail - in->next;
  return sound ? extent : 0;
}

// Many producers: looks at the claim that keeps the reader waiting. If the processes that can have
// made it are all dead it becomes padding (OK); if one of them lives, EMPTY; if nobody can have
// made it, the ring is poisoned.
static inline int aether_ring_unblock(aether_ring_consumer* in) {
  aether_ring const* const ring = &in->ring;
  uint64_t* const word = aether_ring_lead(ring, in->next);
  uint64_t const tail =
      AETHER_RING_LOAD(unblock_tail, aether_ring_word(ring, AETHER_RING_AT_TAIL), ACQUIRE);
  if (tail == in->next) return AETHER_RING_EMPTY;
  if (tail % 8 != 0 || tail - in->head > ring->capacity || tail < in->next)
    return aether_ring_poison_reading(in, AETHER_RING_BAD_TAIL);
  bool owned = false, alive = false;
  for (uint32_t slot = 0; slot < ring->slots; ++slot) {
    uint64_t const at = aether_ring_slot_at(slot);
    uint64_t const intent = AETHER_RING_LOAD(unblock_intent, aether_ring_word(ring, at), ACQUIRE);
    if (!aether_ring_covers(ring, intent, in->next)) continue;
    owned = true;
    bool const dead = (in->dead >> slot & 1) != 0 || aether_ring_gone(ring, at + 16);
    alive = alive || !dead;
  }
  uint64_t const lead = AETHER_RING_LOAD(unblock_again, word, ACQUIRE);
  if (aether_ring_committed(lead)) return AETHER_RING_OK;  // Its producer was only slow.
  if (!owned) return aether_ring_poison_reading(in, AETHER_RING_BAD_CLAIM);
  if (alive) return AETHER_RING_EMPTY;
  uint64_t const extent = aether_ring_dead_extent(in, lead, tail);
  if (extent == 0) return aether_ring_poison_reading(in, AETHER_RING_BAD_LENGTH);
  AETHER_RING_STORE(unblock, word, aether_ring_padding(extent), RELEASE);
  bool const at_end = ((in->next + extent) & (ring->capacity - 1)) == 0;
  for (uint32_t slot = 0; slot < ring->slots && !at_end; ++slot) {  // Its slot may be taken again.
    uint64_t* const intent = aether_ring_word(ring, aether_ring_slot_at(slot));
    uint64_t const claimed = AETHER_RING_LOAD(unblock_intent, intent, RELAXED);
    if (aether_ring_covers(ring, claimed, in->next))
      AETHER_RING_STORE(unblock, intent, AETHER_RING_NO_INTENT, RELAXED);
  }
  ++in->unblocked;
  return AETHER_RING_OK;
}

// One producer: its tail moves after its record shows. A tail beyond a record that does not show,
// at two looks far apart, is not the protocol's doing.
static inline int aether_ring_check_stall(aether_ring_consumer* in) {
  uint64_t* const word = aether_ring_word(&in->ring, AETHER_RING_AT_TAIL);
  uint64_t const tail = AETHER_RING_LOAD(stall, word, ACQUIRE);
  uint64_t const before = in->stalled_tail;
  in->stalled_tail = 0;
  if (tail <= in->next || aether_ring_ready(in)) return AETHER_RING_EMPTY;
  if (tail == before) return aether_ring_poison_reading(in, AETHER_RING_BAD_CLAIM);
  in->stalled_tail = tail;
  return AETHER_RING_EMPTY;
}

// CLOSED or PEER_GONE if there were producers and none is left; else EMPTY. Without `processes` it
// believes that who has not closed lives, and asks nothing of the kernel.
static inline int aether_ring_check_life(aether_ring_consumer* in, bool processes) {
  int status = AETHER_RING_EMPTY;
  for (uint32_t slot = 0; slot < in->ring.slots; ++slot) {
    uint64_t const at = aether_ring_slot_at(slot) + 16;
    uint32_t const state = aether_ring_state(&in->ring, at);
    bool dead = state == 1 && (in->dead >> slot & 1) != 0;
    if (processes && state == 1 && !dead) dead = aether_ring_gone(&in->ring, at);
    if (state == 3 || (state == 1 && !dead)) return AETHER_RING_EMPTY;
    if (state == 2 && status == AETHER_RING_EMPTY) status = AETHER_RING_CLOSED;
    if (dead) status = AETHER_RING_PEER_GONE;
  }
  return status;
}

// What a reader that finds nothing looks at now and then: is a claim stuck, is anybody left? OK
// means that there is something to read after all.
static inline int aether_ring_look_around(aether_ring_consumer* in) {
  if (in->reason != AETHER_RING_SOUND) return AETHER_RING_POISONED;
  int const left = aether_ring_check_life(in, true);
  int const stuck =
      in->ring.kind == AETHER_RING_MANY ? aether_ring_unblock(in) : aether_ring_check_stall(in);
  if (stuck != AETHER_RING_EMPTY) return stuck;
  if (aether_ring_ready(in)) return AETHER_RING_OK;
  if (aether_ring_was_poisoned(&in->ring))
    return aether_ring_poison_reading(in, AETHER_RING_PEER_SAID);
  return left;
}

// Says that this consumer wants to be woken, then looks once more: OK means that there is something
// to read already, EMPTY that a wake-up will come (`how`: the futex, or the doorbell).
static inline int aether_ring_ask(aether_ring_consumer* in, uint32_t how) {
  uint32_t* const word = aether_ring_half(&in->ring, AETHER_RING_AT_CONSUMER_WAITS);
  AETHER_RING_STORE(ask, word, how, RELAXED);
  AETHER_RING_FENCE(ask);
  uint64_t* const lead = aether_ring_lead(&in->ring, in->next);
  bool const more = in->next - in->head < in->ring.capacity;
  if (!more || !aether_ring_committed(AETHER_RING_LOAD(look_again, lead, ACQUIRE)))
    return AETHER_RING_EMPTY;
  AETHER_RING_STORE(ask, word, 0, RELAXED);
  return AETHER_RING_OK;
}

// Gives room back, then waits for something to read: looks `spins` times, then sleeps; at most
// `nanoseconds`. OK, TIMEOUT, CLOSED, PEER_GONE, POISONED.
static inline int aether_ring_wait(aether_ring_consumer* in, uint64_t nanoseconds, uint32_t spins) {
  uint32_t* const word = aether_ring_half(&in->ring, AETHER_RING_AT_CONSUMER_WAITS);
  if (in->reason != AETHER_RING_SOUND) return AETHER_RING_POISONED;
  aether_ring_release(in);
  for (uint32_t spin = 0; spin <= spins; ++spin) {
    if (aether_ring_ready(in)) return AETHER_RING_OK;
    aether_ring_relax();
  }
  uint64_t const begin = AETHER_RING_NOW();
  for (;;) {
    int const left = aether_ring_check_life(in, false);
    int status = aether_ring_ask(in, AETHER_RING_ON_FUTEX);
    if (status != AETHER_RING_EMPTY) return status;
    uint64_t const spent = AETHER_RING_NOW() - begin;
    if (spent >= nanoseconds || left != AETHER_RING_EMPTY) {
      status = aether_ring_look_around(in);
      return status != AETHER_RING_EMPTY ? status : AETHER_RING_TIMEOUT;
    }
    uint64_t const rest = nanoseconds - spent;
    AETHER_RING_FUTEX_WAIT(word, AETHER_RING_ON_FUTEX,
                           rest < AETHER_RING_LIFE_CHECK_NS ? rest : AETHER_RING_LIFE_CHECK_NS);
    if (aether_ring_ready(in)) break;
    if (AETHER_RING_NOW() - begin - spent < AETHER_RING_LIFE_CHECK_NS) continue;  // Woken, or over.
    status = aether_ring_look_around(in);
    if (status != AETHER_RING_EMPTY) return status;
  }
  AETHER_RING_STORE(ask, word, 0, RELAXED);
  return AETHER_RING_OK;
}

#ifdef __cplusplus
}  // extern "C"
#endif
