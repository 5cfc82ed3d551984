"""The invariants, checked against ground truth and records after every effect and commit, and at the end."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection

from kevel.domain.errors import Conflict
from kevel.domain.ladder import Rung
from kevel.domain.model import ServerRung
from kevel.hypervisor.base import PowerState
from kevel.hypervisor.sim import SimServer
from tests.simulation.blocks import Blocks
from tests.simulation.world import HostTruth, World


class Goals:
    """The goals of one attachment, folded from its journal."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._revision, self._goal, self._by = 0, "none", "nobody"
        self._established = False
        #: The goal's revision for which a host has just reported a final failure.
        self._failed = 0
        #: That failure has to turn the goal round in the same transaction.
        self._due = False

    def take(self, row: dict[str, Any], detail: dict[str, Any]) -> None:
        """The next line of the journal."""
        name, what = self._name, (row["subject"], row["what"])
        assert not self._due or what == ("attachment", "goal"), f"L4: {name} stays {self._goal} after a final failure"
        if what == ("attachment", "goal"):
            self._turn(row, detail.get("by", "user"))
            self._established |= detail.get("established", False)
        elif what == ("path", "rung") and row["after"] == "plugged" and self._by != "rollback":
            self._established = True
        elif what == ("path", "error") and detail["final"]:
            self._failed = detail["goal_revision"]
            wanted_otherwise = self._established is (self._goal == "detached")
            self._due = self._failed == self._revision and self._by == "user" and wanted_otherwise

    def _turn(self, row: dict[str, Any], by: str) -> None:
        name = self._name
        follows = (row["revision"], row["before"]) == (self._revision + 1, self._goal)
        assert follows, f"S12: goal {row['revision']} of {name} comes after {self._revision}"
        assert not self._due or by in {"rollback", "refusal"}, f"L4: {name} stays {self._goal} after a final failure"
        if by in {"rollback", "refusal"}:
            assert self._by == "user", f"L4: {name} is turned round by a {by} after a {self._by}"
            assert self._established is (by == "refusal"), f"L4: {name}, established: {self._established}, by a {by}"
            mine = row["actor"] == "control" or self._failed == self._revision
            assert mine, f"S6: {name} is turned round by the failure of request {self._failed}"
        self._revision, self._goal, self._by, self._due = row["revision"], row["after"], by, False

    def end(self, goal: str, revision: int) -> None:
        """The journal ends here."""
        assert not self._due, f"L4: {self._name} stays {self._goal} after a final failure"
        assert (goal, revision) == (self._goal, self._revision), f"S12: goal of {self._name}"


class Checker:
    """Looks at the world and at the committed rows. Names of invariants are those of SPECIFICATION.md."""

    def __init__(self, conn: Connection, world: World) -> None:
        self._conn = conn
        self._world = world
        self.blocks = Blocks(world, self.rows)
        #: Servers that were recorded as stopped, suspended or paused at the last check.
        self._at_rest: dict[str, str] = {}
        #: Disks that came to a suspended guest: it gets them a moment after it goes on; the end shows that it does.
        self._awaited: set[str] = set()

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """What a query finds among the committed rows."""
        rungs = {"plugged": Rung.PLUGGED.value, "running": ServerRung.RUNNING.value}
        rungs |= {
            rung.name.lower(): rung.value for rung in (ServerRung.DEFINED, ServerRung.SUSPENDED, ServerRung.PAUSED)
        }
        cursor = self._conn.connection.driver_connection.execute(sql, rungs)  # type: ignore[union-attr]
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def check_now(self, name: str) -> None:
        """Called with the name of each effect that has just landed, and of each commit."""
        paths = {row["attachment_id"]: row for row in self.rows(_LIVE_PATHS)}
        self._check_one_writer(name)
        self._check_the_deleted_are_gone(name)
        self._check_the_stopped_do_not_run(name)
        self._check_disks_have_records(name, paths)
        self._check_exports_have_records(name, paths)
        self._check_connections_have_records(name, paths)
        self._check_disks_are_the_right_ones(name, paths)
        self._check_in_use_is_complete(name, paths)
        self.blocks.write_all(name)

    def _check_one_writer(self, name: str) -> None:
        several = {volume_id: servers for volume_id, servers in self._world.writers().items() if len(servers) > 1}
        shared = {row["id"] for row in self.rows("SELECT id FROM volumes WHERE multiattach")} if several else ()
        for volume_id, servers in several.items():
            assert volume_id in shared, f"S1 after {name}: volume {volume_id} is live in {servers}"

    def _check_the_deleted_are_gone(self, name: str) -> None:
        """S13: what is reported as deleted is not there any more, not even for the while until it is found."""
        known = {row["id"] for row in self.rows("SELECT id FROM volumes WHERE deleted_at IS NULL")}
        left = self._world.backend.volumes.keys() - known
        assert not left, f"S13 after {name}: deleted volumes {sorted(left)} are still there"

    def _check_the_stopped_do_not_run(self, name: str) -> None:
        """S13: what is reported as at rest is. A start of a process that died may still land after that."""
        rows = {row["id"]: row for row in self.rows(_AT_REST)}
        told, self._at_rest = self._at_rest, {row["id"]: row["goal"] for row in rows.values()}
        for row in rows.values():
            server = self._world.hosts[row["host"]].hypervisor.servers.get(row["id"])
            still = (PowerState.PAUSED,) if row["goal"] == "paused" else ()
            runs = server is not None and server.runs and server.power not in still
            assert told.get(row["id"]) == row["goal"] or not runs, (
                f"S13 after {name}: server {row['id']} is recorded as {row['goal']} and runs"
            )

    def _check_disks_have_records(self, name: str, paths: dict[str, Any]) -> None:
        exported = Rung.EXPORTED in self._world.backend.effect_free
        names = {entry.rpartition("-")[0] for entry in self._world.backend.exports}
        for host in self._world.hosts.values():
            for server_id, server in host.hypervisor.servers.items():
                for alias in {*server.live, *server.saved, *server.persistent}:
                    if host.is_left(server_id, alias):
                        continue  # found and taken out in time (L3): the end shows that it was
                    path = paths.get(alias.removeprefix("ua-"))
                    assert path is not None, f"S2, S3 after {name}: disk {alias} of {server_id} has no live path"
                    assert path["host"] == host.name, f"S2 after {name}: disk {alias} is on {host.name}"
                    assert path["rung"] >= Rung.EXPORTED, f"S2 after {name}: disk {alias} on rung {path['rung']}"
                    assert path["hands"] == "host", f"S4 after {name}: disk {alias} was handed back"
                    assert exported or path["id"] in names, f"S4 after {name}: disk {alias} without an export"

    def _check_exports_have_records(self, name: str, paths: dict[str, Any]) -> None:
        if not self._world.backend.exports:
            return
        live = {row["id"]: row for row in paths.values()} | {row["id"]: row for row in self.rows(_EXTERNAL_PATHS)}
        holders: dict[str, set[str]] = {}
        for entry in self._world.backend.exports:
            path_id, _, generation = entry.rpartition("-")
            assert path_id in live, f"S2, S3 after {name}: export {entry} has no live path"
            assert live[path_id]["generation"] == int(generation), f"S6 after {name}: export {entry}"
            holders.setdefault(live[path_id]["volume_id"], set()).add(live[path_id]["attachment_id"])
        several = {volume_id for volume_id, held in holders.items() if len(held) > 1}
        shared = {row["id"] for row in self.rows("SELECT id FROM volumes WHERE multiattach")} if several else set()
        assert several <= shared, f"S1 after {name}: volumes {sorted(several - shared)} are exported to several holders"

    def _check_connections_have_records(self, name: str, paths: dict[str, Any]) -> None:
        if Rung.CONNECTED in self._world.backend.effect_free:
            return
        live = {row["id"]: row for row in paths.values()}
        for host in self._world.hosts.values():
            for entry in host.connector.connected:
                path = live.get(entry.rpartition("-")[0])
                assert path is not None, f"S2, S3 after {name}: connection {entry} has no live path"
                assert path["hands"] == "host", f"S4 after {name}: connection {entry} was handed back"

    def _check_disks_are_the_right_ones(self, name: str, paths: dict[str, Any]) -> None:
        pivoting = {row["attachment_id"]: row["new_volume_id"] for row in self.rows(_PIVOTING)}
        for host in self._world.hosts.values():
            for server_id, server in host.hypervisor.servers.items():
                for disk in (*server.live.values(), *server.persistent.values()):
                    if host.is_left(server_id, disk.alias):
                        continue
                    path = paths[disk.alias.removeprefix("ua-")]
                    there = disk.source_path.removeprefix("/sim/volume-")
                    # Of a disk that may change over at any moment, it is either.
                    same = there in (path["volume_id"], pivoting.get(path["attachment_id"]))
                    same = same and disk.serial == (path["serial"] or path["volume_id"])
                    assert same, f"S8 after {name}: disk {disk.alias} is {disk.serial} in {disk.source_path}"
            # After a loss of power a guest may start a moment before the connection is there; the end shows that it is.
            for alias in () if host.lost_power else self._find_cut_off(host, paths):
                raise AssertionError(f"S4 after {name}: disk {alias} is in a running guest without a connection")

    def _find_cut_off(self, host: HostTruth, paths: dict[str, Any]) -> list[str]:
        """Disks of running guests whose host does not reach the volume."""
        if Rung.CONNECTED in self._world.backend.effect_free:
            return []
        aliases = {alias for server in host.hypervisor.servers.values() for alias in server.live}
        rows = {alias: paths[alias.removeprefix("ua-")] for alias in sorted(aliases)}
        connected = host.connector.connected
        return [alias for alias, row in rows.items() if f"{row['id']}-{row['generation']}" not in connected]

    def _check_in_use_is_complete(self, name: str, paths: dict[str, Any]) -> None:
        """A path that stands on `plugged`, and that nobody has ever asked to come down, is in the guest."""
        for row in paths.values():
            if row["rung"] != Rung.PLUGGED or row["goal_revision"] != 1 or row["server_goal"] in LEAVING:
                continue
            server = self._world.hosts[row["host"]].hypervisor.servers.get(row["server_id"])
            alias = f"ua-{row['attachment_id']}"
            assert server is not None, f"S3 after {name}: {alias} is in use, and its server is not there"
            assert alias in server.persistent, f"S3 after {name}: {alias} is in use, and not in the definition"
            if server.power is PowerState.SUSPENDED and alias not in server.saved:
                self._awaited.add(alias)
            elif not server.runs or alias in server.live:
                self._awaited.discard(alias)
            live = not server.runs or alias in server.live or alias in self._awaited
            assert live, f"S3 after {name}: {alias} is in use, and the running guest does not have it"

    def find_unfinished(self, silent: Collection[str] = ()) -> list[str]:
        """What is still under way: L1 says that this ends. Of silent hosts, what a user still waits for."""
        found = [
            f"attachment {row['id']} wants {row['goal']} and is on rung {row['rung']}: {row['reason']}"
            for row in self.rows(_UNFINISHED_ATTACHMENTS)
            if row["host"] not in silent
        ]
        found += [
            f"server {row['id']} wants {row['goal']} and is on rung {row['rung']}"
            for row in self.rows(_UNFINISHED_SERVERS)
            if row["host"] not in silent
        ]
        found += [f"external {row['id']} wants {row['goal']}" for row in self.rows(_UNFINISHED_EXTERNAL)]
        found += [f"operation {row['kind']}" for row in self.rows(_UNFINISHED_OPERATIONS) if row["host"] not in silent]
        found += [f"swap {row['id']} is {row['state']}" for row in self.rows(_SWAPS) if row["host"] not in silent]
        found += [] if silent else self._find_copying()
        found += [
            f"action {row['action']} of {row['subject_id']}"
            for row in self.rows("SELECT * FROM server_actions WHERE finished_at IS NULL")
        ]
        return found + self._find_untrue(silent)

    def _find_untrue(self, silent: Collection[str]) -> list[str]:
        """Records that do not say what is so: L3 says that this is found and mended."""
        paths = {row["attachment_id"]: row for row in self.rows(_LIVE_PATHS)}
        hosts = [host for name, host in self._world.hosts.items() if name not in silent]
        found = [
            f"disk {alias} runs without a connection" for host in hosts for alias in self._find_cut_off(host, paths)
        ]
        for row in self.rows(_LAUNCHED):
            server = self._world.hosts[row["host"]].hypervisor.servers.get(row["id"])
            runs = server is not None and server.runs
            if runs != ServerRung(row["rung"]).has_process and row["host"] not in silent:
                found.append(
                    f"server {row['id']} is on rung {row['rung']} and its guest {'runs' if runs else 'is off'}"
                )
            elif server is not None and runs and row["host"] not in silent:
                found += _find_other_shape(row, server)
        for row in paths.values():
            server = self._world.hosts[row["host"]].hypervisor.servers.get(row["server_id"])
            if row["rung"] != Rung.PLUGGED or row["host"] in silent or row["server_goal"] in LEAVING:
                continue
            alias = f"ua-{row['attachment_id']}"
            runs = server is not None and server.runs
            live = server.live.get(alias) if server is not None and runs else None
            if server is None or alias not in server.persistent or (runs and live is None):
                found.append(f"disk {alias} is on rung {row['rung']} and not in its guest")
            elif live is not None and live.size_bytes < row["plugged_bytes"]:
                found.append(f"the guest sees {live.size_bytes} bytes of disk {alias}, and not {row['plugged_bytes']}")
        return found

    def find_held(self) -> list[str]:
        """What still holds a volume though everything was detached: L2 says that there is a way out."""
        found = [f"path {row['id']} on rung {row['rung']}" for row in self.rows("SELECT * FROM paths WHERE live = 1")]
        found += [f"export {name}" for name in self._world.backend.exports]
        found += [f"claim {row['id']}" for row in self.rows("SELECT * FROM claims WHERE live = 1")]
        for host in self._world.hosts.values():
            found += [f"connection {name}" for name in host.connector.connected]
            for server_id, server in host.hypervisor.servers.items():
                found += [f"swap of {alias} in {server_id}" for alias in server.swaps]
                found += [f"disk {alias} in {server_id}" for alias in {*server.live, *server.saved, *server.persistent}]
        return found

    def find_residue(self) -> list[str]:
        """What is left although everything was deleted."""
        found = self.find_held()
        for host in self._world.hosts.values():
            found += [f"server {name}" for name in host.hypervisor.servers]
        found += [f"volume {name}" for name in self._world.backend.volumes]
        found += [f"server row {row['id']}" for row in self.rows("SELECT * FROM servers WHERE deleted_at IS NULL")]
        found += [f"volume row {row['id']}" for row in self.rows("SELECT * FROM volumes WHERE deleted_at IS NULL")]
        return found + self.find_kept()

    def find_kept(self) -> list[str]:
        """What is left of snapshots, backups and copies on their way."""
        found = [f"snapshot {name}" for name in self._world.backend.snapshots]
        found += [f"target {name}" for name in self._world.backend.targets]
        found += [f"backup {name}" for name in self._world.backups.kept]
        found += [f"image {name}" for name in self._world.images.kept]
        for kind in ("snapshots", "backups"):
            found += [f"row {row['id']} of {kind}" for row in self.rows(_LIVE_ROWS.format(kind))]
        return found + self._find_copying()

    def _find_copying(self) -> list[str]:
        """Orders to copy a plugged disk that a host has still something to do for."""
        return [f"copy {row['id']}" for row in self.rows("SELECT * FROM copies WHERE live = 1")]

    def find_missing(self, server_id: str, volume_id: str) -> list[str]:
        """What an attachment that a user has asked for lacks: nothing, when the volume is in use for real."""
        path = next((row for row in self.rows(_LIVE_PATHS) if row["volume_id"] == volume_id), None)
        if path is None:
            return [f"volume {volume_id} has no path"]
        server = self._world.hosts[path["host"]].hypervisor.servers.get(server_id)
        alias = f"ua-{path['attachment_id']}"
        found = [] if path["rung"] == Rung.PLUGGED else [f"volume {volume_id} is on rung {path['rung']}"]
        found += [] if path["goal"] == "attached" else [f"volume {volume_id} is wanted {path['goal']}"]
        found += [] if path["server_id"] == server_id else [f"volume {volume_id} is in {path['server_id']}"]
        if server is None or alias not in server.persistent:
            found.append(f"disk {alias} is not in the definition of {server_id}")
        elif server.runs and alias not in server.live:
            found.append(f"the running guest of {server_id} has no disk {alias}")
        return found

    def check_journal(self) -> None:
        """S12: the fold of each path's journal is where the path stands, and of each goal's what is wanted."""
        folded: dict[str, str] = {}
        for row in self.rows("SELECT * FROM journal WHERE subject = 'path' AND what = 'rung' ORDER BY seq"):
            before = folded.get(row["subject_id"], "released")
            assert before == row["before"], f"S12: path {row['subject_id']} moved from {row['before']}, was {before}"
            folded[row["subject_id"]] = row["after"]
        for row in self.rows("SELECT id, rung FROM paths"):
            assert folded[row["id"]] == Rung(row["rung"]).name.lower(), f"S12: path {row['id']}"
        self._check_goals()
        self._check_secrets()

    def _check_goals(self) -> None:
        """Each goal follows the one before it; a request's final failure turns it round once, and no other request."""
        goals = {row["id"]: Goals(row["id"]) for row in self.rows("SELECT id FROM attachments")}
        for row in self.rows("SELECT * FROM journal WHERE attachment_id IS NOT NULL ORDER BY seq"):
            goals[row["attachment_id"]].take(row, json.loads(row["detail"] or "{}"))
        for row in self.rows("SELECT id, goal, goal_revision FROM attachments"):
            goals[row["id"]].end(row["goal"], row["goal_revision"])

    def _check_secrets(self) -> None:
        """S10: nothing of connection_info is in what users read; an export's name stands for all of it here."""
        told = " ".join(
            str(value) for sql in _TOLD for row in self.rows(sql) for value in row.values() if value is not None
        )
        for row in self.rows("SELECT id, generation FROM paths"):
            assert f"{row['id']}-{row['generation']}" not in told, f"S10: users read the export of path {row['id']}"

    def check_refusal(self, name: str, error: Exception) -> None:
        """L2: a detach is refused only for what its server is in the middle of, never for the volume's own state."""
        if name == "detach" and isinstance(error, Conflict):
            assert "detach_volume" in str(error), f"L2: a detach is refused: {error}"


def _find_other_shape(row: dict[str, Any], server: SimServer) -> list[str]:
    """What a running guest has been made of that its record does not say."""
    extras, spec = json.loads(row["extras"]), server.spec
    root, is_rescued = extras.get("root_number", 0), extras.get("rescued", False)
    wanted = (json.loads(row["flavor"])["ram_mib"], root, is_rescued)
    made = (spec.memory_mib, spec.root_number, spec.rescue is not None)
    return [] if made == wanted else [f"server {row['id']} was made of {made} and its record says {wanted}"]


_AT_REST = """
    SELECT id, host, goal FROM servers WHERE goal = 'stopped' AND rung = :defined
        OR goal = 'suspended' AND rung = :suspended OR goal = 'paused' AND rung = :paused
"""
_LAUNCHED = "SELECT * FROM servers WHERE deleted_at IS NULL AND launched_at IS NOT NULL"
_SWAPS = "SELECT * FROM swaps WHERE finished_at IS NULL"
_PIVOTING = "SELECT * FROM swaps WHERE state = 'pivoting'"
_LIVE_ROWS = "SELECT id FROM {} WHERE live = 1"
_LIVE_PATHS = """
    SELECT p.id, p.attachment_id, p.volume_id, p.server_id, p.host, p.generation, p.rung, p.hands,
        p.plugged_bytes, a.serial, a.goal, a.goal_revision, s.goal AS server_goal
    FROM paths p JOIN attachments a ON a.id = p.attachment_id JOIN servers s ON s.id = p.server_id WHERE p.live = 1
"""
LEAVING = ("offloaded", "deleted")
_TOLD = (
    "SELECT reason FROM attachments",
    "SELECT last_error FROM paths",
    "SELECT message, details FROM server_actions",
    "SELECT detail FROM journal",
    "SELECT text FROM messages",
)
_UNFINISHED_ATTACHMENTS = """
    SELECT a.id, a.goal, a.reason, p.rung, s.host FROM attachments a
    LEFT JOIN paths p ON p.attachment_id = a.id AND p.live = 1 JOIN servers s ON s.id = a.server_id
    WHERE a.live = 1 AND s.goal <> 'deleted' AND NOT (s.launched_at IS NULL AND s.fault IS NOT NULL)
        AND ((a.goal = 'attached' AND p.rung < :plugged)
        OR (a.goal = 'detached' AND a.reason IS NULL)
        OR (a.goal = 'detached' AND a.goal_by = 'user' AND a.established AND a.reason LIKE '%"guest_refused"%'))
"""
#: A client may take its time; the storage may not.
_EXTERNAL_PATHS = "SELECT * FROM paths WHERE live = 1 AND server_id IS NULL"
_UNFINISHED_EXTERNAL = """
    SELECT a.id, a.goal FROM attachments a LEFT JOIN paths p ON p.attachment_id = a.id AND p.live = 1
    WHERE a.live = 1 AND a.stage IS NOT NULL AND (a.goal = 'detached' OR p.dropped OR p.rung < 2)
"""
#: With the host that still copies for it, if one does: what a silent host has begun waits for it.
_UNFINISHED_OPERATIONS = """
    SELECT o.kind, c.host FROM operations o LEFT JOIN copies c ON c.subject_id = o.subject_id AND c.live = 1
    WHERE o.finished_at IS NULL
"""
_UNFINISHED_SERVERS = """
    SELECT id, goal, rung, host FROM servers WHERE deleted_at IS NULL AND NOT (shape = wanted_shape AND (
        goal = 'running' AND rung = :running AND boot = wanted_boot OR goal = 'stopped' AND rung <= :defined
        OR goal = 'offloaded' AND rung = 1
        OR goal = 'paused' AND rung = :paused OR goal = 'suspended' AND rung = :suspended))
"""
