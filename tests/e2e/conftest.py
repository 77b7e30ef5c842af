# SPDX-License-Identifier: Apache-2.0
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from aether import Aether  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "edge(id, ...): holds these items of the list of edge cases (A1 to H6)"
    )


@pytest.fixture
def start(tmp_path):
    """start(config, **options) gives a running Aether, which is stopped at the test's end."""
    running = []

    def begin(config, wait=True, **options):
        aether = Aether(tmp_path / f"aether{len(running)}", config, **options)
        running.append(aether)
        return aether.start(wait)

    yield begin
    for aether in running:
        aether.stop()


@pytest.fixture
def open_folder():
    """A folder that every user may enter; pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="ae-open.", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def bpf():
    """Skips where programs may not be given to the kernel."""
    if os.geteuid() != 0 or not Path("/sys/fs/cgroup").exists():
        pytest.skip("steer: bpf needs root's rights to load BPF, and a writable cgroup v2")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for output in sorted(Path(item.funcargs.get("tmp_path", "/nonexistent")).glob("**/output.txt")):
            report.sections.append((str(output), output.read_text(errors="replace")[-20000:]))
