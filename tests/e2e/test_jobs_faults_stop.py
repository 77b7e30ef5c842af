# SPDX-License-Identifier: Apache-2.0
"""Every fault point of jobs, journal and tools: the process stands still there, and is killed."""

from fault_sweep import NOT_HERE, POINTS, Sweep


def test_every_run_ends_or_waits_for_a_person_and_nothing_is_called_twice(tmp_path):
    sweep = Sweep(tmp_path / "sweep", "stop", POINTS)
    try:
        sweep.run()
        assert len(POINTS) >= 40
        assert set(POINTS) - set(NOT_HERE) <= sweep.ended, "points that were never passed"
    finally:
        sweep.close()
