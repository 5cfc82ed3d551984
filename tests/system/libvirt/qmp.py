"""QEMU's own monitor, spoken to directly: to leave in QEMU what a libvirt that died in mid-attach leaves there.

The monitor takes one client at a time, so the driver has to be closed meanwhile.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kevel.hypervisor.base import DiskSpec

TIMEOUT_S = 20.0


class Monitor:
    """A connection to the monitor of one server's QEMU."""

    def __init__(self, data_dir: Path) -> None:
        (path,) = (data_dir / "libvirt" / "lib" / "qemu").glob("domain-*-kevel-*/monitor.sock")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rw")
        self._file.readline()  # the greeting
        self("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._socket.close()

    def __call__(self, command: str, **arguments: object) -> Any:
        """One command; its answer."""
        self._file.write(json.dumps({"execute": command, "arguments": arguments}))
        self._file.flush()
        while True:
            message = json.loads(self._file.readline())
            if "return" in message:
                return message["return"]
            assert "event" in message, message

    def add_nodes(self, disk: DiskSpec, number: int, *, with_format: bool = True) -> None:
        """The first half of libvirt's attach: the block nodes, under the names that libvirt gives them."""
        self(
            "blockdev-add",
            **{"node-name": f"libvirt-{number}-storage", "driver": "file", "filename": disk.source_path},
        )
        if with_format:
            self(
                "blockdev-add",
                **{"node-name": f"libvirt-{number}-format", "driver": "raw", "file": f"libvirt-{number}-storage"},
            )

    def add_device(self, disk: DiskSpec, number: int) -> None:
        """The second half: the device, whose id is the disk's alias."""
        self(
            "device_add",
            driver="scsi-hd",
            bus="scsi0.0",
            channel=0,
            lun=disk.unit,
            drive=f"libvirt-{number}-format",
            id=disk.alias,
            **{"scsi-id": 0},
        )

    def list_nodes(self) -> set[str]:
        """The names of all block nodes."""
        return {node["node-name"] for node in self("query-named-block-nodes", flat=True)}
