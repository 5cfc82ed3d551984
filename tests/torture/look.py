"""What the driver itself sees on a data directory whose Kevel is stopped: QEMU's block nodes included.

    python -m tests.torture.look DATA_DIR

prints the servers' views as JSON. A process of its own, since one process can open only one embedded libvirt.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import libvirt
import msgspec

from kevel.hypervisor.libvirt.session import Session
from kevel.hypervisor.libvirt.worker import open_connection, prepare_embedded, start_event_loop


def main() -> None:
    """Print, and end without waiting for libvirt's threads."""
    data = Path(sys.argv[1])
    root = data / "libvirt"
    prepare_embedded(root)
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    start_event_loop()
    session = Session(open_connection(f"qemu:///embed?root={root}"), data / "servers", kvm=False)
    views = [session.observe_server(view.server_id) for view in session.observe_all()]
    sys.stdout.write(msgspec.json.encode(views).decode())
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
