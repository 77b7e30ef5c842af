// SPDX-License-Identifier: Apache-2.0
#include "os/sandbox.h"

#include <linux/filter.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/file.h"
#include "os/sandbox_filter.h"
#include "os/temp_dir.h"
#include "os/testing.h"

namespace aether::os {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Output;
using testing::Program;
using testing::python;
using testing::run;

/// Tries each call of `names` with harmless arguments, and says which ones were refused.
constexpr char const* kTryCalls = R"(
import ctypes, errno, sys
libc = ctypes.CDLL(None, use_errno=True)
for word in sys.argv[1:]:
    name, number = word.split('=')
    ctypes.set_errno(0)
    libc.syscall(int(number), -1, -1, -1, -1, -1, -1)
    if ctypes.get_errno() != errno.EPERM: print(name, ctypes.get_errno())
print('done')
)";

bool has_landlock() {
  return ::syscall(SYS_landlock_create_ruleset, nullptr, 0, 1) > 0;
}

SpawnSpec confined(SpawnSpec spec, SandboxLevel level) {
  spec.sandbox.level = level;
  return spec;
}

std::string status_of(SpawnSpec spec, std::string const& key) {
  spec.argv = {"/bin/grep", "-h", "^" + key + ":", "/proc/self/status"};
  std::string const line = run(std::move(spec)).text;
  std::size_t const tab = line.find('\t');
  return tab == std::string::npos ? line : line.substr(tab + 1, line.find('\n') - tab - 1);
}

TEST(Sandbox, OfNoneLeavesEverythingAsItIs) {
  SpawnSpec const spec = confined(python(""), SandboxLevel::None);
  EXPECT_EQ(status_of(spec, "NoNewPrivs"), "0");
  EXPECT_EQ(status_of(spec, "Seccomp"), status_of(python(""), "Seccomp"));
  EXPECT_THAT(describe_sandbox({}), IsEmpty());
  EXPECT_THAT(seccomp_filter(SandboxLevel::None), IsEmpty());
}

class SandboxLevels : public ::testing::TestWithParam<SandboxLevel> {};

TEST_P(SandboxLevels, RefuseEachCallThatIsNamed) {
  SpawnSpec spec = confined(python(kTryCalls), GetParam());
  for (RefusedCall const& call : refused_calls()) {
    // These two answer even to root with nonsense for arguments, or hang up a terminal.
    if (call.name == "vhangup" || call.name == "reboot") continue;
    spec.argv.push_back(fmt::format("{}={}", call.name, call.number));
  }
  EXPECT_EQ(run(spec).text, "done\n");
}

TEST_P(SandboxLevels, RefuseNewNamespacesAndCallsOfAnotherNumbering) {
  constexpr char const* kScript = R"(
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(*numbers):
    ctypes.set_errno(0)
    result = libc.syscall(*numbers)
    return ctypes.get_errno() if result < 0 else 'made'
machine = os.uname().machine
clone = 56 if machine == 'x86_64' else 220
print(call(clone, 0x10000000 | 17, 0, 0, 0, 0), call(435, 0, 0))
print(call(0x40000000 | 39) if machine == 'x86_64' else 1)
)";
  EXPECT_EQ(run(confined(python(kScript), GetParam())).text, "1 38\n1\n");
}

TEST_P(SandboxLevels, AreKeptByAllThatIsStartedFromThem) {
  constexpr char const* kScript = R"(
import subprocess
print(subprocess.run(['python3', '-c', '''
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(0, 0, 0, 0), ctypes.get_errno())
'''], capture_output=True, text=True).stdout, end='')
)";
  EXPECT_EQ(run(confined(python(kScript), GetParam())).text, "-1 1\n");
}

TEST_P(SandboxLevels, LeaveNoDangerousCapability) {
  // prctl(PR_CAPBSET_READ): /proc/self/status may be hidden.
  constexpr char const* kScript = R"(
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
header = struct.pack('II', 0x20080522, 0)
data = ctypes.create_string_buffer(24)
libc.capget(header, data)
numbers = struct.unpack('6I', data.raw)
dangerous = [21, 19, 16, 17, 12, 22, 39, 38]  # sys_admin sys_ptrace module rawio net_admin boot bpf
held = [c for c in dangerous if any(numbers[3 * (c // 32) + k] >> c % 32 & 1 for k in range(3))]
print(held, numbers[0] if STRICT else '')
)";
  bool const strict = GetParam() == SandboxLevel::Strict;
  std::string const head = strict ? "STRICT = True\n" : "STRICT = False\n";
  EXPECT_EQ(run(confined(python(head + kScript), GetParam())).text, strict ? "[] 0\n" : "[] \n");
}

TEST_P(SandboxLevels, LeaveWhatAServerNeeds) {
  constexpr char const* kScript = R"(
import asyncio, concurrent.futures, os, random, socket, subprocess, ssl, tempfile, threading
listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen()
client = socket.create_connection(listener.getsockname())
with concurrent.futures.ThreadPoolExecutor(4) as pool: print(sum(pool.map(abs, range(-5, 0))))
async def main(): await asyncio.sleep(0); return await asyncio.to_thread(os.getpid)
print(asyncio.run(main()) == os.getpid())
print(subprocess.run(['true']).returncode, len(os.urandom(8)), os.path.exists('/etc/passwd'))
with open('/dev/null', 'w') as null: null.write('x')
with tempfile.TemporaryFile() as file: file.write(b'kept'); file.seek(0); print(file.read())
)";
  TempDir const folder = TempDir::create("sandbox").value();
  SpawnSpec spec = confined(python(kScript), GetParam());
  spec.environment.push_back("TMPDIR=" + folder.path());
  spec.sandbox.read_write = {folder.path()};
  EXPECT_EQ(run(spec).text, "15\nTrue\n0 8 True\nb'kept'\n");
}

TEST_P(SandboxLevels, AreTakenOnAsAnotherUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  SpawnSpec spec = confined(python("import os; print(os.getuid(), os.getgid())"), GetParam());
  spec.user = Credentials{.uid = testing::kOrdinaryUser, .gid = testing::kOrdinaryUser};
  EXPECT_EQ(run(spec).text, "1000 1000\n");
}

TEST_P(SandboxLevels, NeedNoRights) {
  EXPECT_TRUE(testing::as_ordinary_user([level = GetParam()] {
    EXPECT_EQ(run(confined(python("print('ran')"), level)).text, "ran\n");
  }));
}

TEST(SandboxBasic, ShowsInTheKernelsOwnFacts) {
  EXPECT_EQ(status_of(confined(python(""), SandboxLevel::Basic), "NoNewPrivs"), "1");
  EXPECT_EQ(status_of(confined(python(""), SandboxLevel::Basic), "Seccomp"), "2");
}

TEST(SandboxBasic, LeavesNoDescriptorBehind) {
  SpawnSpec const spec =
      confined(python("import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"),
               SandboxLevel::Basic);
  EXPECT_EQ(run(spec).text, "[0, 1, 2, 3]\n");  // 3 is the folder's own
}

INSTANTIATE_TEST_SUITE_P(All, SandboxLevels,
                         ::testing::Values(SandboxLevel::Basic, SandboxLevel::Strict),
                         [](auto const& info) { return std::string(sandbox_name(info.param)); });

// ---- files

/// What a confined Python may do with a path: r, w, l(ist), x.
std::string rights(SpawnSpec spec, std::string const& path) {
  constexpr char const* kScript = R"(
import os, subprocess, sys
path, found = sys.argv[1], ''
try: os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(1); found += 'r'
except OSError: pass
try:
    name = os.path.join(path, 'made') if os.path.isdir(path) else path
    with open(name, 'ab') as file: found += 'w'
except OSError: pass
try:
    subprocess.run([os.path.join(path, 'tool')], check=True); found += 'x'
except (OSError, subprocess.CalledProcessError): pass
print(found)
)";
  SpawnSpec tried = python(kScript);
  tried.argv.push_back(path);
  tried.sandbox = std::move(spec.sandbox);
  tried.workdir = std::move(spec.workdir);
  std::string const text = run(std::move(tried)).text;
  return text.substr(0, text.find('\n'));
}

TEST(SandboxStrict, ReadsItsOwnFilesAndWritesOnlyWhereItIsTold) {
  if (!has_landlock()) GTEST_SKIP() << "this kernel has no landlock";
  TempDir const own = TempDir::create("own").value();
  TempDir const work = TempDir::create("work").value();
  TempDir const scratch = TempDir::create("scratch").value();
  TempDir const secret = TempDir::create("secret").value();
  for (TempDir const* folder : {&own, &work, &scratch, &secret})
    ASSERT_TRUE(testing::write_script(folder->file("tool"), "#!/bin/sh\nexit 0\n"));
  SpawnSpec spec;
  spec.workdir = work.path();
  spec.sandbox = {
      .level = SandboxLevel::Strict, .read_only = {own.path()}, .read_write = {scratch.path()}};
  EXPECT_EQ(rights(spec, own.path()), "rx");
  EXPECT_EQ(rights(spec, work.path()), "rx");
  EXPECT_EQ(rights(spec, scratch.path()), "rw");
  EXPECT_EQ(rights(spec, secret.path()), "");
  EXPECT_EQ(rights(spec, secret.file("tool")), "");
  EXPECT_EQ(rights(spec, "/usr/lib"), "r");
  EXPECT_EQ(rights(spec, "/proc/cpuinfo"), "r");
  EXPECT_EQ(rights(spec, "/proc/1/status"), "");
  EXPECT_EQ(rights(spec, "/dev/null"), "rw");
  EXPECT_EQ(rights(spec, "/tmp"), "");
}

TEST(SandboxStrict, RunsAProgramFromAFolderOfItsOwn) {
  if (!has_landlock()) GTEST_SKIP() << "this kernel has no landlock";
  TempDir const folder = TempDir::create("program").value();
  ASSERT_TRUE(testing::write_script(folder.file("hello"), "#!/bin/sh\necho \"$(cat $0.txt)\"\n"));
  ASSERT_TRUE(write_file_atomically(folder.file("hello.txt"), "hello", 0644));
  SpawnSpec spec{.argv = {folder.file("hello")}};
  EXPECT_EQ(run(confined(spec, SandboxLevel::Strict)).text, "hello\n");
}

TEST(SandboxStrict, HasOrdinarySocketsOnlyAndSignalsNobodyElse) {
  if (!has_landlock()) GTEST_SKIP() << "this kernel has no landlock";
  constexpr char const* kScript = R"(
import errno, os, socket, sys
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 38, 40):  # 38 is ALG, 40 VSOCK
    try: socket.socket(family, socket.SOCK_STREAM).close(); print('made', end=' ')
    except OSError as why: print(errno.errorcode[why.errno], end=' ')
try: os.kill(int(sys.argv[1]), 0); print('signalled')
except PermissionError: print('refused')
)";
  SpawnSpec spec = confined(python(kScript), SandboxLevel::Strict);
  spec.argv.push_back(std::to_string(::getpid()));
  std::string const text = run(spec).text;
  EXPECT_THAT(text, HasSubstr("made made made EAFNOSUPPORT EAFNOSUPPORT "));
  auto const lines = describe_sandbox(spec.sandbox);
  bool const scoped = fmt::format("{}", fmt::join(lines, "\n")).contains("no signals to");
  EXPECT_EQ(text.ends_with("refused\n"), scoped) << text;
}

TEST(SandboxStrict, IsToldInFull) {
  auto const lines = describe_sandbox(
      {.level = SandboxLevel::Strict, .read_only = {"/usr/share"}, .read_write = {"/scratch"}});
  EXPECT_THAT(lines, Contains("no capabilities"));
  EXPECT_THAT(lines, Contains(HasSubstr("seccomp): ptrace, ")));
  if (!has_landlock()) return;
  EXPECT_THAT(lines, Contains(HasSubstr("/usr/share")));
  EXPECT_THAT(lines, Contains(HasSubstr("files to write: /scratch, /dev/null")));
}

TEST(SandboxBasic, KeepsTheRightToMakePidNamespacesIfItIsToldTo) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root has capabilities";
  SpawnSpec spec = confined(python(""), SandboxLevel::Basic);
  spec.sandbox.copies_have_pid_namespaces = true;
  auto const held = std::stoull(status_of(spec, "CapPrm"), nullptr, 16);
  EXPECT_NE(held & (1ULL << 21), 0U);
  EXPECT_EQ(held & (1ULL << 19), 0U);
}

}  // namespace
}  // namespace aether::os
