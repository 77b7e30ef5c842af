# SPDX-License-Identifier: Apache-2.0
"""`aether inspect` of a function says what its sandbox really forbids here: as the kernel says of the handler."""

import json
import pathlib
import re

import pytest

import handlers
from aether import Aether, eventually, free_port
from test_function_languages import state, warm

LEVELS = ["none", "basic", "strict"]


def kept_capabilities(pid):
    return bin(int(field_of(pid, "CapEff"), 16)).count("1")


def field_of(pid, name):
    return re.search(rf"^{name}:\t(.*)$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1]


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_said_of_the_sandbox_is_so(tmp_path, level):
    path = handlers.build("limits", tmp_path / "handler")
    one = handlers.function(path, free_port(), min_instances=1, max_instances=1, sandbox=level)
    with Aether(tmp_path, {"orchestrator": {"restore_timeout_ms": 100}, "functions": [one],
                           "observability": {"metrics_port": "none"}}) as aether:
        found = eventually(lambda: warm(now := state(aether)) and now, f"it is warm: {state(aether)}")
        pid = warm(found)[0]["pid"]
        told = json.loads(aether.cli("-o", "json", "inspect", "fn", check=True).stdout)
        rules = "\n".join(told["sandbox_rules"])
        shown = aether.cli("inspect", "fn", check=True).stdout
        assert all(f"- {rule}\n" in shown for rule in told["sandbox_rules"]), shown
        # As the kernel has it (man 5 proc): 1 no new privileges, 2 a filter of system calls.
        assert field_of(pid, "NoNewPrivs") == ("1" if "no new privileges" in rules else "0")
        assert field_of(pid, "Seccomp") == ("2" if "seccomp" in rules else field_of("self", "Seccomp"))
        assert bool(rules) == (level != "none")
        if level == "none":
            return
        line = next(rule for rule in told["sandbox_rules"] if rule.startswith("no capabilities"))
        named = line.removeprefix("no capabilities but ").split(", ") if " but " in line else []
        assert kept_capabilities(pid) == len(named), (line, field_of(pid, "CapEff"))
        assert ("files to read" in rules) == (level == "strict"), rules
