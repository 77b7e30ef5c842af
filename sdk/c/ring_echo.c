// SPDX-License-Identifier: Apache-2.0
// ring-echo FD: what comes through the first ring of the memfd FD goes back through the second. An
// example of a peer in C11, and one of the peers that the rings are tested with.
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "aether_ring.h"

#define SECOND UINT64_C(1000000000)

static int fail(char const* what, int status) {
  fprintf(stderr, "ring-echo: %s: status %d\n", what, status);
  return 1;
}

// Passes one message on; OK also when there was none.
static int pass_on(aether_ring_consumer* in, aether_ring_producer* out, void* buffer,
                   uint64_t room) {
  aether_ring_message message;
  int status = aether_ring_read(in, &message, buffer, room);
  if (status == AETHER_RING_EMPTY) return aether_ring_wait(in, 60 * SECOND, 100);
  if (status != AETHER_RING_OK) return status;
  status = aether_ring_wait_room(out, message.size, 60 * SECOND);
  if (status != AETHER_RING_OK) return status;
  return aether_ring_send(out, message.type, message.flags, message.payload, message.size);
}

int main(int count, char** words) {
  struct stat about;
  aether_ring asked, answers;
  aether_ring_consumer in;
  aether_ring_producer out;
  int const fd = count == 2 ? atoi(words[1]) : -1;
  if (fd < 0 || fstat(fd, &about) != 0) return fail("no descriptor", fd);
  uint64_t const size = (uint64_t)about.st_size;
  void* const memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return fail("mmap", errno);
  int status = aether_ring_open(&asked, memory, size);
  if (status != AETHER_RING_OK) return fail("the first ring", status);
  status = aether_ring_open(&answers, (char*)memory + asked.total, size - asked.total);
  if (status != AETHER_RING_OK) return fail("the second ring", status);
  status = aether_ring_attach_consumer(&in, &asked);
  if (status == AETHER_RING_OK) status = aether_ring_attach_producer(&out, &answers);
  if (status != AETHER_RING_OK) return fail("attaching", status);
  uint64_t const room = aether_ring_payload_max(&asked);
  void* const buffer = malloc(room);
  while (buffer != NULL && status == AETHER_RING_OK) status = pass_on(&in, &out, buffer, room);
  free(buffer);
  aether_ring_close_consumer(&in);
  aether_ring_close_producer(&out);
  return status == AETHER_RING_CLOSED ? 0 : fail("passing on", status);
}
