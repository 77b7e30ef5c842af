# SPDX-License-Identifier: Apache-2.0
"""What somebody meets who tries it without having read everything."""

import re
from pathlib import Path

from aether import PYTHON, Aether, eventually

ROOT = Path(__file__).resolve().parents[2]


def test_an_agent_without_the_sdk_installed_is_told_where_it_is(tmp_path):
    (tmp_path / "agent.py").write_text("from aeterna import AeternaClient\n")
    config = {
        "service": {"name": "agent", "command": [PYTHON, str(tmp_path / "agent.py")], "listen": "127.0.0.1:0"},
        "observability": {"metrics_port": "none"},
    }
    aether = Aether(tmp_path / "aether", config, env={"PYTHONPATH": ""})
    try:
        aether.start(wait=False)
        eventually(lambda: "pip install ./sdk/python" in aether.text(), "the hint is told")
    finally:
        aether.stop()


def test_every_link_between_the_pages_leads_somewhere():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("sdk/**/*.md"), *ROOT.glob("examples/**/*.md")]
    assert pages
    broken = []
    for page in pages:
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in link and not (page.parent / link).exists():
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken, broken
