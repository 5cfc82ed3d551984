"""Hosts, flavors, servers and what happened to them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from kevel.domain.agents import Reach
from kevel.domain.model import BootKind, Reason, ServerExtras, ServerGoal, ServerRung
from kevel.store.schema.base import Counter, Json, Number, Word, metadata

hosts = Table(
    "hosts",
    metadata,
    Column("name", Text, primary_key=True),
    #: Raised by every change that concerns the host, in the change's own transaction.
    Column("version", BigInteger, nullable=False),
    #: Given to the agent at registration; reports of an earlier epoch are refused.
    Column("epoch", BigInteger, nullable=False),
    Column("availability_zone", Text, nullable=False),
    Column("facts", Json(dict[str, Any]), nullable=False),
    Column("registered_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    #: Set: the host gets no new servers. "": nobody said why.
    Column("disabled_reason", Text),
    #: The newest census that somebody has asked for.
    Column("census_wanted", BigInteger),
    #: Of an agent on another machine: where it is, which run of it has registered, and what it reaches.
    Column("place", Text),
    Column("instance", Text),
    Column("reach", Json(Reach | None)),
)

flavors = Table(
    "flavors",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("vcpus", Integer, nullable=False),
    Column("ram_mib", Integer, nullable=False),
    Column("disk_gib", Integer, nullable=False),
    Column("ephemeral_gib", Integer, nullable=False),
    Column("swap_mib", Integer, nullable=False),
    Column("is_public", Boolean, nullable=False),
    Column("description", Text),
    Column("extra_specs", Json(dict[str, str]), nullable=False),
    Column("rxtx_factor", Float, nullable=False),
    CheckConstraint("vcpus > 0 AND ram_mib > 0 AND disk_gib >= 0", name="sizes"),
)

servers = Table(
    "servers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    #: The flavor as it was when the server was made: a flavor may change or go.
    Column("flavor", Json(dict[str, Any]), nullable=False),
    Column("image", Json(dict[str, Any]), nullable=False),
    Column("host", Text, ForeignKey("hosts.name"), nullable=False),
    Column("availability_zone", Text, nullable=False),
    Column("metadata", Json(dict[str, str]), nullable=False),
    Column("goal", Word(ServerGoal), nullable=False),
    Column("goal_revision", Integer, nullable=False),
    Column("goal_request_id", Text, nullable=False),
    Column("deadline_at", BigInteger, nullable=False),
    Column("rung", Number(ServerRung), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("wanted_boot", Integer, nullable=False),
    Column("boot", Integer, nullable=False),
    Column("boot_kind", Word(BootKind), nullable=False),
    Column("key_name", Text),
    Column("locked", Boolean, nullable=False),
    Column("fault", Json(Reason | None)),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger),
    Column("launched_at", BigInteger),
    Column("terminated_at", BigInteger),
    Column("deleted_at", BigInteger),
    Column("extras", Json(ServerExtras), nullable=False, default=ServerExtras()),
    Column("wanted_shape", Integer, nullable=False, default=0),
    Column("shape", Integer, nullable=False, default=0),
    Column("host_version", BigInteger, nullable=False),
    CheckConstraint(
        "goal IN ('running', 'paused', 'suspended', 'stopped', 'shelved', 'offloaded', 'deleted')", name="goal"
    ),
    CheckConstraint("rung BETWEEN 0 AND 6", name="rung"),
    CheckConstraint("boot <= wanted_boot", name="boot"),
    CheckConstraint("shape <= wanted_shape", name="shape"),
    #: Only whoever is to be on no host is on none.
    CheckConstraint("rung != 1 OR goal IN ('offloaded', 'deleted')", name="offloaded_on_purpose"),
    #: A tombstone is a server of which nothing is left, and the other way round.
    CheckConstraint("(deleted_at IS NULL) = (rung > 0)", name="tombstone"),
    CheckConstraint("deleted_at IS NULL OR goal = 'deleted'", name="deleted_on_purpose"),
    Index("ix_servers_host_version", "host", "host_version"),
    Index("ix_servers_project_id_created_at", "project_id", "created_at"),
)

_UNFINISHED = text("finished_at IS NULL")
_IS_RESIZE = text("action = 'resize'")
server_actions = Table(
    "server_actions",
    metadata,
    Column("id", Counter, primary_key=True),
    Column("server_id", Text, ForeignKey("servers.id"), nullable=False),
    Column("request_id", Text, nullable=False),
    #: What the events belong to: an attachment's or the server's own id.
    Column("subject_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    #: Where the server was then.
    Column("host", Text),
    Column("started_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger),
    Column("message", Text),
    #: The one event of the action, Nova's name for it, and how it ended.
    Column("event", Text),
    Column("finished_at", BigInteger),
    Column("result", Text),
    Column("details", Text),
    CheckConstraint("(finished_at IS NULL) = (result IS NULL)", name="finished"),
    CheckConstraint("result IN ('Success', 'Error')", name="result"),
    Index("ix_server_actions_server_id_request_id", "server_id", "request_id"),
    Index("ix_server_actions_subject_id", "subject_id"),
    #: What the list of migrations is made of.
    Index("ix_server_actions_resizes", "id", sqlite_where=_IS_RESIZE, postgresql_where=_IS_RESIZE),
    #: Few are under way among many that are done.
    Index("ix_server_actions_unfinished", "started_at", sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED),
)
