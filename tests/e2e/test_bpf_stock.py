# SPDX-License-Identifier: Apache-2.0
"""Servers as they are, that bind their own port: old and new side by side on it, twenty swaps under load,
and nobody is lost. Nothing is passed to them, and nothing is changed in their configuration."""

import pytest

from aether import eventually, free_port
from bound import bound_service, shares, unmodified
from under_load import Load, soak, stops_cleanly, swap_all

SWAPS = soak(20)


@pytest.mark.parametrize("name", ["http.server", "nginx", "gunicorn", "node", "lighttpd"])
def test_a_server_that_binds_its_own_port_loses_nobody_in_twenty_swaps(start, tmp_path, bpf, name):
    port, folder = free_port(), tmp_path / "server"
    command, more = unmodified(name, folder, port)
    aether = start(bound_service(command, f"127.0.0.1:{port}", soak="50ms", **more))
    with Load(port, rate=300) as load:
        served = set()
        for _ in range(SWAPS):
            swap_all(aether, 1)
            served |= {revision for revision, one in shares(aether).items() if one["given"] > 0}
    assert load.result["failed"] == 0, load.result
    assert load.result["requests"] > 0, load.result
    # The kernel gave connections to most of the revisions: a busy machine may pass one over.
    assert len(served) > SWAPS // 2, served
    steered = aether.service()["listeners"][0]
    assert steered["mode"] == "bpf" and steered["steered_revision"] == SWAPS + 1, steered
    eventually(lambda: aether.service()["listeners"][0]["waiting"] == 0, "nobody waits")
    stops_cleanly(aether, folder)
