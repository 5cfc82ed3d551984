"""The hypervisor kit on real libvirt and real QEMU."""

from __future__ import annotations

import pytest

from tests.conformance.hypervisor import HypervisorKit

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(180)]


class TestLibvirt(HypervisorKit):
    """Volumes as virtio-scsi disks, the default: such a disk leaves the guest without its help."""
