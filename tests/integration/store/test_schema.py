"""The schema refuses what must never be (S1, S3, S4, S13): each forbidden state is written with raw SQL here.

All tests start from one legal world with one row in each table: a volume plugged into a running server. The tables are
read from the metadata: a new CHECK, unique index or foreign key without a case of its name fails this module.
"""

# ruff: noqa: S608 - raw SQL is what these tests are about, and all of it stands here

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest
from sqlalchemy import Boolean, CheckConstraint, Connection, Engine, ForeignKeyConstraint, UniqueConstraint, text
from sqlalchemy.exc import IntegrityError

from kevel.store.schema import metadata

#: One row a table, parents first.
WORLD: dict[str, dict[str, object]] = {
    "hosts": {
        "name": "here",
        "version": 1,
        "epoch": 1,
        "availability_zone": "nova",
        "facts": "{}",
        "registered_at": 1,
        "seen_at": 1,
    },
    "writers": {"id": "writer", "batch": 0},
    "join_tokens": {"digest": "d", "host": "here", "created_at": 1, "expires_at": 2},
    "host_credentials": {"serial": "1f", "host": "here", "issued_at": 1, "expires_at": 2},
    "censuses": {"subject": "host:here", "number": 0, "epoch": 1, "sequence": 1, "at": 1, "counted": "{}"},
    "findings": {"id": 1, "subject": "host:here", "kind": "server_unknown", "key": "stray", "found_at": 1},
    "messages": {
        "id": "message",
        "project_id": "project",
        "request_id": "req-1",
        "resource_type": "VOLUME",
        "resource_uuid": "volume",
        "action_id": "002",
        "detail_id": "021",
        "text": "The guest is full.",
        "created_at": 1,
        "expires_at": 2,
    },
    "flavors": {
        "id": "flavor",
        "name": "tiny",
        "vcpus": 1,
        "ram_mib": 64,
        "disk_gib": 0,
        "ephemeral_gib": 0,
        "swap_mib": 0,
        "is_public": 1,
        "extra_specs": "{}",
        "rxtx_factor": 1.0,
    },
    "keypairs": {
        "id": 1,
        "user_id": "user",
        "name": "mine",
        "kind": "ssh",
        "public_key": "ssh-ed25519 AAAA",
        "fingerprint": "00:11",
        "created_at": 1,
    },
    "server_groups": {
        "id": "near",
        "project_id": "project",
        "user_id": "user",
        "name": "near",
        "policy": "affinity",
        "created_at": 1,
    },
    "kept_answers": {
        "id": 1,
        "project_id": "project",
        "key": "once",
        "fingerprint": "f",
        "headers": "{}",
        "created_at": 1,
    },
    "flavor_access": {"flavor_id": "flavor", "project_id": "project"},
    "quota_limits": {
        "owner_kind": "project",
        "owner": "project",
        "resource": "volumes",
        "volume_type_id": "",
        "upper_limit": 1,
    },
    "group_types": {"id": "kind", "name": "plain", "is_public": 1, "group_specs": "{}", "created_at": 1},
    "groups": {
        "id": "group",
        "project_id": "project",
        "user_id": "user",
        "group_type_id": "kind",
        "volume_type_ids": "[]",
        "availability_zone": "nova",
        "created_at": 1,
    },
    "group_snapshots": {
        "id": "together",
        "group_id": "group",
        "project_id": "project",
        "user_id": "user",
        "created_at": 1,
    },
    "volume_services": {
        "host": "here@sim",
        "binary": "cinder-volume",
        "disabled": 1,
        "disabled_reason": "disks swap",
        "frozen": 1,
        "changed_at": 1,
    },
    "qos_specs": {"id": "qos", "name": "gold", "consumer": "front-end", "specs": "{}", "created_at": 1},
    "volume_types": {
        "id": "type",
        "name": "plain",
        "is_public": 1,
        "extra_specs": "{}",
        "qos_specs_id": "qos",
        "created_at": 1,
    },
    "type_access": {"volume_type_id": "type", "project_id": "project"},
    "default_types": {"volume_type_id": "type", "project_id": "project"},
    "type_encryptions": {
        "volume_type_id": "type",
        "id": "encryption",
        "provider": "luks",
        "control_location": "front-end",
        "key_size": 256,
        "created_at": 1,
    },
    "backups": {
        "id": "backup",
        "project_id": "project",
        "user_id": "user",
        "volume_id": "volume",
        "availability_zone": "nova",
        "metadata": "{}",
        "size_gib": 1,
        "chain": "[]",
        "checksum": "sum",
        "stored_bytes": 0,
        "chunk_count": 0,
        "volume": "{}",
        "data_at": 1,
        "made": 1,
        "created_at": 1,
        "files_id": "backup",
        "live": 1,
    },
    "transfers": {
        "id": "transfer",
        "volume_id": "volume",
        "project_id": "project",
        "no_snapshots": 0,
        "salt": "s",
        "key_hash": "h",
        "created_at": 1,
    },
    "volume_keys": {"id": "key", "sealed": b"sealed", "key_bits": 512, "created_at": 1},
    "volumes": {
        "id": "volume",
        "project_id": "project",
        "user_id": "user",
        "name": "",
        "size_gib": 1,
        "volume_type_id": "type",
        "backend": "sim",
        "format": "raw",
        "availability_zone": "nova",
        "metadata": "{}",
        "bootable": 0,
        "readonly": 0,
        "readonly_asked": 0,
        "multiattach": 0,
        "made": 1,
        "generation": 1,
        "created_at": 1,
        "live": 1,
        "unmanaged": 0,
    },
    "snapshots": {
        "id": "snapshot",
        "volume_id": "volume",
        "project_id": "project",
        "user_id": "user",
        "name": "",
        "size_gib": 1,
        "backend": "sim",
        "format": "raw",
        "metadata": "{}",
        "bootable": 0,
        "made": 1,
        "created_at": 1,
        "deleted_at": 5,
        "unmanaged": 0,
    },
    "operations": {
        "subject": "snapshot",
        "subject_id": "snapshot",
        "volume_id": "volume",
        "kind": "extending",
        "progress": 0,
        "args": "{}",
        "request_id": "req",
        "created_at": 1,
        "deadline_at": 2,
    },
    "servers": {
        "id": "server",
        "project_id": "project",
        "user_id": "user",
        "name": "web",
        "flavor": "{}",
        "image": "{}",
        "host": "here",
        "availability_zone": "nova",
        "metadata": "{}",
        "goal": "running",
        "goal_revision": 1,
        "goal_request_id": "req",
        "deadline_at": 2,
        "rung": 5,
        "revision": 1,
        "wanted_boot": 1,
        "boot": 1,
        "boot_kind": "hard",
        "locked": 0,
        "created_at": 1,
        "extras": "{}",
        "wanted_shape": 0,
        "shape": 0,
        "host_version": 1,
    },
    "server_group_members": {"server_id": "server", "group_id": "near"},
    "server_actions": {
        "server_id": "server",
        "request_id": "req",
        "subject_id": "server",
        "action": "create",
        "user_id": "user",
        "project_id": "project",
        "started_at": 1,
    },
    "claims": {"id": "claim", "volume_id": "volume", "holder": "server", "shared": 0, "live": 1, "claimed_at": 1},
    "attachments": {
        "id": "attachment",
        "claim_id": "claim",
        "volume_id": "volume",
        "server_id": "server",
        "project_id": "project",
        "goal": "attached",
        "goal_revision": 1,
        "goal_request_id": "req",
        "goal_by": "user",
        "goal_at": 1,
        "deadline_at": 2,
        "established": 1,
        "device": "/dev/sdb",
        "unit": 1,
        "delete_on_termination": 0,
        "aside": 0,
        "created_at": 1,
        "live": 1,
    },
    "paths": {
        "id": "path",
        "attachment_id": "attachment",
        "volume_id": "volume",
        "server_id": "server",
        "host": "here",
        "agent": "here",
        "generation": 1,
        "rung": 4,
        "hands": "host",
        "revision": 1,
        "connection_info": b"sealed",
        "changed_at": 1,
        "live": 1,
        "host_version": 1,
        "dropped": 0,
    },
    "copies": {
        "id": "copy",
        "path_id": "path",
        "generation": 1,
        "server_id": "server",
        "host": "here",
        "subject": "snapshot",
        "subject_id": "snapshot",
        "target_path": "/target",
        "state": "wanted",
        "revision": 1,
        "done_bytes": 0,
        "total_bytes": 0,
        "created_at": 1,
        "deadline_at": 9,
        "changed_at": 1,
        "live": 1,
        "host_version": 1,
    },
    "swaps": {
        "id": "swap",
        "attachment_id": "attachment",
        "aside_id": "attachment",
        "server_id": "server",
        "host": "here",
        "old_volume_id": "volume",
        "new_volume_id": "volume",
        "state": "copying",
        "revision": 1,
        "done_bytes": 0,
        "total_bytes": 0,
        "request_id": "req",
        "created_at": 1,
        "deadline_at": 9,
        "host_version": 1,
    },
    "journal": {
        "at": 1,
        "subject": "path",
        "subject_id": "path",
        "what": "rung",
        "before": "connected",
        "after": "plugged",
        "revision": 1,
        "actor": "host:here",
        "request_id": "req",
    },
    "images": {
        "id": "image",
        "project_id": "project",
        "status": "queued",
        "visibility": "private",
        "min_disk_gib": 0,
        "min_ram_mib": 0,
        "protected": 0,
        "hidden": 0,
        "properties": "{}",
        "tags": "[]",
        "created_at": 1,
        "updated_at": 1,
    },
    "domains": {"id": "domain", "name": "Default", "description": "", "enabled": 1, "extra": "{}"},
    "projects": {
        "id": "project",
        "domain_id": "domain",
        "name": "demo",
        "description": "",
        "enabled": 1,
        "extra": "{}",
        "created_at": 1,
    },
    "users": {"id": "user", "domain_id": "domain", "name": "ann", "enabled": 1, "extra": "{}", "created_at": 1},
    "roles": {"id": "role", "name": "member", "extra": "{}"},
    "role_assignments": {"user_id": "user", "scope": "project", "scope_id": "project", "role_id": "role"},
    "application_credentials": {
        "id": "credential",
        "user_id": "user",
        "project_id": "project",
        "name": "ci",
        "secret_hash": "hash",
        "roles": "[]",
        "unrestricted": 0,
        "created_at": 1,
    },
    "tokens": {
        "hash": "hash",
        "user_id": "user",
        "scope": "project",
        "scope_id": "project",
        "methods": "[]",
        "roles": "[]",
        "application_credential_id": "credential",
        "audit_ids": "[]",
        "issued_at": 1,
        "expires_at": 2,
    },
    "services": {"id": "service", "type": "volumev3", "name": "", "enabled": 1, "extra": "{}"},
    "regions": {"id": "region", "description": "", "extra": "{}"},
    "endpoints": {
        "id": "endpoint",
        "service_id": "service",
        "interface": "public",
        "region_id": "region",
        "url": "http://here",
        "enabled": 1,
        "extra": "{}",
    },
}

#: What ends the attachment of the world, step by step (S4).
RELEASE_PATH = "UPDATE paths SET rung = 0, hands = 'control', connection_info = NULL, live = NULL;"
CLOSE = RELEASE_PATH + "UPDATE attachments SET goal = 'detached', closed_at = 5, live = NULL;"
RELEASE_CLAIM = CLOSE + "UPDATE claims SET released_at = 5, live = NULL;"
#: What makes the world's attachment an external one.
DECLARE = "UPDATE attachments SET server_id = NULL, stage = 'reserved', origin = 'attachment'"
LET_IN = "UPDATE paths SET server_id = NULL, agent = NULL, connector = '{}', hands = 'control', rung = 2"
REVIVE_SNAPSHOT = "UPDATE snapshots SET live = 1, deleted_at = NULL;"
SHARE = (
    RELEASE_CLAIM
    + "DELETE FROM swaps; DELETE FROM copies; DELETE FROM paths; DELETE FROM attachments; DELETE FROM claims;"
    + "UPDATE volumes SET multiattach = 1;"
)


def copy(table: str, **changes: object) -> str:
    """SQL for another row like the world's, with changes."""
    row = {name: value for name, value in WORLD[table].items() if not isinstance(value, bytes)} | changes
    shown = ", ".join("NULL" if value is None else repr(value) for value in row.values())
    return f"INSERT INTO {table} ({quote(row)}) VALUES ({shown});"


def quote(names: Iterable[str]) -> str:
    """The columns' names: PostgreSQL takes some of them for words of its own."""
    return ", ".join(f'"{name}"' for name in names)


WHOLE_IMAGE = (
    "UPDATE images SET status = 'active', file = 'f', size_bytes = 1, md5 = 'm', sha512 = 's', disk_format = 'raw'"
    ", container_format = 'bare'"
)
OTHER_VOLUME = copy("volumes", id="other")
OTHER_SERVER = copy("servers", id="other")
OTHER_CLAIM = OTHER_VOLUME + copy("claims", id="other", volume_id="other")
OTHER_ATTACHMENT = {"id": "other", "claim_id": "other", "volume_id": "other"}


class Case(NamedTuple):
    """A forbidden state and its legal neighbours, as SQL from the world on; only the last statement is refused."""

    constraint: str
    says: str
    refused: tuple[str, ...]
    accepted: tuple[str, ...] = ()


COMPUTE_CASES = [
    Case(
        "ck_host_credentials_expires",
        "a certificate is good for a while",
        ("UPDATE host_credentials SET expires_at = issued_at",),
        ("UPDATE host_credentials SET expires_at = 3",),
    ),
    Case(
        "ck_keypairs_kind",
        "a key is for a shell or a certificate",
        ("UPDATE keypairs SET kind = 'pgp'",),
        ("UPDATE keypairs SET kind = 'x509'",),
    ),
    Case(
        "uq_keypairs_user_id_name",
        "a user's key pairs have names of their own",
        (copy("keypairs", id=2),),
        (copy("keypairs", id=2, name="other"), copy("keypairs", id=2, user_id="other")),
    ),
    Case(
        "uq_kept_answers_project_id_key",
        "a key stands for one request of a project",
        (copy("kept_answers", id=2),),
        (copy("kept_answers", id=2, key="twice"), copy("kept_answers", id=2, project_id="other")),
    ),
    Case(
        "ck_server_groups_policy",
        "a group has a policy that placement knows",
        ("UPDATE server_groups SET policy = 'near'",),
        ("UPDATE server_groups SET policy = 'soft-affinity'",),
    ),
    Case(
        "ck_server_groups_per_host_max",
        "only anti-affinity is bounded on a host",
        (
            "UPDATE server_groups SET per_host_max = 2",
            "UPDATE server_groups SET policy = 'anti-affinity', per_host_max = 0",
        ),
        ("UPDATE server_groups SET policy = 'anti-affinity', per_host_max = 2",),
    ),
]

QUOTA_CASES = [
    Case(
        "ck_quota_limits_owner_kind",
        "a limit is a project's, a class's or the configuration's",
        (copy("quota_limits", owner_kind="nobody"),),
        (
            copy("quota_limits", owner_kind="class", owner="default"),
            copy("quota_limits", owner_kind="user", owner="project:user", resource="cores"),
        ),
    ),
    Case(
        "ck_quota_limits_owner",
        "the configuration alone has no name",
        ("UPDATE quota_limits SET owner = ''", "UPDATE quota_limits SET owner_kind = 'configuration'"),
        (copy("quota_limits", owner_kind="configuration", owner=""),),
    ),
    Case(
        "ck_quota_limits_resource",
        "what is limited is known",
        ("UPDATE quota_limits SET resource = 'pigs'",),
        ("UPDATE quota_limits SET resource = 'groups'", "UPDATE quota_limits SET resource = 'per_volume_gigabytes'"),
    ),
    Case(
        "ck_quota_limits_typed",
        "a volume type limits what has a type",
        ("UPDATE quota_limits SET resource = 'backups', volume_type_id = 'type'",),
        ("UPDATE quota_limits SET resource = 'snapshots', volume_type_id = 'type'",),
    ),
    Case(
        "ck_quota_limits_upper_limit",
        "a limit is a number, or -1 for none",
        ("UPDATE quota_limits SET upper_limit = -2",),
        ("UPDATE quota_limits SET upper_limit = -1", "UPDATE quota_limits SET upper_limit = 0"),
    ),
]

KEY_CASES = [
    Case(
        "ck_volume_keys_destroyed",
        "a key is there or destroyed",
        ("UPDATE volume_keys SET sealed = NULL", "UPDATE volume_keys SET destroyed_at = 5"),
        ("UPDATE volume_keys SET sealed = NULL, destroyed_at = 5",),
    ),
    Case(
        "ck_volumes_encrypted",
        "what is encrypted has a key, and what has a key is plugged as nothing else",
        (
            "UPDATE volumes SET format = 'luks'",
            "UPDATE volumes SET encryption_key_id = 'key'",
        ),
        ("UPDATE volumes SET format = 'luks', encryption_key_id = 'key'",),
    ),
]

SWAP_CASES = [
    Case(
        "ck_swaps_state",
        "a swap is under way or over",
        ("UPDATE swaps SET state = 'forgotten', finished_at = 5",),
        ("UPDATE swaps SET state = 'pivoting'",),
    ),
    Case(
        "ck_swaps_finished",
        "a swap that is over says when",
        ("UPDATE swaps SET state = 'swapped'", "UPDATE swaps SET finished_at = 5"),
        ("UPDATE swaps SET state = 'swapped', finished_at = 5",),
    ),
    Case(
        "ck_swaps_reason",
        "a failed swap says why, and no other does",
        ("UPDATE swaps SET state = 'failed', finished_at = 5", "UPDATE swaps SET reason = '{}'"),
        ("UPDATE swaps SET state = 'failed', finished_at = 5, reason = '{}'",),
    ),
    Case(
        "one_swap",
        "a disk is swapped once at a time",
        (copy("swaps", id="second"),),
        ("UPDATE swaps SET state = 'cancelled', finished_at = 5;" + copy("swaps", id="second"),),
    ),
    Case(
        "ck_attachments_aside",
        "what stands aside has no place that a disk has",
        ("UPDATE attachments SET aside = 1, serial = 'volume'", "UPDATE attachments SET aside = 1, boot_index = 0"),
        ("UPDATE attachments SET aside = 1", "UPDATE attachments SET serial = 'volume'"),
    ),
]

COPY_CASES = [
    Case(
        "ck_copies_disk",
        "a copy is of a path's disk, or of a root disk in a format",
        ("UPDATE copies SET image_format = 'raw'", "UPDATE copies SET path_id = NULL, generation = NULL"),
        ("UPDATE copies SET path_id = NULL, generation = NULL, image_format = 'raw'",),
    ),
    Case(
        "ck_copies_generation",
        "a copy has a generation if it has a path",
        ("UPDATE copies SET generation = NULL", "UPDATE copies SET path_id = NULL, image_format = 'raw'"),
        ("UPDATE copies SET path_id = NULL, generation = NULL, image_format = 'raw'",),
    ),
    Case(
        "ck_copies_state",
        "a copy is wanted, done, failed or dropped",
        ("UPDATE copies SET state = 'forgotten', live = NULL",),
        ("UPDATE copies SET state = 'dropped'",),
    ),
    Case(
        "ck_copies_reason",
        "what failed says why, and only that",
        (
            "UPDATE copies SET state = 'failed', live = NULL",
            "UPDATE copies SET reason = '{}'",
        ),
        ("UPDATE copies SET state = 'failed', live = NULL, reason = '{}'",),
    ),
    Case(
        "ck_copies_live",
        "a copy that has ended asks nothing of its host",
        ("UPDATE copies SET state = 'done'", "UPDATE copies SET live = 2"),
        ("UPDATE copies SET state = 'done', live = NULL",),
    ),
    Case(
        "ck_copies_wanted_is_live",
        "what is wanted is its host's to make",
        ("UPDATE copies SET live = NULL",),
        ("UPDATE copies SET state = 'dropped', live = NULL", "UPDATE copies SET state = 'dropped'"),
    ),
]

TYPE_CASES = [
    Case(
        "ck_volume_services_reason",
        "an enabled service has no reason to be disabled",
        ("UPDATE volume_services SET disabled = 0, frozen = 0",),
        ("UPDATE volume_services SET disabled = 0, frozen = 0, disabled_reason = NULL",),
    ),
    Case(
        "ck_volume_services_frozen",
        "a frozen service is disabled",
        ("UPDATE volume_services SET disabled = 0, disabled_reason = NULL",),
        ("UPDATE volume_services SET frozen = 0",),
    ),
    Case(
        "one_qos_specs_of_that_name",
        "QoS specs have one name",
        (copy("qos_specs", id="other"),),
        (copy("qos_specs", id="other", name="other"),),
    ),
    Case(
        "ck_qos_specs_consumer",
        "somebody keeps to them",
        ("UPDATE qos_specs SET consumer = 'nobody'",),
        ("UPDATE qos_specs SET consumer = 'both'", "UPDATE qos_specs SET consumer = 'back-end'"),
    ),
    Case(
        "ck_type_encryptions_control_location",
        "it is known who encrypts",
        ("UPDATE type_encryptions SET control_location = 'both'",),
        ("UPDATE type_encryptions SET control_location = 'back-end'",),
    ),
    Case(
        "ck_type_encryptions_key_size",
        "a key has a size, or none was said",
        ("UPDATE type_encryptions SET key_size = -1",),
        ("UPDATE type_encryptions SET key_size = NULL",),
    ),
]

EXTERNAL_CASES = [
    Case(
        "ck_attachments_managed",
        "an attachment is of a server of ours, or external",
        (
            "UPDATE attachments SET stage = 'reserved', origin = 'attachment'",
            "UPDATE attachments SET server_id = NULL",
        ),
        (DECLARE,),
    ),
    Case(
        "ck_attachments_place",
        "in a server of ours a disk has a place",
        ("UPDATE attachments SET device = NULL", "UPDATE attachments SET unit = NULL"),
        (DECLARE + ", device = NULL, unit = NULL",),
    ),
    Case(
        "ck_attachments_stage",
        "a client's stage is one of Cinder's words",
        (DECLARE + "; UPDATE attachments SET stage = 'parked'",),
        tuple(
            DECLARE + f"; UPDATE attachments SET stage = '{stage}'"
            for stage in ("reserved", "attaching", "attached", "detaching")
        ),
    ),
    Case(
        "ck_attachments_origin",
        "an external attachment, and no other, was declared by a call",
        (
            "UPDATE attachments SET origin = 'os-attach'",
            "UPDATE attachments SET server_id = NULL, stage = 'attached'",
        ),
    ),
    Case(
        "ck_attachments_mode",
        "a mode is rw or ro",
        (DECLARE + ", mode = 'wo'",),
        (DECLARE + ", mode = 'ro'", DECLARE + ", mode = 'rw'"),
    ),
    Case(
        "ck_paths_agent",
        "a path in a server of ours has its host's agent, and an external one has none",
        (
            "UPDATE paths SET agent = NULL, connector = '{}', hands = 'control', rung = 2",
            "UPDATE paths SET server_id = NULL",
            "UPDATE paths SET host = 'elsewhere'",
        ),
        (LET_IN + ", host = 'elsewhere'",),
    ),
    Case(
        "ck_paths_external_hands",
        "an external path stays in the control plane's hands",
        (LET_IN + "; UPDATE paths SET hands = 'host'",),
        (LET_IN,),
    ),
    Case(
        "ck_paths_connector",
        "an external path, and no other, has a connector",
        ("UPDATE paths SET connector = '{}'", LET_IN + "; UPDATE paths SET connector = NULL"),
    ),
    Case(
        "ck_paths_dropped",
        "a path in a server of ours goes by its attachment's goal alone",
        ("UPDATE paths SET dropped = 1",),
        (LET_IN + ", dropped = 1",),
    ),
]

CASES = [
    *TYPE_CASES,
    *QUOTA_CASES,
    *COMPUTE_CASES,
    *COPY_CASES,
    *SWAP_CASES,
    *KEY_CASES,
    *EXTERNAL_CASES,
    Case(
        "one_holder",
        "S1: a volume that is not shared has one live claim",
        (copy("claims", id="other", holder="other"),),
        (
            RELEASE_CLAIM + copy("claims", id="other", holder="other"),
            SHARE + copy("claims", shared=1) + copy("claims", id="other", holder="other", shared=1),
        ),
    ),
    Case(
        "one_claim_per_holder",
        "nobody claims a shared volume twice",
        (SHARE + copy("claims", shared=1) + copy("claims", id="other", shared=1),),
        (SHARE + copy("claims", shared=1, live=None, released_at=5) + copy("claims", id="other", shared=1),),
    ),
    Case(
        "fk_claims_volume",
        "S1: a claim is of a live volume and tells the truth about its being shared",
        (
            copy("volumes", id="gone", live=None, deleted_at=5) + copy("claims", id="other", volume_id="gone"),
            OTHER_VOLUME + copy("claims", id="other", volume_id="other", shared=1),
            "UPDATE volumes SET live = NULL, deleted_at = 5",
            "UPDATE volumes SET multiattach = 1",
            "DELETE FROM volumes",
        ),
        (
            OTHER_CLAIM,
            RELEASE_CLAIM + "UPDATE volumes SET live = NULL, deleted_at = 5",
            RELEASE_CLAIM + "UPDATE volumes SET multiattach = 1",
        ),
    ),
    Case(
        "ck_claims_live",
        "a claim is live or released, and nothing between",
        (
            "UPDATE claims SET released_at = 5",
            CLOSE + "UPDATE claims SET live = NULL",
            OTHER_VOLUME + copy("claims", id="other", volume_id="other", live=2),
        ),
        (RELEASE_CLAIM,),
    ),
    Case(
        "fk_attachments_claim",
        "S4: an open attachment keeps its claim, and the claim is of its volume",
        (
            RELEASE_PATH + "UPDATE claims SET released_at = 5, live = NULL",
            RELEASE_CLAIM + "UPDATE attachments SET closed_at = NULL, live = 1",
            OTHER_CLAIM + copy("attachments", id="other", claim_id="other", unit=2, device="/dev/sdc"),
            RELEASE_PATH + "DELETE FROM claims",
        ),
        (RELEASE_CLAIM,),
    ),
    Case(
        "ck_attachments_live",
        "an attachment is open or closed, and nothing between",
        (
            RELEASE_PATH + "UPDATE attachments SET goal = 'detached', closed_at = 5",
            RELEASE_PATH + "UPDATE attachments SET goal = 'detached', live = NULL",
            OTHER_CLAIM + copy("attachments", **OTHER_ATTACHMENT, live=2, unit=2, device="/dev/sdc"),
        ),
        (CLOSE,),
    ),
    Case(
        "ck_attachments_goal",
        "a goal is attached or detached",
        ("UPDATE attachments SET goal = 'shelved'",),
        ("UPDATE attachments SET goal = 'detached'", "UPDATE attachments SET goal = 'attached'"),
    ),
    Case(
        "ck_attachments_goal_by",
        "a goal is set by somebody known",
        ("UPDATE attachments SET goal_by = 'magic'",),
        tuple(f"UPDATE attachments SET goal_by = '{by}'" for by in ("user", "rollback", "refusal", "server")),
    ),
    Case(
        "ck_attachments_closed_on_purpose",
        "an attachment that is wanted is not closed",
        (RELEASE_PATH + "UPDATE attachments SET closed_at = 5, live = NULL",),
        (CLOSE,),
    ),
    Case(
        "one_attachment_per_claim",
        "a claim has one open attachment",
        (copy("attachments", id="other", unit=2, device="/dev/sdc"),),
        (
            CLOSE + copy("attachments", id="other", unit=2, device="/dev/sdc"),
            DECLARE
            + ";"
            + copy("attachments", id="other", unit=2, server_id=None, stage="attached", origin="os-attach"),
        ),
    ),
    Case(
        "one_unit",
        "two disks of a server have two units",
        (OTHER_CLAIM + copy("attachments", **OTHER_ATTACHMENT, device="/dev/sdc"),),
        (
            OTHER_CLAIM + copy("attachments", **OTHER_ATTACHMENT, device="/dev/sdc", unit=2),
            OTHER_CLAIM + copy("attachments", **OTHER_ATTACHMENT, device="/dev/sdc", aside=1),
            OTHER_CLAIM + OTHER_SERVER + copy("attachments", **OTHER_ATTACHMENT, device="/dev/sdc", server_id="other"),
            CLOSE + OTHER_CLAIM + copy("attachments", **OTHER_ATTACHMENT, device="/dev/sdc"),
        ),
    ),
    Case(
        "ck_attachments_boot_index",
        "a place in the boot order is counted from 0",
        ("UPDATE attachments SET boot_index = -1",),
        ("UPDATE attachments SET boot_index = 0", "UPDATE attachments SET boot_index = NULL"),
    ),
    Case(
        "one_boot_index",
        "a server has one root disk, and boots from the others in one order",
        (
            "UPDATE attachments SET boot_index = 0;"
            + OTHER_CLAIM
            + copy("attachments", **OTHER_ATTACHMENT, unit=2, device="/dev/sdc", boot_index=0),
        ),
        (
            "UPDATE attachments SET boot_index = 0;"
            + OTHER_CLAIM
            + copy("attachments", **OTHER_ATTACHMENT, unit=2, device="/dev/sdq", boot_index=1),
        ),
    ),
    Case(
        "one_device",
        "two disks of a server have two device names",
        (OTHER_CLAIM + copy("attachments", **OTHER_ATTACHMENT, unit=2),),
        (
            OTHER_CLAIM + OTHER_SERVER + copy("attachments", **OTHER_ATTACHMENT, unit=2, server_id="other"),
            CLOSE + OTHER_CLAIM + copy("attachments", **OTHER_ATTACHMENT, unit=2),
            OTHER_CLAIM + copy("attachments", **OTHER_ATTACHMENT, unit=2, aside=1),
        ),
    ),
    Case(
        "ck_paths_rung",
        "a path stands on one of five rungs",
        ("UPDATE paths SET rung = 5", "UPDATE paths SET rung = -1, hands = 'control', connection_info = NULL"),
        ("UPDATE paths SET rung = 3",),
    ),
    Case(
        "ck_paths_hands",
        "a path is in the control plane's hands or the host's",
        ("UPDATE paths SET rung = 2, hands = 'nobody'",),
        ("UPDATE paths SET rung = 2, hands = 'control'",),
    ),
    Case(
        "ck_paths_complete",
        "S3: exported or higher has its connection_info",
        tuple(f"UPDATE paths SET rung = {rung}, connection_info = NULL" for rung in (2, 3, 4)),
        ("UPDATE paths SET rung = 1, hands = 'control', connection_info = NULL",),
    ),
    Case(
        "ck_paths_nothing_left",
        "S3: released keeps no connection_info",
        ("UPDATE paths SET rung = 0, hands = 'control', live = NULL",),
        (RELEASE_PATH,),
    ),
    Case(
        "ck_paths_host_hands",
        "a host holds nothing below the export",
        (
            "UPDATE paths SET rung = 1",
            "UPDATE paths SET rung = 1, connection_info = NULL",
            "UPDATE paths SET rung = 0, connection_info = NULL, live = NULL",
        ),
        ("UPDATE paths SET rung = 2",),
    ),
    Case(
        "ck_paths_control_hands",
        "the control plane holds nothing above the export",
        ("UPDATE paths SET hands = 'control'", "UPDATE paths SET rung = 3, hands = 'control'"),
        ("UPDATE paths SET rung = 2, hands = 'control'",),
    ),
    Case(
        "ck_paths_live",
        "a path is live until it is released",
        (
            "UPDATE paths SET live = NULL",
            "UPDATE paths SET rung = 0, hands = 'control', connection_info = NULL",
            "UPDATE paths SET live = 2",
        ),
        (RELEASE_PATH,),
    ),
    Case(
        "fk_paths_attachment",
        "S4: a path that is not released keeps its attachment open, and reaches its volume",
        (
            "UPDATE attachments SET goal = 'detached', closed_at = 5, live = NULL",
            CLOSE + "UPDATE paths SET rung = 1, live = 1",
            OTHER_VOLUME + "UPDATE paths SET volume_id = 'other'",
            "DELETE FROM attachments",
        ),
        (CLOSE,),
    ),
    Case(
        "one_path",
        "S1: an attachment has one path at a time",
        (copy("paths", id="other", generation=2, rung=1, hands="control"),),
        (RELEASE_PATH + copy("paths", id="other", generation=2, rung=1, hands="control"),),
    ),
    Case(
        "uq_paths_volume_id_generation",
        "S6: a volume's generation is never used again",
        (RELEASE_PATH + copy("paths", id="other", rung=1, hands="control"),),
        (RELEASE_PATH + copy("paths", id="other", generation=2, rung=1, hands="control"),),
    ),
    Case(
        "ck_servers_goal",
        "a server is to run, to stop, to be shelved, or to go",
        ("UPDATE servers SET goal = 'lost'",),
        tuple(
            f"UPDATE servers SET goal = '{goal}'"
            for goal in ("running", "paused", "suspended", "stopped", "shelved", "offloaded", "deleted")
        ),
    ),
    Case(
        "ck_servers_rung",
        "a server stands on one of seven rungs",
        ("UPDATE servers SET rung = 7", "UPDATE servers SET rung = -1, goal = 'deleted', deleted_at = 5"),
        tuple(f"UPDATE servers SET rung = {rung}" for rung in (2, 3, 4, 5, 6)),
    ),
    Case(
        "ck_servers_offloaded_on_purpose",
        "no server is without a host that is wanted on one",
        ("UPDATE servers SET rung = 1", "UPDATE servers SET rung = 1, goal = 'shelved'"),
        tuple(f"UPDATE servers SET rung = 1, goal = '{goal}'" for goal in ("offloaded", "deleted")),
    ),
    Case(
        "ck_servers_boot",
        "a server has not booted more often than it was asked to",
        ("UPDATE servers SET boot = 2",),
        ("UPDATE servers SET wanted_boot = 2", "UPDATE servers SET wanted_boot = 2, boot = 2"),
    ),
    Case(
        "ck_servers_shape",
        "a server has no newer shape than was asked for",
        ("UPDATE servers SET shape = 1",),
        ("UPDATE servers SET wanted_shape = 1", "UPDATE servers SET wanted_shape = 1, shape = 1"),
    ),
    Case(
        "ck_servers_tombstone",
        "a deleted server is one of which nothing is left, and the other way round",
        (
            "UPDATE servers SET goal = 'deleted', deleted_at = 5",
            "UPDATE servers SET goal = 'deleted', deleted_at = 5, rung = 1",
            "UPDATE servers SET goal = 'deleted', rung = 0",
        ),
        ("UPDATE servers SET goal = 'deleted', deleted_at = 5, rung = 0",),
    ),
    Case(
        "ck_servers_deleted_on_purpose",
        "no server is deleted that nobody wanted deleted",
        ("UPDATE servers SET deleted_at = 5, rung = 0",),
        ("UPDATE servers SET goal = 'deleted', deleted_at = 5, rung = 0",),
    ),
    Case(
        "ck_server_actions_finished",
        "an action that has ended has a result, and only such a one",
        ("UPDATE server_actions SET finished_at = 5", "UPDATE server_actions SET result = 'Success'"),
        ("UPDATE server_actions SET finished_at = 5, result = 'Success'",),
    ),
    Case(
        "ck_server_actions_result",
        "an action ends in one of Nova's two words",
        ("UPDATE server_actions SET finished_at = 5, result = 'Perhaps'",),
        ("UPDATE server_actions SET finished_at = 5, result = 'Error'",),
    ),
    Case(
        "ck_flavors_sizes",
        "a flavor has processors and memory",
        ("UPDATE flavors SET vcpus = 0", "UPDATE flavors SET ram_mib = 0", "UPDATE flavors SET disk_gib = -1"),
        ("UPDATE flavors SET vcpus = 2, ram_mib = 1, disk_gib = 1",),
    ),
    Case("uq_flavors_name", "two flavors have two names", (copy("flavors", id="other"),)),
    Case(
        "one_type_of_that_name",
        "two live volume types have two names",
        (copy("volume_types", id="other"),),
        ("UPDATE volume_types SET deleted_at = 5;" + copy("volume_types", id="other"),),
    ),
    Case(
        "ck_backups_size",
        "a backup has a size",
        ("UPDATE backups SET size_gib = 0",),
    ),
    Case(
        "ck_backups_checked",
        "a backup that is there can be held against its checksum",
        ("UPDATE backups SET checksum = NULL",),
        ("UPDATE backups SET checksum = NULL, made = 0",),
    ),
    Case(
        "ck_backups_live",
        "a backup is live or a tombstone, and nothing between",
        ("UPDATE backups SET deleted_at = 5", "UPDATE backups SET live = NULL", "UPDATE backups SET live = 2"),
        ("UPDATE backups SET live = NULL, deleted_at = 5",),
    ),
    Case(
        "fk_backups_parent",
        "a backup outlives those that build on it",
        (
            copy("backups", id="other", parent_id="backup")
            + "UPDATE backups SET live = NULL, deleted_at = 5 WHERE id = 'backup'",
            copy("backups", id="other", parent_id="nowhere"),
        ),
        (
            copy("backups", id="other", parent_id="backup")
            + "UPDATE backups SET live = NULL, deleted_at = 5 WHERE id = 'other';"
            + "UPDATE backups SET live = NULL, deleted_at = 5 WHERE id = 'backup'",
        ),
    ),
    Case(
        "one_group_type_of_that_name",
        "two live group types have two names",
        (copy("group_types", id="other"),),
        ("UPDATE group_types SET deleted_at = 5;" + copy("group_types", id="other"),),
    ),
    Case(
        "ck_volumes_size",
        "a volume has a size",
        ("UPDATE volumes SET size_gib = 0", "UPDATE volumes SET size_gib = -1"),
    ),
    Case(
        "ck_volumes_migration_status",
        "a move to another pool has ended well or not",
        ("UPDATE volumes SET migration_status = 'migrating'",),
        ("UPDATE volumes SET migration_status = 'error'",),
    ),
    Case(
        "ck_volumes_format",
        "S15: a volume's format is one that Kevel writes",
        ("UPDATE volumes SET format = 'vmdk'",),
        ("UPDATE volumes SET format = 'qcow2'",),
    ),
    Case(
        "ck_volumes_shared_is_raw",
        "two guests never write one qcow2 file",
        (SHARE + "UPDATE volumes SET format = 'qcow2'",),
        (SHARE + "UPDATE volumes SET format = 'raw'",),
    ),
    Case(
        "ck_volumes_live",
        "a volume is live or a tombstone, and nothing between",
        (
            "UPDATE volumes SET deleted_at = 5",
            RELEASE_CLAIM + "UPDATE volumes SET live = NULL",
            copy("volumes", id="other", live=2),
        ),
        (RELEASE_CLAIM + "UPDATE volumes SET live = NULL, deleted_at = 5",),
    ),
    Case(
        "ck_volumes_unmanaged",
        "what Kevel has let go of is no volume of its own any more",
        ("UPDATE volumes SET unmanaged = 1",),
        (RELEASE_CLAIM + "UPDATE volumes SET live = NULL, deleted_at = 5, unmanaged = 1",),
    ),
    Case(
        "ck_volumes_transfer_of_live",
        "what is offered to another project is there",
        (RELEASE_CLAIM + "UPDATE volumes SET transfer_id = 'transfer', live = NULL, deleted_at = 5",),
        ("UPDATE volumes SET transfer_id = 'transfer'",),
    ),
    Case(
        "fk_volumes_transfer_id_id_transfers",
        "a volume's offer is an offer of this volume",
        (
            copy("transfers", id="other", volume_id="other") + "UPDATE volumes SET transfer_id = 'other'",
            "UPDATE volumes SET transfer_id = 'transfer'; DELETE FROM transfers",
        ),
        ("UPDATE volumes SET transfer_id = 'transfer'",),
    ),
    Case(
        "ck_operations_kind",
        "an operation is one that Kevel carries out",
        ("UPDATE operations SET kind = 'cloning'",),
        ("UPDATE operations SET kind = 'retyping'",),
    ),
    Case(
        "ck_operations_subject",
        "an operation works on something that has operations",
        (copy("operations", subject="server", subject_id="server", volume_id=None),),
        (copy("operations", subject="backup", subject_id="backup", volume_id=None),),
    ),
    Case(
        "ck_operations_progress",
        "a copy is done by per cent",
        ("UPDATE operations SET progress = 101", "UPDATE operations SET progress = -1"),
        ("UPDATE operations SET progress = 100",),
    ),
    Case(
        "ck_operations_volume",
        "work on a volume is about that volume",
        (
            OTHER_VOLUME + copy("operations", subject="volume", subject_id="other"),
            copy("operations", subject="volume", subject_id="volume", volume_id=None),
        ),
        (copy("operations", subject="volume", subject_id="volume"),),
    ),
    Case(
        "one_operation",
        "at most one operation works on a thing",
        (copy("operations", kind="deleting"),),
        (
            "UPDATE operations SET finished_at = 5;" + copy("operations", kind="deleting"),
            copy("operations", subject_id="other"),
            copy("operations", subject="backup"),
        ),
    ),
    Case(
        "fk_snapshots_volume",
        "a volume outlives its snapshots",
        (
            RELEASE_CLAIM + REVIVE_SNAPSHOT + "UPDATE volumes SET live = NULL, deleted_at = 5",
            RELEASE_CLAIM + "UPDATE volumes SET live = NULL, deleted_at = 5;" + REVIVE_SNAPSHOT,
        ),
        (REVIVE_SNAPSHOT,),
    ),
    Case(
        "ck_snapshots_size",
        "a snapshot has a size",
        ("UPDATE snapshots SET size_gib = 0",),
    ),
    Case(
        "ck_snapshots_format",
        "S15: a snapshot's format is one that Kevel writes",
        ("UPDATE snapshots SET format = 'vmdk'",),
        ("UPDATE snapshots SET format = 'qcow2'",),
    ),
    Case(
        "ck_snapshots_live",
        "a snapshot is live or a tombstone, and nothing between",
        (
            "UPDATE snapshots SET deleted_at = NULL",
            "UPDATE snapshots SET live = 1",
            copy("snapshots", id="other", live=2, deleted_at=None),
        ),
        (REVIVE_SNAPSHOT,),
    ),
    Case(
        "ck_snapshots_unmanaged",
        "what Kevel has let go of is no snapshot of its own any more",
        (REVIVE_SNAPSHOT + "; UPDATE snapshots SET unmanaged = 1",),
        ("UPDATE snapshots SET unmanaged = 1",),
    ),
    Case(
        "ck_images_status",
        "an image's status is one of Glance's words",
        ("UPDATE images SET status = 'importing'",),
        ("UPDATE images SET status = 'deleted'",),
    ),
    Case(
        "ck_images_visibility",
        "an image's visibility is one of Glance's words",
        ("UPDATE images SET visibility = 'secret'",),
        ("UPDATE images SET visibility = 'public'",),
    ),
    Case(
        "ck_images_queued_has_no_bytes",
        "an image without bytes has no file",
        ("UPDATE images SET file = 'images/one'",),
        ("UPDATE images SET status = 'saving', file = 'images/one'",),
    ),
    Case(
        "ck_images_saving_names_its_file",
        "S2: a file of an image is named before it is made",
        ("UPDATE images SET status = 'saving'",),
        ("UPDATE images SET status = 'saving', file = 'images/one'",),
    ),
    Case(
        "ck_images_active_is_complete",
        "an active image has its bytes, their size, sums and format",
        (
            "UPDATE images SET status = 'active'",
            *(
                f"{WHOLE_IMAGE}; UPDATE images SET {column} = NULL"
                for column in ("size_bytes", "md5", "sha512", "disk_format", "container_format")
            ),
        ),
        (WHOLE_IMAGE,),
    ),
    Case(
        "uq_images_file",
        "two images have two files",
        ("UPDATE images SET status = 'saving', file = 'f';" + copy("images", id="other", status="saving", file="f"),),
    ),
    Case(
        "uq_findings_subject_kind_key",
        "a difference is recorded once, so that there is one alarm",
        (copy("findings", id=2),),
        (copy("findings", id=2, key="other"), copy("findings", id=2, subject="host:there")),
    ),
    Case("ck_writers_batch", "commits are counted from nothing", ("UPDATE writers SET batch = -1",)),
    Case("ck_findings_named", "a difference is of something", ("UPDATE findings SET key = ''",)),
    Case(
        "ck_messages_expires",
        "a message is shown for a while",
        ("UPDATE messages SET expires_at = created_at",),
        ("UPDATE messages SET expires_at = created_at + 1",),
    ),
    Case("uq_domains_name", "two domains have two names", (copy("domains", id="other"),)),
    Case(
        "uq_projects_domain_id_name",
        "two projects of a domain have two names",
        (copy("projects", id="other"),),
        (copy("domains", id="d2", name="d2") + copy("projects", id="other", domain_id="d2"),),
    ),
    Case(
        "uq_users_domain_id_name",
        "two users of a domain have two names",
        (copy("users", id="other"),),
        (copy("domains", id="d2", name="d2") + copy("users", id="other", domain_id="d2"),),
    ),
    Case("uq_roles_name", "two roles have two names", (copy("roles", id="other"),)),
    Case(
        "ck_role_assignments_scope",
        "a role is held in a project, a domain or the system",
        ("UPDATE role_assignments SET scope = 'unscoped'",),
        ("UPDATE role_assignments SET scope = 'system', scope_id = 'all'",),
    ),
    Case(
        "uq_application_credentials_user_id_name",
        "two credentials of a user have two names",
        (copy("application_credentials", id="other"),),
        (copy("application_credentials", id="other", name="cd"),),
    ),
    Case(
        "ck_tokens_scope",
        "a token's scope is one of Keystone's",
        ("UPDATE tokens SET scope = 'galaxy'",),
        ("UPDATE tokens SET scope = 'domain'",),
    ),
    Case(
        "ck_tokens_scope_id",
        "a scoped token names its scope, and an unscoped one none",
        ("UPDATE tokens SET scope_id = NULL", "UPDATE tokens SET scope = 'unscoped'"),
        ("UPDATE tokens SET scope = 'unscoped', scope_id = NULL",),
    ),
    Case(
        "ck_endpoints_interface",
        "an endpoint's interface is one of Keystone's",
        ("UPDATE endpoints SET interface = 'secret'",),
        ("UPDATE endpoints SET interface = 'internal'",),
    ),
]


def names_in_schema() -> Iterator[str]:
    """Every CHECK, every unique rule that is more than a key, and every foreign key over several columns."""
    for table in metadata.sorted_tables:
        keys = {column.name for column in table.primary_key}
        for constraint in table.constraints:
            if isinstance(constraint, CheckConstraint) or (
                isinstance(constraint, ForeignKeyConstraint) and len(constraint.columns) > 1
            ):
                yield str(constraint.name)
            elif isinstance(constraint, UniqueConstraint):
                columns = [column.name for column in constraint.columns]
                if not keys <= set(columns):  # else it is only there to be referred to
                    yield f"uq_{table.name}_{'_'.join(columns)}"
        yield from (str(index.name) for index in table.indexes if index.unique)


@pytest.fixture(scope="session")
def first_world(other_schema: Engine) -> Iterator[Connection]:
    with other_schema.connect() as conn:
        conn.exec_driver_sql("BEGIN")
        if other_schema.dialect.name == "postgresql":
            # The SQL below writes 1 and 0 for true and false, as SQLite has them.
            cast = "castsource = 'int4'::regtype AND casttarget = 'bool'::regtype"
            conn.exec_driver_sql(f"UPDATE pg_cast SET castcontext = 'i' WHERE {cast}")
        for table, given in WORLD.items():
            kinds = metadata.tables[table].c
            row = {
                name: bool(value) if isinstance(kinds[name].type, Boolean) else value for name, value in given.items()
            }
            places = ", ".join(f":{name}" for name in row)
            conn.execute(text(f"INSERT INTO {table} ({quote(row)}) VALUES ({places})"), row)
        yield conn
        conn.exec_driver_sql("ROLLBACK")


@pytest.fixture
def world(first_world: Connection) -> Iterator[Connection]:
    first_world.exec_driver_sql("SAVEPOINT world")
    yield first_world
    first_world.exec_driver_sql("ROLLBACK TO world")


def run(conn: Connection, script: str) -> None:
    for statement in filter(None, map(str.strip, script.split(";"))):
        conn.exec_driver_sql(statement)


def broken_rule(world: Connection, constraint: str) -> str:
    """What is said of it: by PostgreSQL its name; by SQLite a CHECK's name, an index's columns, or "a foreign key"."""
    if world.dialect.name == "postgresql":
        return rf"Violation: \w+\.{constraint[:63]}$"
    if constraint.startswith("ck_"):
        return f"CHECK constraint failed: {constraint}$"
    if constraint.startswith("fk_"):
        return "FOREIGN KEY constraint failed$"
    for table in metadata.sorted_tables:
        for index in table.indexes:
            if index.name == constraint:
                return "failed: " + ", ".join(f"{table.name}.{column.name}" for column in index.columns) + "$"
        for unique in table.constraints:
            columns = [column.name for column in unique.columns] if isinstance(unique, UniqueConstraint) else []
            if columns and constraint == f"uq_{table.name}_{'_'.join(columns)}":
                return "failed: " + ", ".join(f"{table.name}.{column}" for column in columns) + "$"
    raise AssertionError(f"the schema has no {constraint}")


def test_every_rule_of_the_schema_has_a_case_and_every_case_a_rule() -> None:
    assert sorted(case.constraint for case in CASES) == sorted(names_in_schema())


def test_the_world_has_every_table() -> None:
    assert set(WORLD) == set(metadata.tables)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.constraint}: {case.says}")
def test_a_forbidden_state_is_refused_and_its_neighbours_are_not(world: Connection, case: Case) -> None:
    for script in case.refused:
        *legal, forbidden = filter(None, map(str.strip, script.split(";")))
        world.exec_driver_sql("SAVEPOINT here")
        run(world, ";".join(legal))
        with pytest.raises(IntegrityError) as refusal:
            world.exec_driver_sql(forbidden)
        refusal.match(r"(?m)" + broken_rule(world, case.constraint).replace("$", r"(\)|\n|$)"))
        world.exec_driver_sql("ROLLBACK TO here")
    for script in case.accepted:
        world.exec_driver_sql("SAVEPOINT here")
        run(world, script)
        world.exec_driver_sql("ROLLBACK TO here")


FOREIGN_KEY_BROKEN = r"FOREIGN KEY constraint failed|ForeignKeyViolation: \w+\.fk_"
FOREIGN_KEYS = sorted(
    (table.name, column.name)
    for table in metadata.sorted_tables
    for constraint in table.foreign_key_constraints
    for column in constraint.columns
    if column.name not in ("live", "shared", "agent", "encryption_key_id")
)


@pytest.mark.parametrize(("table", "column"), FOREIGN_KEYS)
def test_a_row_refers_to_rows_that_are_there(world: Connection, table: str, column: str) -> None:
    with pytest.raises(IntegrityError, match=FOREIGN_KEY_BROKEN):
        world.exec_driver_sql(f"UPDATE {table} SET {column} = 'nowhere'")


def test_an_encrypted_volume_has_a_key_that_is_there(world: Connection) -> None:
    with pytest.raises(IntegrityError, match=FOREIGN_KEY_BROKEN):
        world.exec_driver_sql("UPDATE volumes SET format = 'luks', encryption_key_id = 'nowhere'")


def test_an_agent_is_one_of_a_host_that_is_there(world: Connection) -> None:
    with pytest.raises(IntegrityError, match=FOREIGN_KEY_BROKEN):
        world.exec_driver_sql("UPDATE paths SET host = 'nowhere', agent = 'nowhere'")
