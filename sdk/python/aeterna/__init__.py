# SPDX-License-Identifier: Apache-2.0
"""Hand memory and listeners to the next version of your program.

    from aeterna import AeternaClient

    client = AeternaClient()
    listener = client.get_listener_socket()
    context = client.load_context()
"""

from .aio import drain
from .client import AeternaClient, HandoffError, Released
from .state import Buffer

__version__ = "0.2.0"
__all__ = ["AeternaClient", "Buffer", "HandoffError", "Released", "drain", "__version__"]
