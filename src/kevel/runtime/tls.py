"""What TLS needs on any machine."""

from __future__ import annotations

import os
import ssl


def load_chain(context: ssl.SSLContext, pem: bytes) -> None:
    """Give the context a key and its certificate that are in memory. The key gets onto no disk for it.

    Python's ssl reads them from a file only; this one has no name and is gone with its descriptor.
    """
    fd = os.memfd_create("kevel-tls", os.MFD_CLOEXEC)
    with os.fdopen(fd, "wb") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{fd}")
