"""Build the tiny guest: a kernel, an initramfs with busybox and the QEMU guest agent, and an empty root disk.

    python3 scripts/build_guest.py .cache/guest

Everything comes out of Debian's packages, which are downloaded and unpacked but never installed. It takes no compiler,
no root and nothing outside the standard library but `apt-get`, `apt-cache` and `dpkg-deb`. The same packages give the
same bytes. What the guest does when it boots is in `scripts/guest/init`.

    vmlinuz      the kernel as the package has it: booting it uncompressed (PVH) was measured and is no faster
    initrd.img   gzip of a newc archive: the whole user space of the guest
    tiny.img     1 MiB of zeros, raw: the root disk that a server's image has to have; the guest leaves it alone
"""

from __future__ import annotations

import gzip
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

#: The distribution's own choice of a kernel for virtual machines: a package that depends on the newest of its series.
KERNEL_METAPACKAGE = "linux-image-cloud-amd64"
BUSYBOX_PACKAGE = "busybox-static"
AGENT_PACKAGE = "qemu-guest-agent"

#: What the guest loads at boot, without the modules that these depend on (`order_modules` adds them). `button` and
#: `evdev` bring the ACPI power button to busybox's acpid.
MODULES = ("virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "virtio_console", "virtio_rng", "button", "evdev")

GUEST_FILES = Path(__file__).parent / "guest"
GUEST_DIRECTORIES = (
    *("bin", "dev", "etc", "etc/acpi", "etc/acpi/PWRF", "lib", "lib/x86_64-linux-gnu", "lib64", "mnt", "modules"),
    *("proc", "root", "run", "sbin", "sys", "tmp", "usr", "usr/bin", "usr/sbin", "var", "var/log"),
)
#: Where each file of `scripts/guest` goes in the guest. The last is what busybox's acpid runs for the power button.
GUEST_SCRIPTS = {
    "init": "init",
    "disks": "bin/disks",
    "shutdown": "sbin/shutdown",
    "power-button": "etc/acpi/PWRF/00000080",
}
LOADER = "lib64/ld-linux-x86-64.so.2"
LIBRARY_DIRECTORIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")

ROOT_DISK_BYTES = 1 << 20
#: qemu-ga -> glib -> pcre is three levels; more than this means that the packages are not what we take them for.
LIBRARY_DEPTH_MAX = 5
COMMAND_TIMEOUT_S = 300


class GuestError(Exception):
    """The guest cannot be built here; the message says what was wrong and what to do."""


def run_command(*command: str | Path, cwd: Path | None = None) -> str:
    """Return what the command printed; raise GuestError with its last words when it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            check=True,
            text=True,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise GuestError(f"{command[0]} is not here; the guest is built from Debian's packages, on Debian") from error
    except subprocess.TimeoutExpired as error:
        raise GuestError(f"{command[0]} did not end within {COMMAND_TIMEOUT_S} s") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "nothing").strip().splitlines()[-1]
        raise GuestError(f"`{' '.join(map(str, command))}` failed: {said}") from error
    return done.stdout


def find_kernel_package() -> str:
    """Return the name of the kernel package that the metapackage stands for in the package index."""
    try:
        listing = run_command("apt-cache", "depends", "--important", KERNEL_METAPACKAGE)
    except GuestError as error:
        raise GuestError(f"no {KERNEL_METAPACKAGE} in the package index; run `apt-get update` as root first") from error
    names: list[str] = re.findall(r"Depends: (linux-image-\S+)", listing)
    if not names:
        raise GuestError(f"{KERNEL_METAPACKAGE} depends on no kernel; run `apt-get update` as root first")
    return names[0]


def download_packages(names: Iterable[str], cache: Path, root: Path) -> list[Path]:
    """Download packages into `cache` and unpack them under `root`; return the .deb files."""
    before = set(cache.glob("*.deb"))
    # apt's own sandbox user could not write into our directory; it would only print a warning about that.
    run_command("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *names, cwd=cache)
    debs = sorted(set(cache.glob("*.deb")) - before)
    for deb in debs:
        run_command("dpkg-deb", "-x", deb, root)
    return debs


def list_library_packages(deb: Path) -> set[str]:
    """Return the names of the library packages that a package needs, without versions and second choices."""
    depends = run_command("dpkg-deb", "-f", deb, "Depends")
    names = {re.split(r"[ :(|]", item.strip())[0] for item in depends.split(",") if item.strip()}
    return {name for name in names if name.startswith(("lib", "zlib"))}


def collect_libraries(program: Path, deb: Path, cache: Path, root: Path) -> dict[str, Path]:
    """Return the shared objects that the program loads, by the path that each has in the guest.

    They come from Debian's packages and not from this machine, so the guest is the same wherever it is built. The
    packages' own loader resolves them: level by level the dependencies are unpacked until nothing is missing.
    """
    known: set[str] = set()
    debs = [deb]
    for _ in range(LIBRARY_DEPTH_MAX):
        wanted = set().union(*map(list_library_packages, debs)) - known
        if not wanted:
            break
        known |= wanted
        debs = download_packages(sorted(wanted), cache, root)
        search = ":".join(str(root / directory) for directory in LIBRARY_DIRECTORIES)
        listing = run_command(root / LOADER, "--inhibit-cache", "--library-path", search, "--list", program)
        # All of them, and from there: the loader also looks in the directories of the machine that runs it.
        paths = [root / path for path in re.findall(rf"=> {re.escape(str(root))}/(\S+) ", listing)]
        if paths and len(paths) == listing.count("=>"):
            return {f"lib/x86_64-linux-gnu/{path.name}": path for path in paths} | {LOADER: root / LOADER}
    raise GuestError(f"the libraries of {program.name} could not be found in Debian's packages")


def order_modules(modules: Path, names: Iterable[str]) -> list[Path]:
    """Return the named kernel modules and all that they depend on, in an order in which `insmod` takes them.

    The dependencies stand in each module's own `.modinfo`, since a kernel package comes without `modules.dep`. A name
    that is built into the kernel has no file and is left out.
    """
    files = {path.stem.replace("-", "_"): path for path in modules.rglob("*.ko")}
    ordered: dict[str, Path] = {}

    def add_module(name: str) -> None:
        if name in ordered or name not in files:
            return
        listed = re.search(rb"\0depends=([^\0]*)\0", files[name].read_bytes())
        for dependency in listed[1].decode().split(",") if listed and listed[1] else ():
            add_module(dependency.replace("-", "_"))
        ordered[name] = files[name]

    for name in names:
        add_module(name)
    return list(ordered.values())


class Archive:
    """A newc cpio archive, which is what the kernel unpacks as its first root; all files belong to root, of no date."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._entries = 0

    def add_directory(self, name: str) -> None:
        self._add(name, stat.S_IFDIR | 0o755)

    def add_file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        self._add(name, stat.S_IFREG | mode, content)

    def add_link(self, name: str, target: str) -> None:
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def add_character_device(self, name: str, major: int, minor: int) -> None:
        self._add(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def to_bytes(self) -> bytes:
        """Return the archive, closed; nothing can be added afterwards."""
        self._add("TRAILER!!!", 0)
        return bytes(self._content)

    def _add(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._entries += 1
        encoded = name.encode() + b"\0"
        # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        fields = (self._entries, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
        for part in (b"070701" + b"".join(b"%08X" % field for field in fields) + encoded, content):
            self._content += part + bytes(-len(part) % 4)


def build_initramfs(root: Path, modules: Path, libraries: dict[str, Path]) -> bytes:
    """Return the guest's user space as a newc archive, from packages unpacked under `root`."""
    archive = Archive()
    for directory in GUEST_DIRECTORIES:
        archive.add_directory(directory)
    # The kernel opens it for init before devtmpfs is there.
    archive.add_character_device("dev/console", 5, 1)
    busybox = root / "bin/busybox"
    archive.add_file("bin/busybox", busybox.read_bytes(), 0o755)
    for applet in run_command(busybox, "--list").split():
        if applet != "busybox":
            archive.add_link(f"bin/{applet}", "busybox")
    archive.add_file("sbin/qemu-ga", (root / "usr/sbin/qemu-ga").read_bytes(), 0o755)
    for name, path in sorted(libraries.items()):
        archive.add_file(name, path.read_bytes(), 0o755)
    # Numbered, so that the shell's own sorting loads them in order.
    for number, path in enumerate(order_modules(modules, MODULES)):
        archive.add_file(f"modules/{number:02d}-{path.stem.replace('-', '_')}.ko", path.read_bytes())
    archive.add_link("var/run", "../run")
    for source, name in GUEST_SCRIPTS.items():
        archive.add_file(name, (GUEST_FILES / source).read_bytes(), 0o755)
    return archive.to_bytes()


def build_guest(output: Path) -> None:
    """Write the guest's three files into `output`; each appears whole or not at all."""
    output.mkdir(parents=True, exist_ok=True)
    kernel_package = find_kernel_package()
    with tempfile.TemporaryDirectory(prefix="build-", dir=output) as scratch:
        cache, root, made = (Path(scratch, name) for name in ("debs", "root", "made"))
        for directory in (cache, root, made):
            directory.mkdir()
        print(f"guest: downloading {kernel_package}, {BUSYBOX_PACKAGE}, {AGENT_PACKAGE} and its libraries", flush=True)
        download_packages([kernel_package, BUSYBOX_PACKAGE], cache, root)
        (agent_deb,) = download_packages([AGENT_PACKAGE], cache, root)
        libraries = collect_libraries(root / "usr/sbin/qemu-ga", agent_deb, cache, root)
        print("guest: building the initramfs", flush=True)
        release = kernel_package.removeprefix("linux-image-")
        initramfs = build_initramfs(root, root / "lib/modules" / release, libraries)
        (made / "initrd.img").write_bytes(gzip.compress(initramfs, 6, mtime=0))
        shutil.copyfile(root / "boot" / f"vmlinuz-{release}", made / "vmlinuz")
        (made / "tiny.img").write_bytes(bytes(ROOT_DISK_BYTES))
        for path in sorted(made.iterdir()):
            path.replace(output / path.name)
            print(f"guest: {output / path.name}: {(output / path.name).stat().st_size / 1e6:.1f} MB", flush=True)


def main() -> int:
    """Build the guest into the directory named on the command line."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(f"usage: {Path(sys.argv[0]).name} DIRECTORY", file=sys.stderr)
        return 2
    missing = [tool for tool in ("apt-get", "apt-cache", "dpkg-deb") if shutil.which(tool) is None]
    try:
        if missing:
            raise GuestError(f"{', '.join(missing)} not found; the guest is built from Debian's packages, on Debian")
        build_guest(Path(sys.argv[1]))
    except GuestError as error:
        print(f"guest: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
