"""What users write down about their servers: names, metadata, tags, locks. None of it concerns a host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from kevel.control.attachments.attachments import find_server
from kevel.control.servers.life import check_unlocked, check_vm_state
from kevel.control.servers.shapes import check_metadata_size
from kevel.domain.errors import Forbidden, Invalid
from kevel.domain.model import TAGS_MAX, Actor, Server
from kevel.store import servers as rows
from kevel.store.actions import finish_action, start_action
from kevel.store.attachments import find_open
from kevel.store.servers import load_server
from kevel.store.transactions import Tx

NAME_CHARS_MAX: Final = 255
#: What a PUT changes of what is kept of a server's request.
_SHOWN_EXTRAS: Final = ("access_v4", "access_v6", "hostname", "auto_disk", "pinned_zone")
_NOTED_STATES: Final = ("active", "paused", "suspended", "stopped")


class ServerChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What is to change of a server's record. UNSET: it stays."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType | None = msgspec.UNSET
    access_v4: str | msgspec.UnsetType = msgspec.UNSET
    access_v6: str | msgspec.UnsetType = msgspec.UNSET
    hostname: str | msgspec.UnsetType = msgspec.UNSET
    auto_disk: bool | msgspec.UnsetType = msgspec.UNSET
    #: None: it may be in any.
    pinned_zone: str | msgspec.UnsetType | None = msgspec.UNSET


class ServerNews(msgspec.Struct, frozen=True, kw_only=True):
    """What another service has to tell of a server."""

    server_id: str
    #: The volume that it speaks of.
    volume_id: str | None = None


def check_name(name: str) -> None:
    """Raise Invalid for what cannot be a server's name."""
    if not 0 < len(name) <= NAME_CHARS_MAX or name != name.strip() or not all(map(_printable, name)):
        raise Invalid(
            f"Invalid input for field/attribute name: {name[:64]!r}. A name has 1 to {NAME_CHARS_MAX} characters, "
            "no control characters, and no space at either end."
        )


def _printable(char: str) -> bool:
    return char.isprintable() or (char.isspace() and char not in "\t\n\r\v\f\x1c\x1d\x1e\x1f\x85\u2028\u2029")


def change_record(tx: Tx, server_id: str, actor: Actor, at: int, changes: ServerChanges) -> None:
    """Change what only users see. Raises Invalid for an availability zone that the server is not in."""
    server = find_server(tx, server_id, actor)
    asked = {name: value for name, value in msgspec.structs.asdict(changes).items() if value is not msgspec.UNSET}
    if "name" in asked:
        check_name(asked["name"])
    zone = asked.get("pinned_zone")
    if zone not in (None, server.availability_zone):
        raise Invalid(
            f"Server {server.id} is in the availability zone {server.availability_zone}: it can be pinned to no other."
        )
    values: dict[str, Any] = {name: asked[name] for name in ("name", "description") if name in asked}
    extras = {name: asked[name] for name in _SHOWN_EXTRAS if name in asked}
    if extras:
        values["extras"] = msgspec.structs.replace(server.extras, **extras)
    if values:
        rows.update_shown(tx, server, at=at, **values)


def change_metadata(
    tx: Tx, server_id: str, actor: Actor, at: int, change: Callable[[dict[str, str]], dict[str, str]]
) -> dict[str, str]:
    """Replace the metadata by what `change` makes of it."""
    server = find_server(tx, server_id, actor)
    check_unlocked(server, actor)
    check_vm_state(server, "update metadata", _NOTED_STATES)
    changed = change(dict(server.metadata))
    check_metadata_size(tx, actor, changed)
    rows.update_shown(tx, server, at=at, metadata=changed)
    return changed


def change_tags(
    tx: Tx, server_id: str, actor: Actor, at: int, change: Callable[[frozenset[str]], frozenset[str]]
) -> list[str]:
    """Replace the tags by what `change` makes of them; the tags afterwards, sorted."""
    server = find_server(tx, server_id, actor)
    check_vm_state(server, "update tags", _NOTED_STATES)
    changed = sorted(change(frozenset(server.extras.tags)))
    if len(changed) > TAGS_MAX:
        raise Invalid(f"The number of tags exceeded the per-server limit {TAGS_MAX}")
    extras = msgspec.structs.replace(server.extras, tags=tuple(changed))
    rows.update_shown(tx, server, at=at, extras=extras)
    return changed


def lock_server(tx: Tx, server_id: str, actor: Actor, at: int, reason: str | None) -> None:
    """Keep all but admins from changing the server."""
    server = find_server(tx, server_id, actor)
    foreign = server.project_id != actor.project_id
    extras = msgspec.structs.replace(server.extras, lock_reason=reason, locked_by_admin=foreign)
    _record_at_once(tx, server, "lock", actor, at)
    rows.update_shown(tx, server, at=at, locked=True, extras=extras)


def unlock_server(tx: Tx, server_id: str, actor: Actor, at: int) -> None:
    """Undo a lock. Raises Forbidden for one that is an admin's."""
    server = find_server(tx, server_id, actor)
    if server.extras.locked_by_admin and not actor.is_admin:
        raise Forbidden(f"Instance {server.id} was locked by an admin; only an admin can unlock it.")
    extras = msgspec.structs.replace(server.extras, lock_reason=None, locked_by_admin=False)
    _record_at_once(tx, server, "unlock", actor, at)
    rows.update_shown(tx, server, at=at, locked=False, extras=extras)


def _record_at_once(tx: Tx, server: Server, action: str, actor: Actor, at: int) -> None:
    start_action(tx, server_id=server.id, subject_id=server.id, action=action, actor=actor, at=at)
    finish_action(tx, subject_id=server.id, action=action, at=at)


def hear_news(tx: Tx, news: Sequence[ServerNews]) -> list[bool]:
    """Let the hosts of servers whose volumes other services tell of look once more; which of the servers are there."""
    known: list[bool] = []
    for one in news:
        server = load_server(tx, one.server_id)
        if server is not None and server.deleted_at is not None:
            server = None
        known.append(server is not None)
        if server is None or one.volume_id is None:
            continue
        if find_open(tx, server_id=server.id, volume_id=one.volume_id) is not None:
            rows.stamp_server(tx, server.id, server.host)
    return known
