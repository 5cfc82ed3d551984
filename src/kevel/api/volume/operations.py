"""The table of the block storage API v3."""

from __future__ import annotations

from typing import Final

from kevel.api.operations import VERSIONS_PATH, Api, ErrorStyle, Policy, Version
from kevel.api.volume import bodies, messages, replies, service, volumes
from kevel.api.volume.attachments.operations import ATTACHMENTS
from kevel.api.volume.backups.operations import BACKUPS
from kevel.api.volume.contents.operations import CONTENTS
from kevel.api.volume.group_snapshots.operations import GROUP_SNAPSHOTS
from kevel.api.volume.group_types.operations import GROUP_TYPES
from kevel.api.volume.groups.operations import GROUPS
from kevel.api.volume.managing.operations import MANAGING
from kevel.api.volume.old_flow.operations import OLD_FLOW
from kevel.api.volume.pool_moves.operations import POOL_MOVES
from kevel.api.volume.qos.operations import QOS
from kevel.api.volume.quotas.operations import QUOTAS
from kevel.api.volume.rows import PAGE_QUERY, act, public, read, write
from kevel.api.volume.services.operations import SERVICES
from kevel.api.volume.snapshots.operations import SNAPSHOTS
from kevel.api.volume.transfers.operations import TRANSFERS
from kevel.api.volume.types.operations import TYPES

LIST_QUERY: Final = (
    *PAGE_QUERY,
    "all_tenants",
    "with_count",
    "project_id",
    "id",
    "name",
    "display_name",
    "name~",
    "status",
    "metadata",
    "availability_zone",
    "bootable",
    "multiattach",
    "size",
    "user_id",
    "volume_type",
    "volume_type_id",
    "created_at",
    "updated_at",
    "group_id",
    "glance_metadata",
    "consumes_quota",
    "migration_status",
)
MESSAGES_QUERY: Final = (
    *PAGE_QUERY,
    "all_tenants",
    "project_id",
    "resource_uuid",
    "resource_type",
    "event_id",
    "request_id",
    "message_level",
)

VERSIONS: Final = (
    public(name="listVersions", reply=replies.VERSIONS, path=VERSIONS_PATH, handler=service.list_versions, success=300),
    public(name="showVersion", reply=replies.VERSIONS, path="/", handler=service.list_versions),
)

VOLUMES: Final = (
    read(
        name="listVolumes",
        reply=replies.VOLUMES,
        query_names=LIST_QUERY,
        new_id="/volumes/0/id",
        path="/volumes",
        handler=volumes.list_volumes,
        errors=(400, 404),
    ),
    read(
        name="listVolumeDetails",
        reply=replies.VOLUME_DETAILS,
        query_names=LIST_QUERY,
        path="/volumes/detail",
        handler=volumes.list_details,
        errors=(400, 404),
    ),
    read(
        name="summarizeVolumes",
        reply=replies.SUMMARY,
        query_names=("all_tenants",),
        path="/volumes/summary",
        handler=volumes.summarize_volumes,
        errors=(400,),
        since=Version(3, 12),
    ),
    write(
        name="createVolume",
        reply=replies.VOLUME,
        new_id="/volume/id",
        needs_space=True,
        once=True,
        method="POST",
        path="/volumes",
        handler=volumes.create_volume,
        success=202,
        errors=(400, 404, 413, 503),
        body=bodies.CreateVolume,
        until=Version(3, 52),
    ),
    write(
        name="createKnownVolume",
        reply=replies.VOLUME,
        new_id="/volume/id",
        needs_space=True,
        once=True,
        method="POST",
        path="/volumes",
        handler=volumes.create_volume,
        success=202,
        errors=(400, 404, 413, 503),
        body=bodies.CreateKnownVolume,
        since=Version(3, 53),
    ),
    read(
        name="showVolume", reply=replies.VOLUME, path="/volumes/{volume_id}", handler=volumes.show_volume, errors=(404,)
    ),
    write(
        name="updateVolume",
        reply=replies.VOLUME,
        method="PUT",
        path="/volumes/{volume_id}",
        handler=volumes.update_volume,
        errors=(400, 404, 413),
        body=bodies.UpdateVolume,
        until=Version(3, 52),
    ),
    write(
        name="updateKnownVolume",
        reply=replies.VOLUME,
        method="PUT",
        path="/volumes/{volume_id}",
        handler=volumes.update_volume,
        errors=(400, 404, 413),
        body=bodies.UpdateKnownVolume,
        since=Version(3, 53),
    ),
    write(
        name="deleteVolume",
        reply=None,
        query_names=("cascade", "force"),
        method="DELETE",
        path="/volumes/{volume_id}",
        handler=volumes.delete_volume,
        success=202,
        errors=(400, 404),
    ),
    read(
        name="showEncryption",
        reply=replies.EncryptionKey,
        path="/volumes/{volume_id}/encryption",
        handler=volumes.show_encryption,
        errors=(404,),
    ),
    read(
        name="showEncryptionItem",
        reply=dict[str, str | int | None],
        path="/volumes/{volume_id}/encryption/{key}",
        handler=volumes.show_encryption_item,
        errors=(404,),
    ),
    read(
        name="listMetadata",
        reply=replies.METADATA,
        path="/volumes/{volume_id}/metadata",
        handler=volumes.list_metadata,
        errors=(404,),
    ),
    write(
        name="addMetadata",
        reply=replies.METADATA,
        method="POST",
        path="/volumes/{volume_id}/metadata",
        handler=volumes.add_metadata,
        errors=(400, 404, 413),
        body=bodies.PutMetadata,
    ),
    write(
        name="replaceMetadata",
        reply=replies.METADATA,
        method="PUT",
        path="/volumes/{volume_id}/metadata",
        handler=volumes.replace_metadata,
        errors=(400, 404, 412, 413),
        body=bodies.PutMetadata,
    ),
    read(
        name="showMetadataItem",
        reply=replies.META,
        path="/volumes/{volume_id}/metadata/{key}",
        handler=volumes.show_metadata_item,
        errors=(404,),
    ),
    write(
        name="putMetadataItem",
        reply=replies.META,
        method="PUT",
        path="/volumes/{volume_id}/metadata/{key}",
        handler=volumes.put_metadata_item,
        errors=(400, 404, 412, 413),
        body=bodies.PutMetadataItem,
    ),
    write(
        name="removeMetadataItem",
        reply=None,
        method="DELETE",
        path="/volumes/{volume_id}/metadata/{key}",
        handler=volumes.remove_metadata_item,
        errors=(404,),
    ),
)

ACTIONS: Final = (
    act(
        name="extendVolume",
        needs_space=True,
        action="os-extend",
        handler=volumes.extend_volume,
        body=bodies.Extend,
        errors=(400, 404, 413, 503),
    ),
    act(
        name="completeExtend",
        action="os-extend_volume_completion",
        handler=volumes.complete_extend,
        body=bodies.CompleteExtend,
        policy=Policy.SERVICE,
        since=Version(3, 71),
    ),
    act(
        name="setBootable",
        action="os-set_bootable",
        handler=volumes.set_bootable,
        body=bodies.SetBootable,
        success=200,
    ),
    act(
        name="setReadonly",
        action="os-update_readonly_flag",
        handler=volumes.set_readonly,
        body=bodies.SetReadonly,
    ),
    act(
        name="resetStatus",
        action="os-reset_status",
        handler=volumes.reset_status,
        body=bodies.ResetStatus,
        policy=Policy.ADMIN,
    ),
    act(
        name="forceDeleteVolume",
        action="os-force_delete",
        handler=volumes.force_delete_volume,
        policy=Policy.ADMIN,
    ),
)

MESSAGES: Final = (
    read(
        name="listMessages",
        reply=replies.MESSAGES,
        query_names=MESSAGES_QUERY,
        new_id="/messages/0/id",
        path="/messages",
        handler=messages.list_messages,
        errors=(400, 404),
        since=Version(3, 3),
    ),
    read(
        name="showMessage",
        reply=replies.MESSAGE,
        path="/messages/{message_id}",
        handler=messages.show_one,
        errors=(404,),
        since=Version(3, 3),
    ),
    write(
        name="deleteMessage",
        reply=None,
        method="DELETE",
        path="/messages/{message_id}",
        handler=messages.delete_one,
        success=204,
        errors=(404,),
        since=Version(3, 3),
    ),
)

API: Final = Api(
    name="volume",
    prefix="/volume/v3",
    operations=(
        *VERSIONS,
        *VOLUMES,
        *ACTIONS,
        *OLD_FLOW,
        *ATTACHMENTS,
        *MESSAGES,
        *TYPES,
        *CONTENTS,
        *POOL_MOVES,
        *SNAPSHOTS,
        *MANAGING,
        *TRANSFERS,
        *BACKUPS,
        *GROUP_TYPES,
        *GROUPS,
        *GROUP_SNAPSHOTS,
        *QUOTAS,
        *SERVICES,
        *QOS,
    ),
    error_style=ErrorStyle.COMPUTE,
    versions=(service.VERSION_LOWEST, service.VERSION_HIGHEST),
    version_service="volume",
    project_in_path=True,
    request_id_headers=("x-openstack-request-id", "x-compute-request-id"),
)
