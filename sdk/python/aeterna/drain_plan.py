# SPDX-License-Identifier: Apache-2.0
"""When connections of a process that is being replaced end: as late as possible, and not all at once."""

import os
import random
import time

# Kept free before Aether's deadline: the first part for the last answers, the rest for the process's
# own end.
MARGIN_SHARE = 0.1
MARGIN_MAX = 1.0
ANSWERS_SHARE = 0.7
# Of the whole time, when nothing else is said.
SPREAD_SHARE = 0.5
DAY = 86400.0


def _seconds(milliseconds):
    """A number of milliseconds as seconds; None for anything else."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, (int, float)):
        return None
    return min(milliseconds / 1000, DAY) if milliseconds >= 0 else None


def _spread_of_environment():
    try:
        return _seconds(float(os.environ["AETERNA_DRAIN_SPREAD_MS"]))
    except (KeyError, ValueError):
        return None


class DrainPlan:
    """Known once Aether has said DRAIN. Times are those of time.monotonic()."""

    def __init__(self):
        self.close_from = None
        self.close_by = None  # every connection has been told to end by then
        self.over_by = None  # and is over by then

    @property
    def announced(self):
        return self.close_by is not None

    def announce(self, deadline_ms, spread_ms=None):
        now = time.monotonic()
        whole = _seconds(deadline_ms)
        whole = 30.0 if whole is None else whole
        spread = _seconds(spread_ms)
        if spread is None:
            spread = _spread_of_environment()
        margin = min(MARGIN_MAX, whole * MARGIN_SHARE)
        usable = whole - margin
        spread = usable * SPREAD_SHARE if spread is None else min(spread, usable)
        self.close_from = now + usable - spread
        self.over_by = now + usable + margin * ANSWERS_SHARE
        self.close_by = now + usable

    def forget(self):
        self.close_from = self.close_by = self.over_by = None

    def left(self, share):
        """Seconds until the connection with this share (0 to 1) of the spread is to end."""
        began, by = self.close_from, self.close_by
        if by is None:
            return DAY
        return began + share * (by - began) - time.monotonic()


def random_share():
    return random.random()
