"""What Tempest is pointed at: a `kevel up` of its own, furnished, and the configuration that names it."""

from __future__ import annotations

import configparser
import shutil
import sysconfig
import tempfile
from pathlib import Path
from typing import Any, Final

import httpx

from kevel.cli.client import ApiClient
from kevel.cli.process import KevelProcess
from kevel.domain.errors import KevelError
from tests.tempest.network import EmptyNetwork

#: The simulated host plugs at once; real guests are booted where the compute tests need them.
HYPERVISORS: Final = ("sim", "libvirt")
IMAGE_BYTES: Final = 1 << 20
#: What Tempest waits between two looks, in whole seconds; a simulated host is done before the second one.
LOOK_AGAIN_S: Final = 0
#: Guests that ignore a request to stop are not waited for long; the tests of capabilities and pools want two pools.
CONFIG: Final = '[limits]\nshutdown_grace_s = 2.0\nreboot_grace_s = 2.0\n[[pools]]\nname = "second"\ndirectory = '


class Stand:
    """One Kevel, with what Tempest expects to find, in a directory with a short path (unix sockets)."""

    def __init__(self, hypervisor: str) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="kv-"))
        (self.root / "c.toml").write_text(f'{CONFIG}"{self.root / "second"}"\n')
        options = ("--hypervisor", hypervisor, "--config", str(self.root / "c.toml"))
        self.kevel = KevelProcess(self.root / "d", *options)
        self.network = EmptyNetwork()
        self.workspace = self.root / "t"

    def start(self) -> None:
        """Start Kevel, make images, flavors, types and the catalog's network, and write Tempest's configuration."""
        client = self.kevel.start().client
        url = str(client.http.base_url).rstrip("/")
        images = [_make_image(client, name) for name in ("judge", "judge-alt")]
        for number, ram_mib in (("71", 64), ("72", 128)):
            flavor = {"id": number, "name": f"judge-{ram_mib}", "ram": ram_mib, "disk": 1, "vcpus": 1}
            client.post("/compute/v2.1/flavors", {"flavor": flavor})
        shared = {"name": "judge-shared", "extra_specs": {"multiattach": "<is> True"}}
        client.post("/volume/v3/types", {"volume_type": shared})
        service = client.post("/identity/v3/services", {"service": {"type": "network", "name": "none"}})["service"]
        endpoint = {"service_id": service["id"], "interface": "public", "url": self.network.url}
        client.post("/identity/v3/endpoints", {"endpoint": endpoint})
        pool = client.get("/volume/v3/scheduler-stats/get_pools?detail=true")["pools"][0]["capabilities"]
        password = (self.kevel.data / "admin-password").read_text().strip()
        self._write_workspace(_configure(url, password, images, pool, str(self.workspace / "locks")))

    def _write_workspace(self, config: dict[str, dict[str, object]]) -> None:
        (self.workspace / "etc").mkdir(parents=True)
        (self.workspace / "locks").mkdir()
        packages = sysconfig.get_path("purelib")
        stestr = f"[DEFAULT]\ntest_path={packages}/tempest/test_discover\ntop_dir={packages}\n"
        (self.workspace / ".stestr.conf").write_text(stestr + "group_regex=([^\\.]*\\.)*\n")
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_dict({section: {key: str(value) for key, value in of.items()} for section, of in config.items()})
        with (self.workspace / "etc" / "tempest.conf").open("w") as file:
            parser.write(file)

    def close(self, *, keep: bool = False) -> None:
        """Stop everything; nothing is left, unless asked to keep the directory."""
        self.kevel.kill()
        self.network.close()
        if not keep:
            shutil.rmtree(self.root, ignore_errors=True)


def _make_image(client: ApiClient, name: str) -> str:
    image: dict[str, Any] = {"name": name, "disk_format": "raw", "container_format": "bare", "visibility": "public"}
    image_id = str(client.post("/image/v2/images", image)["id"])
    headers = {"Content-Type": "application/octet-stream"}
    answer = client.http.put(f"/image/v2/images/{image_id}/file", content=bytes(IMAGE_BYTES), headers=headers)
    if answer.is_error:
        raise KevelError(f"Image {name}: HTTP {answer.status_code}, expected {httpx.codes.NO_CONTENT}.")
    return image_id


def _configure(
    url: str, password: str, images: list[str], pool: dict[str, Any], locks: str
) -> dict[str, dict[str, object]]:
    identity = f"{url}/identity/v3"
    return {
        "DEFAULT": {"log_file": "tempest.log", "use_stderr": False},
        "oslo_concurrency": {"lock_path": locks},
        "auth": {
            "use_dynamic_credentials": True,
            "admin_username": "admin",
            "admin_password": password,
            "admin_project_name": "admin",
            "admin_domain_name": "Default",
            "create_isolated_networks": False,
            "tempest_roles": "member",
        },
        "identity": {"uri_v3": identity, "auth_version": "v3", "v3_endpoint_type": "public"},
        "service_available": {
            "neutron": True,
            "cinder": True,
            "nova": True,
            "glance": True,
            "swift": False,
            "horizon": False,
        },
        "validation": {"run_validation": False},
        "compute": {
            "image_ref": images[0],
            "image_ref_alt": images[1],
            "flavor_ref": "71",
            "flavor_ref_alt": "72",
            "build_interval": LOOK_AGAIN_S,
            "build_timeout": 60,
            "max_microversion": "latest",
            "fixed_network_name": "",
        },
        "compute-feature-enabled": {
            "volume_multiattach": True,
            # Kevel sets no password in a guest, and so tells none.
            "enable_instance_password": False,
            "pause": True,
            "suspend": True,
            "rescue": True,
            "resize": True,
            # Shelved servers leave their hosts at once, as is the default in Kevel and here.
            "snapshot": True,
            "shelve": True,
        },
        "volume": {
            "build_interval": LOOK_AGAIN_S,
            "build_timeout": 60,
            "catalog_type": "block-storage",
            "max_microversion": "latest",
            "volume_type_multiattach": "judge-shared",
            "storage_protocol": pool.get("storage_protocol", "file"),
            "vendor_name": pool.get("vendor_name", "Kevel"),
            "backup_driver": "posix",
            "backend_names": "directory,second",
            "manage_volume_ref": "source-name,volume-%s",
            "manage_snapshot_ref": "source-name,snapshot-%s",
        },
        "volume-feature-enabled": {
            "backup": True,
            "snapshot": True,
            "clone": True,
            "manage_volume": True,
            "manage_snapshot": True,
            "extend_attached_volume": True,
            # The test with LUKS passes; with it comes that with LUKS 2, which Kevel refuses.
            "extend_attached_encrypted_volume": False,
            "multi_backend": True,
        },
    }
