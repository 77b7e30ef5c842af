# SPDX-License-Identifier: Apache-2.0
"""`aether stats --dashboard` in a real terminal: what it shows at its sizes, and what its keys do."""

import json
import subprocess

import pytest

from aether import BINARY, PATIENCE, PYTHON, eventually, free_port
from programs import ASYNCIO, program
from terminals import FakeAether, Terminal, function, service


@pytest.fixture
def house():
    made = FakeAether([function("hello-api"), function("resize", 8081), function("report", 8082)], [service("web")])
    yield made
    made.stop()


def dashboard(house, columns=80, rows=24, **env):
    words = [str(BINARY), "--url", house.url, "stats", "--dashboard"]
    return Terminal(words, columns, rows, {"TERM": "screen-256color", **env})


def row_of(lines, name):
    found = [line for line in lines if line[1:].startswith(name + " ")]
    assert len(found) == 1, "\n".join(lines)
    return found[0]


def test_at_80x24_everything_has_its_place(house):
    with dashboard(house) as terminal:
        lines = terminal.shows("hello-api", "STARTS", "q quit")
        assert len(lines) == 24 and all(len(line) <= 80 for line in lines)
        assert lines[0].startswith(" aether 9.8.7  PID 42  up 1h 2m") and "3 functions, 1 service" in lines[0]
        assert "0.0 req/s" in lines[1] and "3 in flight" in lines[1] and "18.0 MiB" in lines[1]
        assert lines[23].startswith(" / filter  s sort")
        assert "clone" in lines[3] and lines[4].split() == ["count", "0", "0", "36", "0", "0"]
        assert lines[6].split()[0] == "p50" and lines[7].split()[0] == "p99"
        assert row_of(lines, "hello-api").split()[:4] == [">hello-api", "RUNNING", "w1", "p1"]
        assert row_of(lines, "web").split()[1] == "RUNNING"
        assert terminal.has_colour()


def test_at_200x50_there_is_more_to_see(house):
    with dashboard(house, 200, 50) as terminal:
        lines = terminal.shows("hello-api", "QUEUED", "ERR/S", "q quit")
        assert len(lines) == 50 and all(len(line) <= 200 for line in lines)
        assert lines[49].startswith(" / filter")
        assert row_of(lines, "resize").split()[2] == "8081"


def test_it_follows_the_size_of_the_terminal(house):
    with dashboard(house) as terminal:
        terminal.shows("hello-api", "STARTS")
        terminal.resize(200, 50)
        lines = terminal.shows("QUEUED", "q quit")
        assert lines[49].startswith(" / filter")
        terminal.resize(60, 12)

        def fits():
            lines = terminal.lines()
            return len(lines) == 12 and "q quit" in lines[11] and lines[4].startswith(">hello-api ")

        eventually(fits, "it fits 60x12, without the table of starts")
        terminal.resize(30, 5)
        terminal.shows("30x5 is too small")
        terminal.resize(80, 24)
        terminal.shows("STARTS", "hello-api", "q quit")


def test_numbers_move_while_it_looks(house):
    with dashboard(house) as terminal:
        terminal.shows("hello-api")

        def busy():
            house.serve_requests("hello-api", 40, 12)  # up to 1.3 ms
            row = row_of(terminal.lines(), "hello-api")
            requests, p99 = row.split()[4:6]
            return requests != "0.0" and p99 == "1.30ms" and "█" in row

        eventually(busy, "requests a second, their p99 and a bar")
        assert row_of(terminal.lines(), "resize").split()[4:6] == ["0.0", "-"]


def test_keys_filter_sort_and_select(house):
    with dashboard(house) as terminal:
        terminal.shows("hello-api", "web")
        terminal.press("/", "r", "e")
        lines = terminal.shows(" /re_")
        eventually(lambda: "hello-api" not in terminal.text(), "only names with re")
        terminal.press("Enter")
        lines = terminal.shows("filter: re")
        assert [line.split()[0] for line in lines if "RUNNING" in line] == [">report", "resize"]
        terminal.press("Down")
        terminal.shows(">resize")
        terminal.press("Escape")
        terminal.shows("hello-api", ">resize")
        terminal.press("s")
        terminal.shows("sort: req/s")
        terminal.press("s", "s")
        lines = terminal.shows("sort: memory")
        first = next(line for line in lines if "RUNNING" in line)
        assert first.split()[0] == "web", "9 MiB is the most"
        terminal.press("Home")
        terminal.shows(">web")
        terminal.press("?")
        terminal.shows("only names that contain the text")
        terminal.press("?")
        terminal.shows(">web")


def test_enter_tells_all_of_one(house):
    with dashboard(house) as terminal:
        terminal.shows(">hello-api")
        terminal.press("Enter")
        terminal.shows("/opt/handlers/hello-api.py", "no reseeding hook", "128 MB", "40001", "03:14:15")
        terminal.press("Escape")
        terminal.shows("STARTS", ">hello-api")


def test_a_page_that_is_longer_than_the_terminal_scrolls(house):
    one = house.status["functions"][0]
    last = one["instances"][-1]
    one["instances"] = [{**last, "instance": 100 + n, "port": 50001 + n} for n in range(40)]
    with dashboard(house) as terminal:
        terminal.shows(">hello-api")
        terminal.press("Enter")
        lines = terminal.shows("/opt/handlers/hello-api.py", "more lines")
        assert "50040" not in "\n".join(lines)
        terminal.press("End")
        lines = terminal.shows("50040", " 0 more lines")
        assert len(lines) == 24 and "/opt/handlers" not in "\n".join(lines) and "q quit" in lines[23]
        terminal.press("Up")
        terminal.shows(" 1 more lines")
        terminal.press("PageUp", "PageUp", "PageUp", "PageUp")
        terminal.shows("/opt/handlers/hello-api.py")
        terminal.press("Down", "Down")
        terminal.shows(", 2 above")
        terminal.press("Escape")
        terminal.shows("STARTS", ">hello-api")
        terminal.press("Enter")
        assert "above" not in "\n".join(terminal.shows("/opt/handlers/hello-api.py"))


def test_a_restart_is_asked_for_and_its_outcome_told(house):
    with dashboard(house) as terminal:
        terminal.shows(">hello-api")
        terminal.press("r")
        terminal.shows("restart hello-api? y or n")
        terminal.press("n")
        terminal.shows("q quit")
        assert house.told == []
        terminal.press("r", "y")
        terminal.shows("hello-api: revision 4 serves")
        assert house.told == ["/v1/functions/hello-api/reload?wait=true"]
        house.answer = {"swaps": [{"verdict": "rolled-back", "revision": 3, "why": "it exited with code 1"}]}
        terminal.press("End", "r")
        terminal.shows("restart web? y or n")
        terminal.press("y")
        terminal.shows("web: it exited with code 1")
        assert house.told[1:] == ["/v1/services/web/reload?wait=true"]


def test_q_gives_the_terminal_back(house):
    with dashboard(house) as terminal:
        terminal.shows("hello-api")
        terminal.press("q")
        lines = terminal.shows("ended with 0")
        assert "STARTS" not in "\n".join(lines)
    with dashboard(house) as terminal:
        terminal.shows("hello-api")
        terminal.press("C-c")
        lines = terminal.shows("ended with")
        assert "STARTS" not in "\n".join(lines), "an interrupt gives it back, too"


@pytest.mark.parametrize("env", [{"TERM": "vt100"}, {"NO_COLOR": "1"}])
def test_without_colour_nothing_is_lost(house, env):
    with dashboard(house, **env) as terminal:
        terminal.shows(">hello-api", "STARTS", "q quit")
        assert not terminal.has_colour()
        terminal.press("Down", "Down")
        terminal.shows(">resize")


def test_without_utf8_the_bars_are_of_ascii(house):
    with dashboard(house, LANG="C", LC_ALL="C") as terminal:
        terminal.shows("hello-api")

        def bars():
            house.serve_requests("hello-api", 5, 12)
            return "@" in row_of(terminal.lines(), "hello-api")

        eventually(bars, "a bar of ASCII")
        assert terminal.text().isascii()


def test_an_aether_that_is_gone_is_said_to_be_and_seen_again(house):
    with dashboard(house) as terminal:
        terminal.shows(">hello-api")
        house.stop()
        terminal.shows("Aether does not answer", "hello-api")
        house.start()
        terminal.shows("req/s", ">hello-api")
        eventually(lambda: "does not answer" not in terminal.text(), "it is there again")


def run(*words, **env):
    return subprocess.run([str(BINARY), *words], capture_output=True, text=True, timeout=PATIENCE,
                          env={"PATH": "/usr/bin:/bin", **env}, stdin=subprocess.DEVNULL)


def test_without_a_terminal_it_says_what_to_use_instead(house, tmp_path):
    done = run("--url", house.url, "stats", "--dashboard", TERM="xterm")
    assert done.returncode == 2 and "needs a terminal" in done.stderr and "--watch" in done.stderr, done
    assert not done.stdout
    done = run("--url", house.url, "stats", "--dashboard", "-o", "json")
    assert done.returncode == 2 and not done.stdout
    done = run("-c", str(tmp_path / "x.yaml"), "stats", "--dashboard", AETHER_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 1 and "not-running" in done.stderr
    # ncurses keeps what it made for a terminal that it does not know.
    with dashboard(house, TERM="no-such-terminal", ASAN_OPTIONS="detect_leaks=0") as terminal:
        terminal.shows("no-such-terminal", "ended with 2")


def test_a_service_of_a_real_aether_is_shown_and_restarted(start, tmp_path):
    command = program(tmp_path, "web.py", ASYNCIO)
    aether = start({"service": {"name": "web", "command": command, "listen": f"127.0.0.1:{free_port()}",
                                "stop_timeout": "2s"},
                    "orchestration": {"soak_time": "0s"}, "observability": {"metrics_port": "none"}})
    words = [str(BINARY), "-c", str(aether.config), "stats", "--dashboard"]
    env = {"TERM": "screen-256color", "AETHER_RUNTIME_DIR": str(aether.runtime)}
    with Terminal(words, 80, 24, env) as terminal:
        terminal.shows(">web", "RUNNING")
        terminal.press("r", "y")
        terminal.shows("web: revision 2 serves")
        terminal.press("Enter")
        terminal.shows(PYTHON, "restarts")
        terminal.press("q")
        terminal.shows("ended with 0")
    assert aether.service()["revision"] == 2


def test_stats_for_programs_and_for_pipes(house):
    done = run("--url", house.url, "stats", "-o", "json")
    assert json.loads(done.stdout)["functions"][0]["id"] == "hello-api"
    done = run("--url", house.url, "stats")
    assert done.returncode == 0 and "\x1b" not in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("hello-api ")]
    assert rows[0][:3] == ["hello-api", "RUNNING", "8080"] and rows[1][:4] == ["hello-api", "clone", "12", "1"]
    watching = subprocess.Popen([str(BINARY), "--url", house.url, "stats", "--watch", "-o", "json"],
                                stdout=subprocess.PIPE, text=True)
    try:
        assert [json.loads(watching.stdout.readline())["pid"] for _ in range(2)] == [42, 42]
    finally:
        watching.terminate()
        watching.wait(PATIENCE)
        watching.stdout.close()


def test_watch_draws_over_what_was_there(house):
    with Terminal([str(BINARY), "--url", house.url, "stats", "--watch"], 150, 24, {"TERM": "screen"}) as terminal:
        terminal.shows("hello-api", "STARTS OF")
        house.serve_requests("hello-api", 7, 3)

        def moved():
            lines = [line for line in terminal.lines() if line.startswith("hello-api ") and "RUNNING" in line]
            return len(lines) == 1 and lines[0].split()[5] == "7"

        eventually(moved, "the new numbers stand where the old ones stood")
