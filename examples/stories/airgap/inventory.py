# SPDX-License-Identifier: Apache-2.0
"""A tool over stdio: a question in JSON comes in, what is known goes out."""

import json
import sys

MACHINES = {"pump-1": "2.4", "pump-2": "2.6", "valve-1": "2.4"}

json.load(sys.stdin)
json.dump(MACHINES, sys.stdout)
