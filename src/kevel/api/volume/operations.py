"""The table of the block storage API v3."""

from __future__ import annotations

from functools import partial
from typing import Final

from kevel.api.operations import VERSIONS_PATH, Api, ErrorStyle, Operation, Policy, Version
from kevel.api.volume import attachments, bodies, messages, service, types, volumes

_public = partial(Operation, method="GET", policy=Policy.PUBLIC)
_read = partial(Operation, method="GET", policy=Policy.READER)
_write = partial(Operation, policy=Policy.MEMBER)
_act = partial(
    Operation,
    method="POST",
    path="/volumes/{volume_id}/action",
    policy=Policy.MEMBER,
    success=202,
    errors=(400, 404),
)
_admin = partial(Operation, policy=Policy.ADMIN)

SERVICE: Final = (
    _public(name="listVersions", path=VERSIONS_PATH, handler=service.list_versions, success=300),
    _public(name="showVersion", path="/", handler=service.list_versions),
    _read(name="listExtensions", path="/extensions", handler=service.list_extensions),
    _read(name="showLimits", path="/limits", handler=service.show_limits),
    _read(name="listZones", path="/os-availability-zone", handler=service.list_zones),
    _admin(name="listServices", method="GET", path="/os-services", handler=service.list_services),
    _admin(
        name="listPools",
        method="GET",
        path="/scheduler-stats/get_pools",
        handler=service.list_pools,
        errors=(400,),
    ),
)

VOLUMES: Final = (
    _read(name="listVolumes", path="/volumes", handler=volumes.list_volumes, errors=(400, 404)),
    _read(name="listVolumeDetails", path="/volumes/detail", handler=volumes.list_details, errors=(400, 404)),
    _read(
        name="summarizeVolumes",
        path="/volumes/summary",
        handler=volumes.summarize_volumes,
        errors=(400,),
        since=Version(3, 12),
    ),
    _write(
        name="createVolume",
        needs_space=True,
        method="POST",
        path="/volumes",
        handler=volumes.create_volume,
        success=202,
        errors=(400, 404, 413, 503),
        body=bodies.CreateVolume,
        until=Version(3, 52),
    ),
    _write(
        name="createKnownVolume",
        needs_space=True,
        method="POST",
        path="/volumes",
        handler=volumes.create_volume,
        success=202,
        errors=(400, 404, 413, 503),
        body=bodies.CreateKnownVolume,
        since=Version(3, 53),
    ),
    _read(name="showVolume", path="/volumes/{volume_id}", handler=volumes.show_volume, errors=(404,)),
    _write(
        name="updateVolume",
        method="PUT",
        path="/volumes/{volume_id}",
        handler=volumes.update_volume,
        errors=(400, 404, 413),
        body=bodies.UpdateVolume,
        until=Version(3, 52),
    ),
    _write(
        name="updateKnownVolume",
        method="PUT",
        path="/volumes/{volume_id}",
        handler=volumes.update_volume,
        errors=(400, 404, 413),
        body=bodies.UpdateKnownVolume,
        since=Version(3, 53),
    ),
    _write(
        name="deleteVolume",
        method="DELETE",
        path="/volumes/{volume_id}",
        handler=volumes.delete_volume,
        success=202,
        errors=(400, 404),
    ),
    _read(
        name="showEncryption", path="/volumes/{volume_id}/encryption", handler=volumes.show_encryption, errors=(404,)
    ),
    _read(name="listMetadata", path="/volumes/{volume_id}/metadata", handler=volumes.list_metadata, errors=(404,)),
    _write(
        name="addMetadata",
        method="POST",
        path="/volumes/{volume_id}/metadata",
        handler=volumes.add_metadata,
        errors=(400, 404, 413),
        body=bodies.PutMetadata,
    ),
    _write(
        name="replaceMetadata",
        method="PUT",
        path="/volumes/{volume_id}/metadata",
        handler=volumes.replace_metadata,
        errors=(400, 404, 413),
        body=bodies.PutMetadata,
    ),
    _read(
        name="showMetadataItem",
        path="/volumes/{volume_id}/metadata/{key}",
        handler=volumes.show_metadata_item,
        errors=(404,),
    ),
    _write(
        name="putMetadataItem",
        method="PUT",
        path="/volumes/{volume_id}/metadata/{key}",
        handler=volumes.put_metadata_item,
        errors=(400, 404, 413),
        body=bodies.PutMetadataItem,
    ),
    _write(
        name="removeMetadataItem",
        method="DELETE",
        path="/volumes/{volume_id}/metadata/{key}",
        handler=volumes.remove_metadata_item,
        errors=(404,),
    ),
)

ACTIONS: Final = (
    _act(
        name="extendVolume",
        needs_space=True,
        action="os-extend",
        handler=volumes.extend_volume,
        body=bodies.Extend,
        errors=(400, 404, 413, 503),
    ),
    _act(
        name="setBootable",
        action="os-set_bootable",
        handler=volumes.set_bootable,
        body=bodies.SetBootable,
        success=200,
    ),
    _act(
        name="setReadonly",
        action="os-update_readonly_flag",
        handler=volumes.set_readonly,
        body=bodies.SetReadonly,
    ),
    _act(name="retypeVolume", action="os-retype", handler=volumes.retype_volume, body=bodies.Retype),
    _act(
        name="resetStatus",
        action="os-reset_status",
        handler=volumes.reset_status,
        body=bodies.ResetStatus,
        policy=Policy.ADMIN,
    ),
    _act(
        name="forceDeleteVolume",
        action="os-force_delete",
        handler=volumes.force_delete_volume,
        policy=Policy.ADMIN,
    ),
)

ATTACHMENTS: Final = (
    _read(
        name="listAttachments",
        path="/attachments",
        handler=attachments.list_attachments,
        errors=(400, 404),
        since=Version(3, 27),
    ),
    _read(
        name="listAttachmentDetails",
        path="/attachments/detail",
        handler=attachments.list_details,
        errors=(400, 404),
        since=Version(3, 27),
    ),
    _read(
        name="showAttachment",
        path="/attachments/{attachment_id}",
        handler=attachments.show_one,
        errors=(404,),
        since=Version(3, 27),
    ),
)

MESSAGES: Final = (
    _read(
        name="listMessages", path="/messages", handler=messages.list_messages, errors=(400, 404), since=Version(3, 3)
    ),
    _read(
        name="showMessage",
        path="/messages/{message_id}",
        handler=messages.show_one,
        errors=(404,),
        since=Version(3, 3),
    ),
    _write(
        name="deleteMessage",
        method="DELETE",
        path="/messages/{message_id}",
        handler=messages.delete_one,
        success=204,
        errors=(404,),
        since=Version(3, 3),
    ),
)

TYPES: Final = (
    _read(name="listTypes", path="/types", handler=types.list_types, errors=(400, 404)),
    _read(name="showDefaultType", path="/types/default", handler=types.show_default_type),
    _read(name="showType", path="/types/{type_id}", handler=types.show_one, errors=(404,)),
    _admin(
        name="createType",
        method="POST",
        path="/types",
        handler=types.create_type,
        errors=(400, 409),
        body=bodies.CreateType,
    ),
    _admin(
        name="updateType",
        method="PUT",
        path="/types/{type_id}",
        handler=types.update_type,
        errors=(400, 404, 409),
        body=bodies.UpdateType,
    ),
    _admin(
        name="deleteType",
        method="DELETE",
        path="/types/{type_id}",
        handler=types.delete_type,
        success=202,
        errors=(400, 404),
    ),
    _admin(
        name="listTypeAccess",
        method="GET",
        path="/types/{type_id}/os-volume-type-access",
        handler=types.list_access,
        errors=(404,),
    ),
    _read(name="listSpecs", path="/types/{type_id}/extra_specs", handler=types.list_specs, errors=(404,)),
    _admin(
        name="addSpecs",
        method="POST",
        path="/types/{type_id}/extra_specs",
        handler=types.add_specs,
        errors=(400, 404),
        body=bodies.PutSpecs,
    ),
    _read(name="showSpec", path="/types/{type_id}/extra_specs/{key}", handler=types.show_spec, errors=(404,)),
    _admin(
        name="putSpec",
        method="PUT",
        path="/types/{type_id}/extra_specs/{key}",
        handler=types.put_spec,
        errors=(400, 404),
        body=dict[bodies.Key, bodies.Text],
    ),
    _admin(
        name="removeSpec",
        method="DELETE",
        path="/types/{type_id}/extra_specs/{key}",
        handler=types.remove_spec,
        success=202,
        errors=(404,),
    ),
)

API: Final = Api(
    name="volume",
    prefix="/volume/v3",
    operations=(*SERVICE, *VOLUMES, *ACTIONS, *ATTACHMENTS, *MESSAGES, *TYPES),
    error_style=ErrorStyle.COMPUTE,
    versions=(service.VERSION_LOWEST, service.VERSION_HIGHEST),
    version_service="volume",
    project_in_path=True,
    request_id_headers=("x-openstack-request-id", "x-compute-request-id"),
)
