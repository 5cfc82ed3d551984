"""Domain and disk XML: what is written, and what is read back."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import msgspec
import pytest

from kevel.domain.errors import StepNever
from kevel.domain.nbd import NbdSource
from kevel.domain.rescues import RescueBus, RescuePlace
from kevel.domain.tuning import DiskTune
from kevel.hypervisor.base import DiskSpec, DomainSpec, RescueSpec, VolumeBus
from kevel.hypervisor.libvirt.domain_xml import (
    ServerFiles,
    Unreadable,
    build_disk_xml,
    build_domain_xml,
    mark_boot,
    parse_disk,
    parse_domain_xml,
    take_volume_elements,
)

SPEC = DomainSpec(
    server_id="01234567-89ab-cdef-0123-456789abcdef",
    memory_mib=96,
    vcpus=2,
    image_path="/images/one",
    image_format="qcow2",
    root_bytes=0,
    kernel_path="/images/kernel",
    initrd_path="/images/initrd",
    cmdline="console=ttyS0 a=<&'\">",
)
FILES = ServerFiles("/servers/root.qcow2", None, "/servers/console.sock", "/servers/console.log", "/servers/agent.sock")
DISK = DiskSpec(
    alias="ua-one",
    serial="aaaaaaaa-0000-4000-8000-000000000001",
    source_path="/volumes/one & two",
    source_format="raw",
    size_bytes=1,
    target="sdb",
    unit=1,
)


def build(spec: DomainSpec = SPEC, *, kvm: bool = False, volumes: tuple[str, ...] = ()) -> ET.Element:
    elements = [ET.fromstring(text) for text in volumes]
    return ET.fromstring(build_domain_xml(spec, FILES, kvm=kvm, cache="none", volumes=elements))


def build_disk(disk: DiskSpec = DISK, bus: VolumeBus = VolumeBus.SCSI, *, block_device: bool = False) -> ET.Element:
    return ET.fromstring(
        build_disk_xml(msgspec.structs.replace(disk, bus=bus), cache="none", block_device=block_device)
    )


def test_a_domain_is_named_after_its_server_and_text_is_quoted() -> None:
    domain = build()
    assert domain.findtext("name") == f"kevel-{SPEC.server_id}"
    assert domain.findtext("uuid") == SPEC.server_id
    assert domain.findtext("os/cmdline") == SPEC.cmdline


@pytest.mark.parametrize(("kvm", "kind", "cache"), [(False, "qemu", "32"), (True, "kvm", None)])
def test_only_an_emulated_guest_has_a_limit_to_its_translation_cache(kvm: bool, kind: str, cache: str | None) -> None:
    domain = build(kvm=kvm)
    assert domain.attrib["type"] == kind
    assert domain.findtext("features/tcg/tb-cache") == cache


def test_every_disk_states_its_format_and_ends_its_chain() -> None:
    for disk in (*build().iterfind("devices/disk"), build_disk()):
        driver, chain = disk.find("driver"), disk.find("backingStore")
        assert driver is not None
        assert driver.attrib["type"] in ("raw", "qcow2")
        assert chain is not None
        assert len(chain) == 0


def test_a_server_without_an_image_has_no_root_disk() -> None:
    files = ServerFiles(None, None, "/c", "/l", "/a")
    text = build_domain_xml(SPEC, files, kvm=False, cache="none", volumes=[])
    assert ET.fromstring(text).find("devices/disk") is None


def test_a_scsi_volume_has_its_unit_and_a_virtio_volume_a_port() -> None:
    scsi, virtio = build_disk(), build_disk(bus=VolumeBus.VIRTIO)
    address = scsi.find("address")
    assert address is not None
    assert address.attrib == {"type": "drive", "controller": "0", "bus": "0", "target": "0", "unit": "1"}
    assert virtio.find("address") is None
    ports = build(msgspec.structs.replace(SPEC, volume_bus=VolumeBus.VIRTIO)).findall(
        "devices/controller[@model='pcie-root-port']"
    )
    assert len(ports) == 30


def test_a_volume_can_be_the_root_disk() -> None:
    address = build_disk(msgspec.structs.replace(DISK, unit=0, target="sda")).find("address")
    assert address is not None
    assert address.attrib["unit"] == "0"


@pytest.mark.parametrize(
    ("bus", "unit"), [(VolumeBus.SCSI, -1), (VolumeBus.SCSI, 256), (VolumeBus.VIRTIO, 29), (VolumeBus.SATA, 6)]
)
def test_a_unit_outside_the_bus_is_refused(bus: VolumeBus, unit: int) -> None:
    with pytest.raises(StepNever, match=f"unit {unit} is outside"):
        build_disk(msgspec.structs.replace(DISK, unit=unit), bus)


def test_a_block_device_is_no_file() -> None:
    disk = build_disk(block_device=True)
    source = disk.find("source")
    assert disk.attrib["type"] == "block"
    assert source is not None
    assert source.attrib == {"dev": DISK.source_path}


@pytest.mark.parametrize("flag", ["read_only", "shareable"])
def test_a_disk_is_read_only_or_shareable_only_when_asked(flag: str) -> None:
    tag = flag.replace("_", "")
    assert build_disk().find(tag) is None
    assert build_disk(msgspec.structs.replace(DISK, **{flag: True})).find(tag) is not None


def test_what_was_written_is_read_back_without_the_root_disk() -> None:
    domain = build(volumes=(build_disk_xml(DISK, cache="none", block_device=False),))
    view = parse_domain_xml(ET.tostring(domain, encoding="unicode"))
    assert view.disks.keys() == {"ua-one"}
    found = view.disks["ua-one"]
    assert (found.serial, found.source_path, found.target) == (DISK.serial, DISK.source_path, DISK.target)


def test_limits_are_written_and_read_back_and_none_leave_no_trace() -> None:
    tuned = msgspec.structs.replace(DISK, tune=DiskTune(read_bytes_sec=4096, size_iops_sec=512))
    element = build_disk(tuned)
    assert {limit.tag: limit.text for limit in element.iterfind("iotune/*")} == {
        "read_bytes_sec": "4096",
        "size_iops_sec": "512",
    }
    found = parse_disk(element)
    assert found is not None
    assert found.tune == tuned.tune
    assert build_disk().find("iotune") is None


def test_volumes_are_kept_from_one_definition_to_the_next() -> None:
    first = build(volumes=(build_disk_xml(DISK, cache="none", block_device=False),))
    kept = take_volume_elements(ET.tostring(first, encoding="unicode"))
    second = build_domain_xml(SPEC, FILES, kvm=False, cache="none", volumes=kept)
    assert parse_domain_xml(second).disks == parse_domain_xml(ET.tostring(first, encoding="unicode")).disks


def test_the_last_mark_says_which_start_it_is() -> None:
    text = ET.tostring(build(), encoding="unicode")
    assert parse_domain_xml(mark_boot(mark_boot(text, "one"), "two")).boot_id == "two"


def test_every_index_in_the_xml_accounts_for_a_node() -> None:
    text = """<domain id='1'><devices><disk><source file='/v' index='4'/>
        <backingStore type='file'><format type='raw'/><source file='/b' index='3'/></backingStore>
        <mirror><source file='/m' index='9'/></mirror><alias name='ua-one'/><target dev='sdb'/></disk>
        <controller type='pci' index='7'/></devices></domain>"""
    view = parse_domain_xml(text)
    assert view.known_nodes == {3, 4, 9}
    assert view.nodes == {"ua-one": 4}


@pytest.mark.parametrize(
    "text",
    [
        "<domain",
        "<domain><devices><disk><alias/></disk></devices></domain>",
        "<domain><devices><disk><alias name='ua-1'/><target/></disk></devices></domain>",
        "<domain><devices><disk><alias name='ua-1'/><source index='x'/></disk></devices></domain>",
    ],
    ids=["cut short", "alias without a name", "target without a device", "index that is no number"],
)
def test_an_account_of_a_domain_that_cannot_be_read_is_one_error(text: str) -> None:
    with pytest.raises(Unreadable):
        parse_domain_xml(text)


@pytest.mark.parametrize(
    ("bus", "first", "second"), [(VolumeBus.SCSI, "sda", "sdzz"), (VolumeBus.VIRTIO, "vda", "vdzz")]
)
def test_a_rescued_server_has_its_rescue_disk_first_and_its_root_disk_out_of_the_volumes_way(
    bus: VolumeBus, first: str, second: str
) -> None:
    rescue = RescueSpec(number=1, image_path="/images/rescue", image_format="raw")
    spec = msgspec.structs.replace(SPEC, rescue=rescue, volume_bus=bus, image_format="qcow2")
    files = FILES._replace(rescue_disk="/servers/rescue-1.raw")
    domain = ET.fromstring(build_domain_xml(spec, files, kvm=False, cache="none", volumes=[]))
    disks = domain.findall("devices/disk")
    shown = [(disk.find("target"), disk.find("source"), disk.find("driver")) for disk in disks]
    assert [
        (target.attrib["dev"], source.attrib["file"], driver.attrib["type"])
        for target, source, driver in shown
        if target is not None and source is not None and driver is not None
    ] == [(first, "/servers/rescue-1.raw", "raw"), (second, "/servers/root.qcow2", "qcow2")]
    plain = msgspec.structs.replace(spec, rescue=None)
    ports = [
        len(ET.fromstring(text).findall("devices/controller[@model='pcie-root-port']"))
        for text in (build_domain_xml(one, files, kvm=False, cache="none", volumes=[]) for one in (plain, spec))
    ]
    assert ports == ([0, 0] if bus is VolumeBus.SCSI else [30, 31])


@pytest.mark.parametrize("is_cdrom", [False, True])
@pytest.mark.parametrize("bus", VolumeBus)
@pytest.mark.parametrize("rescue_bus", RescueBus)
def test_a_rescue_disk_beside_the_others_is_booted_from_and_leaves_them_where_they_are(
    rescue_bus: RescueBus, bus: VolumeBus, is_cdrom: bool
) -> None:
    place = RescuePlace(bus=rescue_bus, is_cdrom=is_cdrom)
    rescue = RescueSpec(number=1, image_path="/images/rescue", image_format="raw", place=place)
    plain = msgspec.structs.replace(SPEC, volume_bus=bus)
    rescued = msgspec.structs.replace(plain, rescue=rescue)
    files = FILES._replace(rescue_disk="/servers/rescue-1.raw")
    before, after = (
        ET.fromstring(build_domain_xml(spec, files, kvm=False, cache="none", volumes=[])) for spec in (plain, rescued)
    )
    (root,) = (ET.tostring(disk) for disk in before.findall("devices/disk"))
    disk, *others = sorted(after.findall("devices/disk"), key=lambda one: one.find("boot") is None)
    assert [ET.tostring(one) for one in others] == [root]
    target = disk.find("target")
    assert target is not None
    assert target.attrib == {"dev": "vdzz" if rescue_bus is RescueBus.VIRTIO else "sdzz", "bus": rescue_bus.value}
    assert (disk.attrib["device"], disk.find("readonly") is not None) == ("cdrom" if is_cdrom else "disk", is_cdrom)
    assert after.find("os/boot") is None, "libvirt takes no boot order of disks beside one of kinds"
    assert (after.find("devices/controller[@model='qemu-xhci']") is not None) is (rescue_bus is RescueBus.USB)
    has_scsi = after.find("devices/controller[@model='virtio-scsi']") is not None
    assert has_scsi is (VolumeBus.SCSI is bus or rescue_bus is RescueBus.SCSI)


def test_an_export_is_a_network_disk_whose_guest_waits_for_its_server_and_is_read_back() -> None:
    for address in ("127.0.0.1", "fd00::1"):
        remote = NbdSource(address=address, port=10809, name="a1b2", server_name="storage.kevel.invalid")
        disk = build_disk(msgspec.structs.replace(DISK, source_path=remote.uri))
        assert disk.attrib["type"] == "network"
        source, driver = disk.find("source"), disk.find("driver")
        assert source is not None
        assert driver is not None
        assert source.attrib["tls"] == "yes", "never in clear"
        assert (driver.attrib["error_policy"], driver.attrib["rerror_policy"]) == ("stop", "stop")
        view = parse_disk(disk)
        assert view is not None
        assert view.source_path == remote.uri
    local = build_disk().find("driver")
    assert local is not None
    assert local.attrib["error_policy"] == "report"
