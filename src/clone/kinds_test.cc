// SPDX-License-Identifier: Apache-2.0
// Programs that have everything open that can be copied, or wait in every way: what their copies
// have of it, and that it is their own.
#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <ranges>
#include <span>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "clone/frozen_process.h"
#include "clone/template.h"
#include "clone/testing.h"

namespace aether::clone {
namespace {

using os::testing::python;
using tests::ask;
using tests::Copy;
using tests::expect_a_copy_looks_like_its_original;
using tests::freeze;
using tests::make_copy;
using tests::Server;

/// Where a copy listens in the place of the server's own port.
std::uint16_t port_of(Copy const& copy, Server const& server) {
  auto const found =
      std::ranges::find(copy.listeners(), server.port, &CopiedListener::original_port);
  return found == copy.listeners().end() ? std::uint16_t{0} : found->port;
}

/// A server whose answer to GET /name is what the function `name` gives; to GET / "up".
std::string serving(std::string const& before) {
  return R"(
import ctypes, fcntl, http.server, os, select, signal, socket, struct, sys, termios, threading, time
libc = ctypes.CDLL(None, use_errno=True)
)" + before +
         R"(
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(globals()[self.path[1:]]() if self.path != '/' else 'up').encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
)";
}

// The numbers of EPOLLEXCLUSIVE and of the flags of timerfd_create() and signalfd() are those of
// their headers; Python has no names for them.
char const* const kEveryKind = R"(
ET, ONESHOT, EXCLUSIVE = select.EPOLLET, select.EPOLLONESHOT, 1 << 28
CLOEXEC, NONBLOCK = 0o2000000, 0o4000
counter = os.eventfd(5)
semaphore = os.eventfd(3, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
spent = os.eventfd(1)
out, into = os.pipe2(os.O_NONBLOCK)
os.write(into, b'ab')
here, there = socket.socketpair()
timer = libc.timerfd_create(1, CLOEXEC)
class Times(ctypes.Structure):
    _fields_ = [(n, ctypes.c_long) for n in ('every_s', 'every_ns', 'first_s', 'first_ns')]
libc.timerfd_settime(timer, 0, ctypes.byref(Times(0, 50_000_000, 0, 50_000_000)), None)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
usr1 = ctypes.c_uint64(1 << (signal.SIGUSR1 - 1))
signals = libc.signalfd(-1, ctypes.byref(usr1), CLOEXEC | NONBLOCK)
inner, outer = select.epoll(), select.epoll()
inner.register(out, select.EPOLLIN | ET)
inner.register(signals, select.EPOLLIN)
inner.register(there, select.EPOLLIN | EXCLUSIVE)
inner.register(spent, select.EPOLLIN | ONESHOT)
outer.register(inner.fileno(), select.EPOLLIN)
again = os.dup(outer.fileno())
assert {out, spent} <= {number for number, _ in inner.poll(1)}

def count():
    os.eventfd_write(counter, 1)
    info = open(f'/proc/self/fdinfo/{counter}').read()
    return info.split('eventfd-count:')[1].split()[0]
def take():
    try: return os.eventfd_read(semaphore)
    except BlockingIOError: return 0
def fill():
    os.write(into, b'c')
    return struct.unpack('i', fcntl.ioctl(out, termios.FIONREAD, b'....'))[0]
def tick():
    return bool(select.select([timer], [], [], 30)[0]) and len(os.read(timer, 8))
def sign():
    os.kill(os.getpid(), signal.SIGUSR1)
    assert [number for number, _ in outer.poll(30)] == [inner.fileno()]
    told = {number for number, _ in inner.poll(30)}
    assert spent not in told, 'it has been told once already'
    return signals in told and struct.unpack('I', os.read(signals, 128)[:4])[0]
def talk():
    here.send(b'x')
    return len(there.recv(1)) + struct.unpack('i', fcntl.ioctl(there, termios.FIONREAD, b'....'))[0]
)";

TEST(Kinds, OfDescriptorsAreAllTheSameInACopy) {
  Server server(python(serving(kEveryKind)));
  ASSERT_EQ(ask(server.port, "/tick"), "8") << "or the test's own program is wrong";
  expect_a_copy_looks_like_its_original(server);
}

TEST(Kinds, OfDescriptorsAreEachCopysOwn) {
  Server server(python(serving(kEveryKind)));
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  CopyWishes const wishes{.files = {.listeners = TcpListeners::Own}};
  auto const one = make_copy(*frozen, wishes);
  auto const other = make_copy(*frozen, wishes);
  ASSERT_TRUE(one && other);
  for (auto const* copy : {&*one, &*other}) {
    auto const asked = [&](char const* what) { return ask(port_of(*copy, server), what); };
    EXPECT_EQ(asked("/count"), "6");
    EXPECT_EQ(asked("/count"), "7");
    EXPECT_EQ(asked("/take") + asked("/take") + asked("/take") + asked("/take"), "1110");
    EXPECT_EQ(asked("/fill"), "3");
    EXPECT_EQ(asked("/fill"), "4");
    EXPECT_EQ(asked("/tick"), "8");
    EXPECT_EQ(asked("/tick"), "8");
    EXPECT_EQ(asked("/sign"), "10") << "SIGUSR1, heard by its own epoll";
    EXPECT_EQ(asked("/talk"), "1");
  }
}

// ---- Waits ----------------------------------------------------------------------------------

// Each thread waits in another system call; /wake ends all the waits and tells how each ended.
char const* const kEveryWait = R"(
import queue
ended = {}
def waits(name):
    def begin(body):
        def run():
            try: ended[name] = body()
            except BaseException as error: ended[name] = repr(error)
        threads.append(threading.Thread(target=run, daemon=True))
    return begin
threads, woken = [], threading.Event()
lock, timed, line, late = threading.Lock(), threading.Lock(), queue.Queue(), threading.Condition()
lock.acquire(), timed.acquire()
ends = {name: os.pipe() for name in ('read', 'select', 'poll', 'epoll', 'epoll_timed', 'write')}
fcntl.fcntl(ends['write'][1], fcntl.F_SETPIPE_SZ, 4096)
os.write(ends['write'][1], b'x' * 4096)
listener = socket.create_server(('127.0.0.1', 0))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGALRM})
def epoll_of(name):
    made = select.epoll()
    made.register(ends[name][0])
    return made
made = {name: epoll_of(name) for name in ('epoll', 'epoll_timed')}

@waits('futex')
def _(): return lock.acquire()
@waits('futex with a limit')
def _(): return timed.acquire(timeout=3600)
@waits('queue')
def _(): return line.get()
@waits('sleep')
def _():
    while not woken.is_set(): time.sleep(0.25)
    return True
@waits('read')
def _(): return os.read(ends['read'][0], 1) == b'x'
@waits('write')
def _(): return os.write(ends['write'][1], b'y') == 1
@waits('select')
def _(): return len(select.select([ends['select'][0]], [], [], 3600)[0]) == 1
@waits('poll')
def _():
    poll = select.poll()
    poll.register(ends['poll'][0])
    return len(poll.poll()) == 1
@waits('epoll')
def _(): return len(made['epoll'].poll()) == 1
@waits('epoll with a limit')
def _(): return len(made['epoll_timed'].poll(3600)) == 1
@waits('accept')
def _(): return listener.accept()[0].recv(1) == b'x'
@waits('sigwait')
def _(): return signal.sigwait({signal.SIGUSR2}) == signal.SIGUSR2
@waits('sigtimedwait')
def _(): return signal.sigtimedwait({signal.SIGALRM}, 3600).si_signo == signal.SIGALRM
@waits('waitid of nobody')
def _():
    try: os.waitid(os.P_ALL, 0, os.WEXITED)
    except ChildProcessError: return True

for thread in threads: thread.start()

def wake():
    for name in ('read', 'select', 'poll', 'epoll', 'epoll_timed'): os.write(ends[name][1], b'x')
    os.read(ends['write'][0], 4096)
    lock.release(), timed.release(), line.put(True), woken.set()
    for number in (signal.SIGUSR2, signal.SIGALRM): os.kill(os.getpid(), number)
    client = socket.create_connection(listener.getsockname())
    client.send(b'x')
    for thread in threads: thread.join(20)
    wrong = {name: how for name, how in ended.items() if how is not True}
    return wrong or f'{len(ended)} of {len(threads)}'
)";

TEST(Kinds, OfWaitsGoOnInACopyUntilTheyAreOver) {
  Server server(python(serving(kEveryWait)));
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  EXPECT_GE(frozen->threads(), 13U);
  CopyWishes const wishes{.files = {.listeners = TcpListeners::Own}};
  {
    auto const one = make_copy(*frozen, wishes);
    auto const other = make_copy(*frozen, wishes);
    ASSERT_TRUE(one && other);
    EXPECT_EQ(ask(port_of(*other, server), "/wake"), "14 of 14");
    EXPECT_EQ(ask(port_of(*one, server), "/wake"), "14 of 14");
  }
  ASSERT_TRUE(frozen->thaw());
  EXPECT_EQ(ask(server.port, "/wake"), "14 of 14") << "so do those of the original";
}

TEST(Kinds, OfThreadsThatEndWhileTheirProgramIsFrozenAreNoFault) {
  os::testing::Program program(python(R"(
import threading, time
def work():
    while True:
        each = [threading.Thread(target=time.sleep, args=(n / 10_000,)) for n in range(4)]
        for thread in each: thread.start()
        for thread in each: thread.join()
threading.Thread(target=work, daemon=True).start()
print('ready', flush=True)
input()
)"));
  ASSERT_EQ(program.read_line(), "ready");
  int frozen = 0;
  for (int i = 0; i < 300; ++i) {
    auto held = FrozenProcess::freeze(program.pid());
    if (held) {
      ++frozen;
      ASSERT_TRUE(held->thaw());
      continue;
    }
    auto const code = held.error().code();
    EXPECT_TRUE(code == ErrorCode::NotReady || code == ErrorCode::Unsupported)
        << held.error().describe();
  }
  EXPECT_GT(frozen, 0);
}

// ---- What only the kernel knows of a thread ---------------------------------------------------

// Three threads that wait for ever, each with a signal stack and a signal mask of its own.
char const* const kThreads = R"(
class Stack(ctypes.Structure):
    _fields_ = [('at', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]
kept, shut = [], threading.Lock()
shut.acquire()
def run(number):
    memory = ctypes.create_string_buffer(16384 * (number + 1))
    kept.append(memory)
    libc.sigaltstack(ctypes.byref(Stack(ctypes.addressof(memory), 0, len(memory))), None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {34 + number})
    ready.release()
    shut.acquire()
ready = threading.Semaphore(0)
for number in range(3):
    threading.Thread(target=run, args=(number,), daemon=True, name=f't{number}').start()
    ready.acquire()
)";

/// Where the values of the SSE registers lie in an XSAVE area (Intel SDM, volume 1, 13.4.1).
constexpr std::size_t kSseAt = 160;
constexpr std::size_t kSseBytes = 256;

/// All that a thread has beside its memory, but for what changes while it waits.
std::string told(ThreadImage const& image) {
  auto const r = continuing(image.registers);
  auto const& stack = image.signal_stack;
  return fmt::format(
      "rip {:x} rsp {:x} rbp {:x} rbx {:x} r12 {:x} r13 {:x} r14 {:x} r15 {:x} gs {:x} mask {:x} "
      "rseq {:x}+{} {:x} robust {:x}+{} tid at {:x} signal stack {:x}+{} {:x} name {}",
      r.rip, r.rsp, r.rbp, r.rbx, r.r12, r.r13, r.r14, r.r15, r.gs_base, image.signal_mask,
      image.rseq.address, image.rseq.size, image.rseq.signature, image.robust_list,
      image.robust_list_size, image.tid_address, reinterpret_cast<std::uintptr_t>(stack.ss_sp),
      stack.ss_size, stack.ss_flags, image.name);
}

/// By the address of its thread-local storage, which a copy has too.
using Images = std::map<std::uint64_t, ThreadImage>;

/// Of those that wait for ever; the main one looks about it twice a second.
Images waiting_in(FrozenProcess const& frozen) {
  Images images;
  for (auto const& image : frozen.threads() | std::views::drop(1)) {
    images.emplace(image.registers.fs_base, image);
  }
  return images;
}

std::span<std::byte const> sse_of(ThreadImage const& image) {
  return std::span(image.extended_state).subspan(kSseAt, kSseBytes);
}

/// Once it is at rest.
Images waiting_in(pid_t pid) {
  Images images;
  os::testing::wait_until([&] {
    auto frozen = FrozenProcess::freeze(pid);
    if (!frozen) return false;
    images = waiting_in(*frozen);
    return frozen->thaw().has_value();
  });
  return images;
}

TEST(Kinds, OfStateThatOnlyTheKernelKnowsAreTheSameInACopysThreads) {
  Server server(python(serving(kThreads)));
  auto const original = waiting_in(server.program.pid());
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  auto const copy = make_copy(*frozen);
  ASSERT_TRUE(copy);
  auto const copied = waiting_in(copy->pid());
  ASSERT_EQ(original.size(), 3U);
  ASSERT_EQ(copied.size(), original.size());
  std::size_t with_values = 0;
  for (auto const& [tls, image] : original) {
    ASSERT_TRUE(copied.contains(tls));
    auto const& other = copied.at(tls);
    EXPECT_EQ(told(other), told(image));
    EXPECT_TRUE(std::ranges::equal(sse_of(other), sse_of(image))) << image.name;
    auto const is_set = [](std::byte byte) { return byte != std::byte{0}; };
    with_values += std::ranges::any_of(sse_of(image), is_set);
    EXPECT_NE(image.rseq.address, 0U);
    EXPECT_NE(image.robust_list, 0U);
  }
  EXPECT_GT(with_values, 0U) << "or nothing was compared";
}

}  // namespace
}  // namespace aether::clone
