"""Domain and disk XML: pure functions from Kevel's values to libvirt's XML, and back.

Only XML that libvirt itself wrote is parsed here. Bus, unit and alias of a volume are ours, never libvirt's choice:
the alias names the attachment, and explicit unit numbers on one virtio-scsi controller need no PCI slot per disk.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import NamedTuple

import msgspec

from kevel.domain.devices import BUS_UNITS_MAX
from kevel.domain.errors import StepNever
from kevel.domain.nbd import NbdSource, read_nbd_source
from kevel.domain.rescues import RescueBus, RescuePlace
from kevel.domain.tuning import NO_LIMITS, DiskTune
from kevel.hypervisor.base import DiskSpec, DiskView, DomainSpec, VolumeBus
from kevel.hypervisor.libvirt.secrets import name_secret

NAME_PREFIX = "kevel-"
ALIAS_PREFIX = "ua-"
#: The format of an encrypted volume: raw for libvirt, and encrypted.
LUKS = "luks"
AGENT_CHANNEL = "org.qemu.guest_agent.0"
#: virtio-serial and the root disk take a port each; libvirt needs every port to be listed.
VIRTIO_COLD_PORTS = 2
#: QEMU's translation cache under TCG: its default grows to a third of the guest's memory and more.
TCG_CACHE_MIB = 32

_TUNES = frozenset(DiskTune.__struct_fields__)

BOOT_NAMESPACE = "https://kevel.invalid/boot/1"
BOOT_TAG = f"{{{BOOT_NAMESPACE}}}boot"
ET.register_namespace("kevel", BOOT_NAMESPACE)


class Unreadable(Exception):
    """libvirt or QEMU gave an account that cannot be read."""


class ServerFiles(NamedTuple):
    """The server's own files, as the domain names them."""

    root_disk: str | None
    rescue_disk: str | None
    console_socket: str
    console_log: str
    agent_socket: str


def name_domain(server_id: str) -> str:
    """The domain's name for a server."""
    return NAME_PREFIX + server_id


def build_domain_xml(spec: DomainSpec, files: ServerFiles, *, kvm: bool, cache: str, volumes: list[ET.Element]) -> str:
    """The persistent definition of a server; `volumes` are disk elements to keep from an earlier definition.

    `cache` is the root disk's cache mode.
    """
    domain = ET.Element("domain", type="kvm" if kvm else "qemu")
    _add(domain, "name", name_domain(spec.server_id))
    _add(domain, "uuid", spec.server_id)
    _add(domain, "memory", str(spec.memory_mib), unit="MiB")
    _add(domain, "vcpu", str(spec.vcpus))
    _add_boot(domain, spec)
    features = _add(domain, "features")
    _add(features, "acpi")
    _add(features, "apic")
    if kvm:
        _add(domain, "cpu", mode="host-model")
    else:
        _add(_add(features, "tcg"), "tb-cache", str(TCG_CACHE_MIB), unit="MiB")
        _add(_add(domain, "cpu", mode="custom", match="exact"), "model", "qemu64")
    _add(domain, "on_poweroff", "destroy")
    _add(domain, "on_reboot", "restart")
    _add(domain, "on_crash", "destroy")
    devices = _add(domain, "devices")
    rescue = spec.rescue
    place = None if rescue is None else rescue.place
    _add_buses(devices, spec.volume_bus, place, spare_ports=0 if rescue is None else 1)
    if files.rescue_disk is not None and rescue is not None:
        if place is None:
            devices.append(_build_own_disk(files.rescue_disk, rescue.image_format, spec.volume_bus, cache))
        else:
            devices.append(_build_rescue_disk(files.rescue_disk, rescue.image_format, place, spec.volume_bus, cache))
    if files.root_disk is not None:
        second = rescue is not None and place is None
        devices.append(_build_own_disk(files.root_disk, spec.image_format, spec.volume_bus, cache, second=second))
    devices.extend(volumes)
    _add(devices, "memballoon", model="none")
    _add_console(devices, files)
    channel = _add(devices, "channel", type="unix")
    _add(channel, "source", mode="bind", path=files.agent_socket)
    _add(channel, "target", type="virtio", name=AGENT_CHANNEL)
    return ET.tostring(domain, encoding="unicode")


def build_disk_xml(disk: DiskSpec, *, cache: str, block_device: bool) -> str:
    """A volume as a disk element. Raises StepNever when the unit is outside the bus."""
    units_max, bus = BUS_UNITS_MAX[disk.bus.value], disk.bus
    if not 0 <= disk.unit <= units_max:
        raise StepNever(
            f"Volume {disk.serial}: unit {disk.unit} is outside 0 to {units_max}, the server has no more room."
        )
    if (disk.source_format == LUKS) != (disk.passphrase is not None):
        raise StepNever(f"Volume {disk.serial}: it is plugged with a key if it is encrypted, and only then.")
    remote = read_nbd_source(disk.source_path)
    kind = "network" if remote is not None else "block" if block_device else "file"
    element = ET.Element("disk", type=kind, device="disk")
    image_format = "raw" if disk.source_format == LUKS else disk.source_format
    _add_driver(element, image_format, cache, errors="report" if remote is None else "stop")
    if remote is not None:
        source = _add_export(element, remote)
    else:
        source = _add(element, "source", **{"dev" if block_device else "file": disk.source_path})
    if disk.source_format == LUKS:
        encryption = _add(source, "encryption", format=LUKS)
        _add(encryption, "secret", type="passphrase", uuid=name_secret(disk.alias))
    # The empty element ends the chain here: neither libvirt nor QEMU takes a backing file's name out of the file.
    _add(element, "backingStore")
    _add(element, "target", dev=disk.target, bus=bus.value)
    _add(element, "serial", disk.serial)
    _add(element, "alias", name=disk.alias)
    if disk.read_only:
        _add(element, "readonly")
    if disk.shareable:
        _add(element, "shareable")
    if disk.tune != NO_LIMITS:
        limits = _add(element, "iotune")
        for name, value in msgspec.structs.asdict(disk.tune).items():
            if value:
                _add(limits, name, str(value))
    if bus is not VolumeBus.VIRTIO:
        _add(element, "address", type="drive", controller="0", bus="0", target="0", unit=str(disk.unit))
    return ET.tostring(element, encoding="unicode")


def build_target_xml(path: str, file_format: str, target: str, *, cache: str, block_device: bool = False) -> str:
    """What a disk is to become: another file or device under the same name."""
    element = ET.Element("disk", type="block" if block_device else "file", device="disk")
    _add_driver(element, file_format, cache)
    _add(element, "source", **{"dev" if block_device else "file": path})
    _add(element, "backingStore")
    _add(element, "target", dev=target)
    return ET.tostring(element, encoding="unicode")


def mark_boot(definition: str, boot_id: str) -> str:
    """The XML to start a domain from: its definition and a mark that says which start this is."""
    domain = ET.fromstring(definition)
    metadata = domain.find("metadata")
    if metadata is None:
        metadata = _add(domain, "metadata")
    for old in metadata.findall(BOOT_TAG):
        metadata.remove(old)
    ET.SubElement(metadata, BOOT_TAG, id=boot_id)
    return ET.tostring(domain, encoding="unicode")


class DomainView(NamedTuple):
    """What a domain's XML says, live or persistent."""

    boot_id: str
    #: Volume disks by alias.
    disks: dict[str, DiskView]
    #: Node numbers (N of "libvirt-N-...") by alias; live XML only.
    nodes: dict[str, int]
    #: All node numbers that the XML accounts for, the root disk's and backing files' included.
    known_nodes: frozenset[int]


class OwnDisk(NamedTuple):
    """A server's own root disk, as its domain has it."""

    path: str
    format: str
    #: N of "libvirt-N-..."; live XML only.
    node: int | None


def find_root_disk(text: str, server_dir: str) -> OwnDisk | None:
    """The root disk in a domain's XML: the one that lies in the server's directory under its name."""
    for element in ET.fromstring(text).iterfind("devices/disk"):
        source, driver = element.find("source"), element.find("driver")
        path = "" if source is None else source.attrib.get("file", "")
        if source is None or driver is None or not path.startswith(f"{server_dir}/root"):
            continue
        node = source.attrib.get("index")
        return OwnDisk(path, driver.attrib["type"], None if node is None else int(node))
    return None


def parse_domain_xml(text: str) -> DomainView:
    """Read a domain's XML as libvirt gives it. Raises Unreadable, for any text whatever, and nothing else."""
    try:
        return _read_domain(ET.fromstring(text))
    except (ET.ParseError, KeyError, ValueError) as error:
        raise Unreadable(f"libvirt's XML of a domain: {type(error).__name__}: {str(error)[:200]}") from error


def _read_domain(domain: ET.Element) -> DomainView:
    disks: dict[str, DiskView] = {}
    nodes: dict[str, int] = {}
    for element in domain.iterfind("devices/disk"):
        view = parse_disk(element)
        if view is None:
            continue
        disks[view.alias] = view
        source = element.find("source")
        if source is not None and "index" in source.attrib:
            nodes[view.alias] = int(source.attrib["index"])
    mark = domain.find(f"metadata/{BOOT_TAG}")
    return DomainView(
        boot_id=mark.attrib["id"] if mark is not None else f"domain-{domain.attrib.get('id', '')}",
        disks=disks,
        nodes=nodes,
        # Backing files and targets of copies carry an index too: whatever the XML names is not left over.
        known_nodes=frozenset(
            int(source.attrib["index"])
            for source in domain.iter()
            if "index" in source.attrib and source.tag in ("source", "mirror", "backingStore")
        ),
    )


def parse_disk(element: ET.Element) -> DiskView | None:
    """A volume's disk element; None for what is not a volume (the root disk)."""
    alias = element.find("alias")
    if alias is None or not alias.attrib["name"].startswith(ALIAS_PREFIX):
        return None
    source, target = element.find("source"), element.find("target")
    attributes = source.attrib if source is not None else {}
    return DiskView(
        alias=alias.attrib["name"],
        serial=element.findtext("serial", ""),
        source_path=attributes.get("file") or attributes.get("dev") or _read_export(source),
        target=target.attrib["dev"] if target is not None else "",
        tune=_parse_tune(element),
        encrypted=element.find("source/encryption") is not None or element.find("encryption") is not None,
    )


def _parse_tune(element: ET.Element) -> DiskTune:
    values = {limit.tag: int(limit.text or 0) for limit in element.iterfind("iotune/*") if limit.tag in _TUNES}
    return DiskTune(**values)


def take_volume_elements(definition: str) -> list[ET.Element]:
    """The volume disks of an existing definition, to be kept in the next one."""
    return [element for element in ET.fromstring(definition).iterfind("devices/disk") if parse_disk(element)]


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    child = ET.SubElement(parent, tag, attributes)
    child.text = text
    return child


def _add_boot(domain: ET.Element, spec: DomainSpec) -> None:
    system = _add(domain, "os")
    _add(system, "type", "hvm", arch="x86_64", machine="q35")
    if spec.kernel_path is not None:
        _add(system, "kernel", spec.kernel_path)
        if spec.initrd_path is not None:
            _add(system, "initrd", spec.initrd_path)
        if spec.cmdline:
            _add(system, "cmdline", spec.cmdline)


def _add_buses(devices: ET.Element, bus: VolumeBus, place: RescuePlace | None, *, spare_ports: int) -> None:
    rescue_bus = None if place is None else place.bus
    _add(devices, "controller", type="usb", model="qemu-xhci" if rescue_bus is RescueBus.USB else "none")
    if bus is VolumeBus.SCSI or rescue_bus is RescueBus.SCSI:
        # From the start: a controller that is to be hot-plugged later would need a free port.
        _add(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    if bus is not VolumeBus.VIRTIO:
        return  # a q35 machine has an AHCI controller of its own, and libvirt adds ports to a definition without any
    _add(devices, "controller", type="pci", index="0", model="pcie-root")
    for index in range(1, BUS_UNITS_MAX["virtio"] + VIRTIO_COLD_PORTS + spare_ports + 1):
        _add(devices, "controller", type="pci", index=str(index), model="pcie-root-port")


def _build_own_disk(path: str, image_format: str, bus: VolumeBus, cache: str, *, second: bool = False) -> ET.Element:
    """A disk of the server's own, which it boots from; or, `second`, one that no volume's name and place are near."""
    disk = ET.Element("disk", type="file", device="disk")
    _add_driver(disk, image_format, cache)
    _add(disk, "source", file=path)
    _add(disk, "backingStore")
    if bus is not VolumeBus.VIRTIO:
        _add(disk, "target", dev="sdzz" if second else "sda", bus=bus.value)
        # A SATA controller has six places, all of which may be taken: the second disk gets a controller of its own.
        controller, target = ("1", "0") if second and bus is VolumeBus.SATA else ("0", "1" if second else "0")
        _add(disk, "address", type="drive", controller=controller, bus="0", target=target, unit="0")
    else:
        _add(disk, "target", dev="vdzz" if second else "vda", bus="virtio")
    return disk


def _build_rescue_disk(path: str, image_format: str, place: RescuePlace, bus: VolumeBus, cache: str) -> ET.Element:
    """A disk beside all others, whose names and places it leaves alone, and from which the guest boots all the same."""
    disk = ET.Element("disk", type="file", device="cdrom" if place.is_cdrom else "disk")
    _add_driver(disk, image_format, cache)
    _add(disk, "source", file=path)
    _add(disk, "backingStore")
    _add(disk, "target", dev="vdzz" if place.bus is RescueBus.VIRTIO else "sdzz", bus=place.bus.value)
    if place.is_cdrom:
        _add(disk, "readonly")
    _add(disk, "boot", order="1")
    if place.bus is RescueBus.SCSI:
        _add(disk, "address", type="drive", controller="0", bus="0", target="1", unit="0")
    elif place.bus is RescueBus.SATA:
        controller = "1" if bus is VolumeBus.SATA else "0"  # of its own, where volumes may have all places of the first
        _add(disk, "address", type="drive", controller=controller, bus="0", target="0", unit="0")
    return disk


def _add_export(disk: ET.Element, remote: NbdSource) -> ET.Element:
    source = _add(disk, "source", protocol="nbd", name=remote.name, tls="yes", tlsHostname=remote.server_name)
    _add(source, "host", name=remote.address, port=str(remote.port))
    return source


def _read_export(source: ET.Element | None) -> str:
    """The URI of an export that is a disk's source; "" for anything else."""
    host = source.find("host") if source is not None else None
    if source is None or host is None or source.attrib.get("protocol") != "nbd":
        return ""
    return NbdSource(
        address=host.attrib.get("name", ""),
        port=int(host.attrib.get("port", 0)),
        name=source.attrib.get("name", ""),
        server_name=source.attrib.get("tlsHostname", ""),
    ).uri


def _add_driver(disk: ET.Element, image_format: str, cache: str, *, errors: str = "report") -> None:
    # Errors of local files are reported to the guest: they are the disk's own (full, broken), waiting cures nothing,
    # and a paused guest would look stuck to its user. An export's server comes back: there the guest stops, and makes
    # its request again when it goes on.
    _add(
        disk,
        "driver",
        name="qemu",
        type=image_format,
        cache=cache,
        discard="unmap",
        error_policy=errors,
        rerror_policy=errors,
    )


def _add_console(devices: ET.Element, files: ServerFiles) -> None:
    serial = _add(devices, "serial", type="unix")
    _add(serial, "source", mode="bind", path=files.console_socket)
    # Appending, so that the log can be cut short while QEMU writes it.
    _add(serial, "log", file=files.console_log, append="on")
    _add(serial, "target", type="isa-serial", port="0")
