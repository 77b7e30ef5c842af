// SPDX-License-Identifier: Apache-2.0
// A handler with `ipc: ring` in C11 or C++, one request at a time: docs/functions-ring.md.
//
//   aether_handler handler;
//   aether_request request;
//   if (aether_handler_open(&handler) != 0) return 1;          // attaches, and says READY
//   while (aether_handler_next(&handler, &request) == 1)       // 0: Aether is gone
//     aether_handler_answer(&handler, &request, 200, "text/plain", "hello", 5);
//
// Bodies are read by aether_handler_read() and, piece by piece, written by aether_handler_begin(),
// _write() and _end(). Whatever returns -1 says that nobody waits for this request any more.
#pragma once
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/un.h>

#include "aether_ring.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  AETHER_HANDLER_WINDOW = 65536,
  AETHER_HANDLER_HEAD = 8,  // bytes of a message before its content
  AETHER_HANDLER_MESSAGE_MAX = 32768,
  AETHER_HELLO = 1,
  AETHER_REQUEST = 2,
  AETHER_ANSWER = 3,
  AETHER_BODY = 4,
  AETHER_WINDOW = 5,
  AETHER_CANCEL = 6,
  AETHER_FAILURE = 7,
  AETHER_END = 1,  // flag of a message
  AETHER_MORE = 2,
};

// A record that came, and is not used yet.
typedef struct aether_record {
  struct aether_record* next;
  uint32_t call;
  unsigned char kind;
  unsigned char flags;
  size_t size;
  size_t used;
  char content[1];
} aether_record;

typedef struct aether_request {
  uint32_t call;
  char* head;          // the HTTP/1.1 head, ended by an empty line and a 0; until the next request
  char const* method;  // in `head`, ended by a 0
  char const* target;
  int ended;        // no more of the body comes
  int gone;         // nobody waits
  uint32_t credit;  // of the answer's body, what may be written now
  uint32_t owed;    // of the request's, what was read and is not granted again
} aether_request;

typedef struct aether_handler {
  int memory, wake, bell, socket;
  void* mapped;  // NULL between the snapshot and the first request of a copy
  size_t size;
  ino_t inode;
  aether_ring_producer out;
  aether_ring_consumer in;
  aether_record* first;
  aether_record** last;
  char* head;
  char line[256];
  size_t line_size;
  char message[AETHER_HANDLER_MESSAGE_MAX];
} aether_handler;

static inline void aether_handler_put(unsigned char* at, uint32_t value) {
  memcpy(at, &value, 4);
}

static inline int aether_handler_heard(aether_handler* it);

// Writes a message; waits for room. 0, or -1: Aether is gone.
static inline int aether_handler_say(aether_handler* it, uint32_t call, int kind, int flags,
                                     void const* content, size_t size) {
  void* payload;
  for (;;) {
    int const status = aether_ring_claim(&it->out, 0, AETHER_RING_FIRST | AETHER_RING_LAST,
                                         AETHER_HANDLER_HEAD + size, &payload);
    if (status == AETHER_RING_OK) break;
    if (status != AETHER_RING_FULL) return -1;
    if (aether_ring_ask_for_room(&it->out, AETHER_HANDLER_HEAD + size, AETHER_RING_ON_DOORBELL) ==
            AETHER_RING_FULL &&
        aether_handler_heard(it) != 0)
      return -1;
  }
  unsigned char* const at = (unsigned char*)payload;
  aether_handler_put(at, call);
  at[4] = (unsigned char)kind;
  at[5] = (unsigned char)flags;
  at[6] = at[7] = 0;
  if (size != 0) memcpy(at + AETHER_HANDLER_HEAD, content, size);
  aether_ring_commit(&it->out, AETHER_HANDLER_HEAD + size);
  aether_ring_flush(&it->out);
  return 0;
}

static inline int aether_handler_attach(aether_handler* it) {
  struct stat file;
  aether_ring requests, answers;
  unsigned char hello[] = {1, 0, 0, 0, 'c'};
  if (fstat(it->memory, &file) != 0) return -1;
  it->size = (size_t)file.st_size;
  it->inode = file.st_ino;
  it->mapped = mmap(NULL, it->size, PROT_READ | PROT_WRITE, MAP_SHARED, it->memory, 0);
  if (it->mapped == MAP_FAILED) return -1;
  if (aether_ring_open(&requests, it->mapped, it->size) != 0) return -1;
  if (aether_ring_open(&answers, (char*)it->mapped + requests.total, it->size - requests.total))
    return -1;
  if (aether_ring_attach_consumer(&it->in, &requests) != 0) return -1;
  if (aether_ring_attach_producer(&it->out, &answers) != 0) return -1;
  it->in.doorbell = it->out.doorbell = it->bell;
  return aether_handler_say(it, 0, AETHER_HELLO, 0, hello, sizeof hello);
}

static inline void aether_handler_detach(aether_handler* it) {
  if (it->mapped == NULL) return;
  aether_ring_close_producer(&it->out);
  aether_ring_close_consumer(&it->in);
  munmap(it->mapped, it->size);
  it->mapped = NULL;
}

// SNAPSHOT: copies are about to be made. They have rings of their own; this memory is nothing to
// copy. RESTORED: this is a copy.
static inline void aether_handler_hear_line(aether_handler* it) {
  ssize_t const got =
      recv(it->socket, it->line + it->line_size, sizeof it->line - 1 - it->line_size, MSG_DONTWAIT);
  if (got <= 0) return;
  it->line_size += (size_t)got;
  it->line[it->line_size] = 0;
  char* const end = strchr(it->line, '\n');
  if (end == NULL && it->line_size + 1 < sizeof it->line) return;
  if (strncmp(it->line, "SNAPSHOT", 8) == 0) aether_handler_detach(it);
  it->line_size = 0;
  (void)send(it->socket, "OK\n", 3, MSG_NOSIGNAL);
}

// Waits until Aether says something. 0, or -1: it is gone.
static inline int aether_handler_heard(aether_handler* it) {
  char rung[256];
  struct stat file;
  struct pollfd fds[2] = {{it->wake, POLLIN, 0}, {it->socket, POLLIN, 0}};
  if (poll(fds, 2, -1) < 0) return errno == EINTR ? 0 : -1;
  if ((fds[1].revents & POLLIN) != 0) aether_handler_hear_line(it);
  if (fds[0].revents == 0) return 0;
  ssize_t const got = read(it->wake, rung, sizeof rung);
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return -1;
  // A copy finds other memory behind the same descriptor.
  if (it->mapped != NULL && fstat(it->memory, &file) == 0 && file.st_ino != it->inode) {
    munmap(it->mapped, it->size);
    it->mapped = NULL;
  }
  return it->mapped == NULL ? aether_handler_attach(it) : 0;
}

// Takes the next record from the ring, waiting for it if wished. 1; 0: none; -1: Aether is gone.
static inline int aether_handler_take(aether_handler* it, int waits) {
  aether_ring_message record;
  int status = AETHER_RING_EMPTY;
  while (it->mapped == NULL ||
         (status = aether_ring_read(&it->in, &record, it->message, sizeof it->message)) ==
             AETHER_RING_EMPTY) {
    if (it->mapped != NULL) aether_ring_release(&it->in);
    if (!waits) return 0;
    if (it->mapped != NULL && aether_ring_ask(&it->in, AETHER_RING_ON_DOORBELL) == AETHER_RING_OK)
      continue;
    if (aether_handler_heard(it) != 0) return -1;
  }
  if (status != AETHER_RING_OK || record.size < AETHER_HANDLER_HEAD) return -1;
  size_t const size = record.size - AETHER_HANDLER_HEAD;
  aether_record* const kept = (aether_record*)malloc(sizeof *kept + size);
  if (kept == NULL) return -1;
  memset(kept, 0, sizeof *kept);
  memcpy(&kept->call, it->message, 4);
  kept->kind = (unsigned char)it->message[4];
  kept->flags = (unsigned char)it->message[5];
  kept->size = size;
  memcpy(kept->content, it->message + AETHER_HANDLER_HEAD, size);
  *it->last = kept;
  it->last = &kept->next;
  return 1;
}

static inline void aether_handler_drop(aether_handler* it, aether_record** at) {
  aether_record* const gone = *at;
  *at = gone->next;
  if (it->last == &gone->next) it->last = at;
  free(gone);
}

// What has been said of this request besides its body.
static inline void aether_handler_settle(aether_handler* it, aether_request* request) {
  for (aether_record** at = &it->first; *at != NULL;) {
    aether_record* const one = *at;
    uint32_t more = 0;
    if (one->call != request->call || one->kind == AETHER_BODY || one->kind == AETHER_REQUEST) {
      at = &one->next;
      continue;
    }
    if (one->kind == AETHER_CANCEL) request->gone = 1;
    if (one->kind == AETHER_WINDOW && one->size >= 4) memcpy(&more, one->content, 4);
    request->credit += more;
    aether_handler_drop(it, at);
  }
}

static inline int aether_handler_open(aether_handler* it) {
  char const* const places = getenv("AETHER_RING");
  char const* const path = getenv("AETHER_SOCKET");
  struct sockaddr_un name;
  memset(it, 0, sizeof *it);
  memset(&name, 0, sizeof name);
  it->last = &it->first;
  if (places == NULL || path == NULL || strlen(path) >= sizeof name.sun_path) return -1;
  if (sscanf(places, "%d,%d,%d", &it->memory, &it->wake, &it->bell) != 3) return -1;
  name.sun_family = AF_UNIX;
  memcpy(name.sun_path, path, strlen(path) + 1);
  it->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (it->socket < 0 || connect(it->socket, (struct sockaddr*)&name, sizeof name) != 0) return -1;
  signal(SIGPIPE, SIG_IGN);
  if (aether_handler_attach(it) != 0) return -1;
  return send(it->socket, "READY\nHOOKS\n", 12, MSG_NOSIGNAL) == 12 ? 0 : -1;
}

// The next request: 1; 0 or -1: there will be none any more.
static inline int aether_handler_next(aether_handler* it, aether_request* request) {
  size_t size = 0;
  free(it->head);
  it->head = NULL;
  memset(request, 0, sizeof *request);
  request->credit = AETHER_HANDLER_WINDOW;
  for (;;) {
    while (it->first == NULL) {
      if (aether_handler_take(it, 1) < 0) return 0;
    }
    aether_record* const one = it->first;
    if (one->kind != AETHER_REQUEST) {  // Of a request that was answered.
      aether_handler_drop(it, &it->first);
      continue;
    }
    char* const grown = (char*)realloc(it->head, size + one->size + 1);
    if (grown == NULL) return -1;
    it->head = grown;
    memcpy(grown + size, one->content, one->size);
    size += one->size;
    grown[size] = 0;
    request->call = one->call;
    request->ended = (one->flags & AETHER_END) != 0;
    if ((one->flags & AETHER_MORE) == 0) break;
    aether_handler_drop(it, &it->first);
  }
  char* const end = strstr(it->head, "\r\n\r\n");
  if (end == NULL) return -1;
  // What follows the head in its last record is the beginning of the body.
  size_t const body = size - (size_t)(end + 4 - it->head);
  it->first->kind = AETHER_BODY;
  it->first->used = it->first->size - body;
  end[4] = 0;
  request->head = it->head;
  request->method = it->head;
  char* const target = strchr(it->head, ' ');
  char* const version = target != NULL ? strchr(target + 1, ' ') : NULL;
  if (version == NULL) return -1;
  *target = *version = 0;
  request->target = target + 1;
  return 1;
}

// The next bytes of the request's body: how many, 0 at its end, -1 if nobody waits.
static inline ssize_t aether_handler_read(aether_handler* it, aether_request* request, void* to,
                                          size_t room) {
  for (;;) {
    aether_handler_settle(it, request);
    if (request->gone) return -1;
    aether_record** at = &it->first;
    while (*at != NULL && ((*at)->call != request->call || (*at)->kind != AETHER_BODY))
      at = &(*at)->next;
    aether_record* const one = *at;
    if (one == NULL) {
      if (request->ended) return 0;
      if (aether_handler_take(it, 1) < 0) return -1;
      continue;
    }
    size_t const left = one->size - one->used;
    size_t const taken = left < room ? left : room;
    memcpy(to, one->content + one->used, taken);
    one->used += taken;
    if (one->used == one->size) {
      if ((one->flags & AETHER_END) != 0) request->ended = 1;
      aether_handler_drop(it, at);
    }
    request->owed += (uint32_t)taken;
    if (!request->ended && request->owed >= AETHER_HANDLER_WINDOW / 2) {
      unsigned char grant[4];
      aether_handler_put(grant, request->owed);
      request->owed = 0;
      if (aether_handler_say(it, request->call, AETHER_WINDOW, 0, grant, 4) != 0) return -1;
    }
    if (taken != 0) return (ssize_t)taken;
  }
}

// The head of the answer: lines that end in CR LF, without the status line and the empty line.
static inline int aether_handler_begin(aether_handler* it, aether_request* request, int status,
                                       char const* headers) {
  char head[8192];
  int const size = snprintf(head, sizeof head, "HTTP/1.1 %d \r\n%s\r\n", status, headers);
  if (size < 0 || (size_t)size >= sizeof head) return -1;
  aether_handler_settle(it, request);
  if (request->gone) return -1;
  return aether_handler_say(it, request->call, AETHER_ANSWER, 0, head, (size_t)size);
}

static inline int aether_handler_write(aether_handler* it, aether_request* request,
                                       void const* data, size_t size) {
  uint64_t const most = aether_ring_payload_max(&it->out.ring) - AETHER_HANDLER_HEAD;
  uint64_t const piece =
      most < AETHER_HANDLER_MESSAGE_MAX / 2 ? most : AETHER_HANDLER_MESSAGE_MAX / 2;
  while (size > 0) {
    while (aether_handler_take(it, 0) == 1) continue;
    aether_handler_settle(it, request);
    while (request->credit == 0 && !request->gone) {
      if (aether_handler_take(it, 1) < 0) return -1;
      aether_handler_settle(it, request);
    }
    if (request->gone) return -1;
    size_t now = size < piece ? size : (size_t)piece;
    if (now > request->credit) now = request->credit;
    if (aether_handler_say(it, request->call, AETHER_BODY, 0, data, now) != 0) return -1;
    request->credit -= (uint32_t)now;
    data = (char const*)data + now;
    size -= now;
  }
  return 0;
}

static inline int aether_handler_end(aether_handler* it, aether_request* request) {
  return aether_handler_say(it, request->call, AETHER_BODY, AETHER_END, NULL, 0);
}

// A whole answer.
static inline int aether_handler_answer(aether_handler* it, aether_request* request, int status,
                                        char const* type, void const* body, size_t size) {
  char headers[512];
  snprintf(headers, sizeof headers, "Content-Type: %.200s\r\nContent-Length: %zu\r\n", type, size);
  if (aether_handler_begin(it, request, status, headers) != 0) return -1;
  if (aether_handler_write(it, request, body, size) != 0) return -1;
  return aether_handler_end(it, request);
}

#ifdef __cplusplus
}  // extern "C"
#endif
