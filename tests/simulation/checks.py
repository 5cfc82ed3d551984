"""The invariants, checked against ground truth and records after every effect and at the end."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import Connection

from kevel.domain.ladder import Rung
from kevel.hypervisor.base import PowerState
from tests.simulation.world import World


class Checker:
    """Looks at the world and at the committed rows. Names of invariants are those of SPECIFICATION.md."""

    def __init__(self, conn: Connection, world: World) -> None:
        self._conn = conn
        self._world = world

    def _rows(self, sql: str) -> list[Any]:
        cursor = self._conn.connection.driver_connection.execute(sql)  # type: ignore[union-attr]
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def after_effect(self, name: str) -> None:
        """Called with the name of each effect that has just landed."""
        paths = {row["attachment_id"]: row for row in self._rows("SELECT * FROM paths WHERE live = 1")}
        self._check_one_writer(name)
        self._check_disks_have_records(name, paths)
        self._check_exports_have_records(name, paths)

    def _check_one_writer(self, name: str) -> None:
        writers: dict[str, list[str]] = defaultdict(list)
        for server_id, server in self._world.host.servers.items():
            if server.power is PowerState.RUNNING:
                for disk in server.live.values():
                    writers[disk.serial].append(server_id)
        for volume_id, servers in writers.items():
            assert len(servers) < 2, f"S1 after {name}: volume {volume_id} is live in {servers}"

    def _check_disks_have_records(self, name: str, paths: dict[str, Any]) -> None:
        exported = Rung.EXPORTED in self._world.backend.effect_free
        names = {entry.rpartition("-")[0] for entry in self._world.backend.exports}
        for server_id, server in self._world.host.servers.items():
            for alias in {*server.live, *server.persistent}:
                path = paths.get(alias.removeprefix("ua-"))
                assert path is not None, f"S2, S3 after {name}: disk {alias} of {server_id} has no live path"
                assert path["rung"] >= Rung.EXPORTED, f"S2 after {name}: disk {alias} on rung {path['rung']}"
                assert path["hands"] == "host", f"S4 after {name}: disk {alias} was handed back"
                assert exported or path["id"] in names, f"S4 after {name}: disk {alias} without an export"

    def _check_exports_have_records(self, name: str, paths: dict[str, Any]) -> None:
        live = {row["id"] for row in paths.values()}
        for entry in self._world.backend.exports:
            assert entry.rpartition("-")[0] in live, f"S2, S3 after {name}: export {entry} has no live path"

    def find_unfinished(self) -> list[str]:
        """What is still under way: L1 says that this ends."""
        found = [
            f"attachment {row['id']} wants {row['goal']} and is on rung {row['rung']}: {row['reason']}"
            for row in self._rows(
                "SELECT a.id, a.goal, a.reason, p.rung FROM attachments a LEFT JOIN paths p ON p.attachment_id = a.id "
                "AND p.live = 1 JOIN servers s ON s.id = a.server_id WHERE a.live = 1 AND s.goal <> 'deleted' AND "
                "((a.goal = 'attached' AND p.rung < 4) OR (a.goal = 'detached' AND a.reason IS NULL))"
            )
        ]
        found += [
            f"server {row['id']} wants {row['goal']} and is on rung {row['rung']}"
            for row in self._rows(
                "SELECT id, goal, rung FROM servers WHERE deleted_at IS NULL AND NOT (goal = 'running' AND rung = 3 "
                "AND boot = wanted_boot) AND NOT (goal = 'stopped' AND rung < 3)"
            )
        ]
        found += [
            f"operation {row['kind']}" for row in self._rows("SELECT * FROM operations WHERE finished_at IS NULL")
        ]
        found += [
            f"action {row['action']} of {row['subject_id']}"
            for row in self._rows("SELECT * FROM server_actions WHERE finished_at IS NULL")
        ]
        return found

    def find_held(self) -> list[str]:
        """What still holds a volume though everything was detached: L2 says that there is a way out."""
        found = [f"path {row['id']} on rung {row['rung']}" for row in self._rows("SELECT * FROM paths WHERE live = 1")]
        found += [f"export {name}" for name in self._world.backend.exports]
        found += [f"connection {name}" for name in self._world.connector.connected]
        for server_id, server in self._world.host.servers.items():
            found += [f"disk {alias} in {server_id}" for alias in {*server.live, *server.persistent}]
        return found

    def find_residue(self) -> list[str]:
        """What is left although everything was deleted."""
        found = self.find_held()
        found += [f"server {name}" for name in self._world.host.servers]
        found += [f"volume {name}" for name in self._world.backend.volumes]
        found += [f"claim {row['id']}" for row in self._rows("SELECT * FROM claims WHERE live = 1")]
        return found

    def check_journal(self) -> None:
        """S12: the fold of each path's journal is where the path stands."""
        folded: dict[str, str] = {}
        for row in self._rows("SELECT * FROM journal WHERE subject = 'path' AND what = 'rung' ORDER BY seq"):
            before = folded.get(row["subject_id"], "released")
            assert before == row["before"], f"S12: path {row['subject_id']} moved from {row['before']}, was {before}"
            folded[row["subject_id"]] = row["after"]
        for row in self._rows("SELECT id, rung FROM paths"):
            assert folded[row["id"]] == Rung(row["rung"]).name.lower(), f"S12: path {row['id']}"
