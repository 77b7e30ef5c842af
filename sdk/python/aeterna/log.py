# SPDX-License-Identifier: Apache-2.0
"""The SDK's log: lines on stderr that begin with [Aeterna-SDK]. Level: AETERNA_SDK_LOG."""

import logging
import os

log = logging.getLogger("aeterna")
if not log.handlers:
    _handler = logging.StreamHandler()
    _handler.setFormatter(logging.Formatter("[Aeterna-SDK] %(message)s"))
    log.addHandler(_handler)
    log.propagate = False
    _level = os.environ.get("AETERNA_SDK_LOG", "INFO").upper()
    log.setLevel(_level if _level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL") else "INFO")
