"""How volumes and attachments are shown, at each microversion."""

from __future__ import annotations

from typing import Any

from kevel.api.operations import Call, Version
from kevel.api.volume.values import show_time
from kevel.domain.model import Attachment
from kevel.store.attachments import AttachmentView
from kevel.store.volume_lists import VolumeView


class VolumeShower:
    """Shows volumes to one caller at one microversion; what is the same for all of them is decided once."""

    def __init__(self, call: Call) -> None:
        self._base = call.base_url
        self._bookmark = call.base_url.rpartition("/")[0]
        self._address = call.services.pools.address
        self._admin = call.caller.is_admin
        self._sees_hosts = self._admin or "service" in call.caller.roles
        version = call.version
        self._extra: dict[str, Any] = {}
        if version >= Version(3, 21) and self._admin:
            self._extra["provider_id"] = None
        if version >= Version(3, 48):
            self._extra |= {"shared_targets": False, "service_uuid": None}
        if version >= Version(3, 61) and self._admin:
            self._extra["cluster_name"] = None
        if version >= Version(3, 65):
            self._extra["consumes_quota"] = True
        self._shows_group = version >= Version(3, 13)
        self._shows_key_id = version >= Version(3, 64)
        self._shows_type_id = version >= Version(3, 63)

    def summary(self, view: VolumeView) -> dict[str, Any]:
        """A line of the short list."""
        return {"id": view.volume.id, "name": view.volume.name, "links": self._links(view.volume.id)}

    def detail(self, view: VolumeView) -> dict[str, Any]:
        """All that the caller may see of it."""
        shown = self.changed(view)
        shown["os-vol-tenant-attr:tenant_id"] = view.volume.project_id
        if view.volume.image_metadata is not None:
            shown["volume_image_metadata"] = view.volume.image_metadata
        if self._admin:
            shown["os-vol-host-attr:host"] = self._address(view.volume)
            shown["os-vol-mig-status-attr:migstat"] = view.migration_status
            shown["os-vol-mig-status-attr:name_id"] = None
        return shown

    def changed(self, view: VolumeView) -> dict[str, Any]:
        """The answer to creating and updating, in which Cinder leaves its extensions' attributes out."""
        volume = view.volume
        attached = view.attached if view.attachments else []
        metadata = volume.metadata
        if volume.readonly_asked or attached:
            metadata = metadata | self._flags(view, is_attached=bool(attached))
        shown = {
            "id": volume.id,
            "status": view.status,
            "size": volume.size_gib,
            "availability_zone": volume.availability_zone,
            "created_at": show_time(volume.created_at),
            "updated_at": show_time(volume.updated_at),
            "name": volume.name,
            "description": volume.description,
            "volume_type": view.type_name,
            "snapshot_id": volume.snapshot_id,
            "source_volid": volume.source_volume_id,
            "metadata": metadata,
            "links": self._links(volume.id),
            "user_id": volume.user_id,
            "bootable": "true" if volume.bootable else "false",
            "encrypted": volume.encryption_key_id is not None,
            "replication_status": None,
            "consistencygroup_id": None,
            "multiattach": volume.multiattach,
            "attachments": [self._attachment(one) for one in attached],
            **self._extra,
        }
        if self._shows_group:
            shown["group_id"] = volume.group_id
        if self._shows_key_id and volume.encryption_key_id is not None:
            shown["encryption_key_id"] = volume.encryption_key_id
        if self._shows_type_id:
            shown["volume_type_id"] = volume.volume_type_id
        if self._admin:
            shown["migration_status"] = view.migration_status
        return shown

    def _links(self, volume_id: str) -> list[dict[str, str]]:
        return [
            {"rel": "self", "href": f"{self._base}/volumes/{volume_id}"},
            {"rel": "bookmark", "href": f"{self._bookmark}/volumes/{volume_id}"},
        ]

    @staticmethod
    def _flags(view: VolumeView, *, is_attached: bool) -> dict[str, str]:
        """What Cinder shows among the user's metadata."""
        flags: dict[str, str] = {}
        if view.volume.readonly_asked:
            flags["readonly"] = str(view.volume.readonly)
        if is_attached:
            flags["attached_mode"] = attach_mode(view.attached[0].attachment, readonly=view.volume.readonly)
        return flags

    def _attachment(self, view: AttachmentView) -> dict[str, Any]:
        attachment = view.attachment
        host = attachment.consumer_host if view.path is None or attachment.is_external else view.path.host
        return {
            "id": attachment.volume_id,
            "attachment_id": attachment.id,
            "volume_id": attachment.volume_id,
            "server_id": attachment.server_id or attachment.instance_id,
            "host_name": host if self._sees_hosts else None,
            "device": attachment.device,
            "attached_at": show_time(attachment.attached_at),
        }


def attach_mode(attachment: Attachment, *, readonly: bool) -> str:
    """Cinder's word for how an attachment has its volume; "null" where a client has not said it yet."""
    if readonly:
        return "ro"
    return attachment.mode or "null" if attachment.is_external else "rw"
