# SPDX-License-Identifier: Apache-2.0
"""python3 approve.py URL JOB: a yes from a program, for instance from the button of a web page."""

import sys

from aetheris import AetherisClient

client = AetherisClient(sys.argv[1])
print("waits:", client.get_job(sys.argv[2]).is_waiting)
client.signal_job(sys.argv[2], {"approved": True})
print("output:", client.get_job(sys.argv[2]).wait(timeout=60).output)
