# SPDX-License-Identifier: Apache-2.0
"""Each rule, broken once in a small tree, is reported; what is right is not."""
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import check_style  # noqa: E402
import check_skips  # noqa: E402
import cpp_scan  # noqa: E402

SPDX = "// SPDX-License-Identifier: Apache-2.0\n"
LONG_BODY = "void f() {\n" + "  g();\n" * 70 + "}\n"
DEEP_BODY = "void f() {\n for (;;) {\n if (a) {\n while (b) {\n if (c) { g(); }\n}\n}\n}\n}\n"


def rules_of(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {violation.rule for violation in check_style.check(tmp_path)}


@pytest.mark.parametrize("rule, name, text", [
    ("spdx", "src/os/a.cc", "int a;\n"),
    ("spdx", "scripts/go", "#!/usr/bin/env bash\ntrue\n"),
    ("line-length", "src/os/a.cc", SPDX + "int " + "a" * 100 + ";\n"),
    ("file-length", "src/os/a.cc", SPDX + "int a;\n" * 400),
    ("function-length", "src/os/a.cc", SPDX + LONG_BODY),
    ("function-length", "src/os/a_test.cc", SPDX + LONG_BODY.replace("void f()", "TEST(A, B)")),
    ("function-length", "tests/a.py", "# " + SPDX + "def f():\n" + "    g()\n" * 70),
    ("nesting", "src/os/a.cc", SPDX + DEEP_BODY),
    ("name", "src/os/string_util.cc", SPDX),
    ("name", "src/os/a.h", SPDX + "class SocketManager;\n"),
    ("name", "src/os/a.h", SPDX + "struct ParseHelper {};\n"),
    ("room", "src/os/a.cc", SPDX + '#include "config/config.h"\n'),
    ("room", "src/http/a.cc", SPDX + '#include "steer/listener.h"\n'),
    ("room", "src/base/a.cc", SPDX + '#include "os/memfd.h"\n'),
    ("room", "src/os/a.cc", SPDX + '#include "kitchen/knife.h"\n'),
    ("room", "src/kitchen/a.cc", SPDX),
    ("room-page", "src/os/a.h", SPDX),
    ("wall", "src/api/a.cc", SPDX + "#include <boost/beast/core.hpp>\n"),
    ("wall", "src/async/a.cc", SPDX + "#include <boost/asio.hpp>\n"),
    ("wall", "src/os/a.h", SPDX + "#include <spdlog/spdlog.h>\n"),
    ("wall", "src/os/a.h", SPDX + "#include <boost/json.hpp>\n"),
    ("wall", "src/relay/a.cc", SPDX + "void f() { boost::asio::co_spawn(x, y, z); }\n"),
    ("world", "src/relay/a.cc", SPDX + "auto t = std::chrono::steady_clock::now();\n"),
    ("world", "src/relay/a.cc", SPDX + "int r = rand();\n"),
    ("world", "src/relay/a.cc", SPDX + "void f() { std::this_thread::sleep_for(1s); }\n"),
    ("co-await", "src/relay/a.cc", SPDX + "Task<> f() { if (co_await g()) h(); }\n"),
    ("co-await", "src/relay/a.cc", SPDX + "Task<> f() { h(1, co_await g()); }\n"),
    ("co-await", "src/relay/a.cc", SPDX + "Task<> f() { bool b = 1 == co_await g(); }\n"),
])
def test_a_broken_rule_is_reported(tmp_path, rule, name, text):
    assert rule in rules_of(tmp_path, {name: text})


def test_what_is_right_is_not_reported(tmp_path):
    good = SPDX + """#include "base/result.h"
#include <boost/json/fwd.hpp>
// co_spawn, rand() and common words may be spoken of: see https://example.org/%s
namespace aether::os {
constexpr char const* kText = "boost::asio::co_spawn() { { {";
Task<int> f(Clock const& clock) {
  co_await g();
  int const a = co_await h(clock.now());
  if (a) co_await g();
  co_return co_await h(a);
}
}  // namespace aether::os
""" % ("x" * 100)
    assert rules_of(tmp_path, {"src/os/a.h": good, "src/os/README.md": "os\n",
                               "src/async/spawn.cc": SPDX + "void f() { co_spawn(a); }\n",
                               "src/os/a_test.cc": SPDX + "auto t = steady_clock::now();\n",
                               "src/os/testdata/x.py": "no licence\n"}) == set()


def test_functions_are_found_with_their_names_and_lengths():
    text = """namespace a {
template <class T, class U = std::vector<int>>
struct Thing final : Base<T> {
  Thing(int x, int y) : x_{x}, y_(y) {
    go();
  }
  [[nodiscard]] auto get() const noexcept -> int { return x_; }
  bool operator==(Thing const&) const { return true; }
  int x_{0};
};
constexpr std::array kTable{
    Row{1, 2},
};
int plain(std::function<void()> f = {}) {
  auto const lambda = [&] {
    return R"(a { brace)";
  };
  char const c = '{';
}
TEST(Room, DoesThings) {
}
}  // namespace a
"""
    found = {function.name: function.length for function in cpp_scan.functions(text)}
    assert found == {"Thing": 3, "get": 1, "operator==": 1, "plain": 6, "Room.DoesThings": 2}


def test_an_exception_excuses_and_a_paid_one_is_reported(tmp_path):
    rules_of(tmp_path, {"src/os/a.cc": SPDX + LONG_BODY})
    table = check_style.read_exceptions("# why\nfunction-length src/os/a.cc:f it is a table\n")
    assert check_style.report(tmp_path, table) == []
    table = check_style.read_exceptions("function-length src/os/a.cc it is a table\n"
                                        "nesting src/os/a.cc:f it was deep\n")
    assert [line.split(" is ")[0] for line in check_style.report(tmp_path, table)] == [
        "tests/style/exceptions.txt: nesting src/os/a.cc:f"]
    with pytest.raises(SystemExit):
        check_style.read_exceptions("nesting src/os/a.cc\n")


def test_a_skip_must_be_allowed_with_a_reason(tmp_path):
    (tmp_path / "ctest.xml").write_text(
        '<testsuite><testcase name="Bpf.Steers"><skipped message="SKIP"/></testcase>'
        '<testcase name="Memfd.Seals"/></testsuite>')
    (tmp_path / "e2e.xml").write_text(
        '<testsuites><testsuite><testcase name="test_node"><skipped message="no node"/></testcase>'
        '</testsuite></testsuites>')
    names = [name for name, _ in check_skips.skipped_tests(tmp_path)]
    assert names == ["Bpf.Steers", "e2e::test_node"]
    assert check_skips.allowed_patterns("# x\n\nBpf.*: needs root\n") == [("Bpf.*", "needs root")]
    with pytest.raises(SystemExit):
        check_skips.allowed_patterns("Bpf.*\n")
