# SPDX-License-Identifier: Apache-2.0
"""Loaded by Python itself at its start, because Aether puts this folder first on PYTHONPATH of its handlers. Waits
for Aether's signal (see aetherless.hooks), then lets the sitecustomize come that it stands before."""

import os
import sys


def _install():
    # Only where Aether has copies to make: a Python that the handler starts is none of them.
    if os.environ.get("AETHER_SOCKET") and os.environ.get("AETHER_HOOKS") != "off":
        import aetherless

        aetherless.install()


def _next_sitecustomize():
    import importlib.machinery

    here = os.path.realpath(os.path.dirname(__file__))
    rest = [place for place in sys.path if os.path.realpath(place or ".") != here]
    found = importlib.machinery.PathFinder.find_spec("sitecustomize", rest)
    if found is None or found.loader is None:
        return
    import importlib.util

    module = importlib.util.module_from_spec(found)
    sys.modules["sitecustomize"] = module
    found.loader.exec_module(module)


try:
    _install()
except Exception as error:  # Whatever is wrong with the hook, the handler runs
    print("[aetherless] no reseeding in copies: %r" % (error,), file=sys.stderr, flush=True)
_next_sitecustomize()
