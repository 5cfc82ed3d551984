"""The census: every account of what is there, compared with the records. Once Kevel has settled, none may differ.

The records are read from the database by a connection that cannot write. Against them stand: what the APIs say, the
volumes' files and the servers' directories, the QEMU processes and the files that they have open, libvirt's XML (the
definition and the running guest's), what the guests see, and the stamps that guests have written.
"""

from __future__ import annotations

import sqlite3
import xml.etree.ElementTree as ET
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from kevel.cli.console import ConsoleError
from kevel.domain.ladder import Rung
from kevel.domain.model import GIB, ServerRung
from kevel.hypervisor.libvirt.domain_xml import DomainView, parse_domain_xml
from kevel.storage.marks import MARK_FILE
from tests.torture.stand import Stand
from tests.torture.users import FREE, GONE, User, VolumeBook, ask_counted

#: Letters of a serial that a virtio disk shows.
VIRTIO_SERIAL: Final = 20
JOURNAL_ROWS_MAX: Final = 60
#: The rungs that statements name.
RUNGS: Final = {"plugged": Rung.PLUGGED, "running": ServerRung.RUNNING, "defined": ServerRung.DEFINED}
UNFINISHED: Final = (
    (
        "attachment",
        """SELECT a.id, 'wants ' || a.goal || ', rung ' || p.rung || ' in hands of ' || p.hands || ' ' ||
        ifnull(a.reason, '') AS why
        FROM attachments a LEFT JOIN paths p ON p.attachment_id = a.id AND p.live = 1
        WHERE a.live = 1 AND NOT (a.goal = 'attached' AND p.rung = :plugged)""",
    ),
    (
        "server",
        """SELECT id, 'wants ' || goal || ', rung ' || rung || ', boot ' || boot || ' of ' || wanted_boot AS why
        FROM servers WHERE deleted_at IS NULL AND NOT (goal = 'running' AND rung = :running AND boot = wanted_boot)
        AND NOT (goal = 'stopped' AND rung = :defined)""",
    ),
    (
        "operation",
        """SELECT subject_id AS id, kind || ' ' || ifnull(last_error, '') AS why FROM operations
        WHERE finished_at IS NULL""",
    ),
    ("action", "SELECT subject_id AS id, action AS why FROM server_actions WHERE finished_at IS NULL"),
    ("fault", "SELECT id, fault AS why FROM volumes WHERE live = 1 AND fault IS NOT NULL AND fault <> 'null'"),
)


class Records:
    """One snapshot of the database."""

    def __init__(self, database: Path) -> None:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5.0)) as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("BEGIN")
            self.volumes = self._rows(connection, "SELECT * FROM volumes WHERE live = 1")
            self.servers = self._rows(connection, "SELECT * FROM servers WHERE deleted_at IS NULL")
            self.plugged = self._rows(
                connection,
                "SELECT a.id, a.volume_id, a.server_id, p.plugged_bytes, v.size_gib FROM attachments a "
                "JOIN paths p ON p.attachment_id = a.id AND p.live = 1 JOIN volumes v ON v.id = a.volume_id "
                "WHERE a.live = 1 AND p.rung = :plugged",
            )
            self.unfinished = [
                f"{what} {row['id']}: {row['why']}"
                for what, statement in UNFINISHED
                for row in self._rows(connection, statement)
            ]
            self.refused = {
                row["id"]: row["volume_id"]
                for row in connection.execute("SELECT id, volume_id FROM attachments WHERE goal_by = 'refusal'")
            }
            self._journal = connection.execute(
                "SELECT * FROM journal WHERE subject = 'path' AND what = 'rung' ORDER BY seq"
            ).fetchall()
            self._rungs = connection.execute("SELECT id, rung FROM paths").fetchall()
            self.claims = [row["volume_id"] for row in connection.execute("SELECT * FROM claims WHERE live = 1")]

    @staticmethod
    def _rows(connection: sqlite3.Connection, statement: str) -> list[dict[str, Any]]:
        return [dict(row) for row in connection.execute(statement, RUNGS)]

    def plugged_into(self, server_id: str) -> dict[str, dict[str, Any]]:
        """Rows of the volumes that the server has, by alias."""
        return {f"ua-{row['id']}": row for row in self.plugged if row["server_id"] == server_id}

    def holder(self, volume_id: str) -> str:
        """The server that has the volume, or FREE."""
        return next((str(row["server_id"]) for row in self.plugged if row["volume_id"] == volume_id), FREE)

    def find_unfolded(self) -> list[str]:
        """S12: the fold of each path's journal is where the path stands."""
        wrong: list[str] = []
        folded: dict[str, str] = {}
        for row in self._journal:
            before = folded.get(row["subject_id"], "released")
            if before != row["before"]:
                wrong.append(f"journal: path {row['subject_id']} moved from {row['before']}, was {before}")
            folded[row["subject_id"]] = row["after"]
        wrong += [
            f"journal: path {row['id']} is {Rung(row['rung']).name.lower()}, its journal says {folded.get(row['id'])}"
            for row in self._rungs
            if folded.get(row["id"]) != Rung(row["rung"]).name.lower()
        ]
        return wrong


class Census:
    """Looks at one stand. `ready`: servers whose guest has booted and may be asked."""

    def __init__(self, stand: Stand, users: list[User]) -> None:
        self._stand = stand
        self._users = users
        self.ready: set[str] = set()

    def records(self) -> Records:
        """The records now."""
        return Records(self._stand.data / "kevel.db")

    def find_differences(self) -> list[str]:
        """What does not agree with the records; cheap accounts first, since settling is waited for with it."""
        records = self.records()
        for look in (self._unfinished, self._files, self._processes, self._definitions, self._apis, self._guests):
            if found := look(records):
                return found
        return []

    def find_broken(self) -> list[str]:
        """Once everything agrees: what users were promised, and the data. Nothing of this may pass by itself."""
        records = self.records()
        found = records.find_unfolded()
        for user in self._users:
            found += self._check_books(user, records)
            for book in user.volumes.values():
                found += self._check_stamps(book, records)
        return found

    # Accounts of what is there.

    def _unfinished(self, records: Records) -> list[str]:
        held = [row["volume_id"] for row in records.plugged]
        found = [f"claim on volume {one} without a plugged path" for one in records.claims if one not in held]
        return [*records.unfinished, *(found if not records.unfinished else [])]

    def _files(self, records: Records) -> list[str]:
        directory = self._stand.data / "volumes"
        there = {path.name: path.stat().st_size for path in directory.iterdir() if path.name != MARK_FILE}
        wanted = {f"volume-{row['id']}": row["size_gib"] * GIB for row in records.volumes}
        found = [
            f"file {name}: {there.get(name)} bytes, {wanted.get(name)} in the record"
            for name in {*there, *wanted}
            if there.get(name) != wanted.get(name)
        ]
        servers = self._stand.data / "servers"
        names = {path.name for path in servers.iterdir()} if servers.exists() else set()
        found += [f"directory of server {one}" for one in names ^ {row["id"] for row in records.servers}]
        return found

    def _processes(self, records: Records) -> list[str]:
        guests = self._stand.guests()
        running = sorted(row["id"] for row in records.servers if row["rung"] == ServerRung.RUNNING)
        if sorted(guests.values()) != running:
            return [f"guests {sorted(guests.values())}, in the records {running}"]
        found = []
        for pid, server_id in guests.items():
            wanted = {row["volume_id"] for row in records.plugged_into(server_id).values()}
            there = self._stand.open_volumes(pid)
            if there != wanted:
                found.append(f"guest {server_id} has volumes {sorted(there)} open, in the records {sorted(wanted)}")
        return found

    def _definitions(self, records: Records) -> list[str]:
        root = self._stand.data / "libvirt"
        defined = read_domains(root / "etc" / "qemu")
        live = read_domains(root / "run" / "qemu")
        found = []
        known = {str(row["id"]) for row in records.servers}
        running = {str(row["id"]) for row in records.servers if row["rung"] == ServerRung.RUNNING}
        for what, views, wanted in (("definition", defined, known), ("running domain", live, running)):
            found += [f"{what} of {one}: {'there' if one in views else 'missing'}" for one in set(views) ^ wanted]
            for server_id in wanted & set(views):
                found += self._compare_disks(
                    f"{what} of {server_id}", views[server_id], records.plugged_into(server_id)
                )
        return found

    def _compare_disks(self, what: str, view: DomainView, rows: dict[str, dict[str, Any]]) -> list[str]:
        there = {alias: (disk.serial, disk.source_path) for alias, disk in view.disks.items()}
        wanted = {
            alias: (row["volume_id"], str(self._stand.volume_file(row["volume_id"]))) for alias, row in rows.items()
        }
        return [f"{what} has disks {there}, in the records {wanted}"] if there != wanted else []

    def _apis(self, records: Records) -> list[str]:
        client = self._stand.cloud.client
        volumes = client.get("/volume/v3/volumes/detail?all_tenants=1")["volumes"]
        found = []
        shown = {
            one["id"]: (one["status"], one["size"], sorted(a["server_id"] for a in one["attachments"]))
            for one in volumes
        }
        wanted = {}
        for row in records.volumes:
            holder = records.holder(row["id"])
            wanted[row["id"]] = (
                "available" if holder == FREE else "in-use",
                row["size_gib"],
                [] if holder == FREE else [holder],
            )
        found += [
            f"volume {one}: API says {shown.get(one)}, records {wanted.get(one)}"
            for one in {*shown, *wanted}
            if shown.get(one) != wanted.get(one)
        ]
        servers = client.get("/compute/v2.1/servers/detail?all_tenants=1")["servers"]
        states = {one["id"]: one["status"] for one in servers}
        right = {row["id"]: "ACTIVE" if row["rung"] == ServerRung.RUNNING else "SHUTOFF" for row in records.servers}
        found += [
            f"server {one}: API says {states.get(one)}, records {right.get(one)}"
            for one in {*states, *right}
            if states.get(one) != right.get(one)
        ]
        return found

    def _guests(self, records: Records) -> list[str]:
        found = []
        for server_id in self.ready:
            wanted = {row["volume_id"][:VIRTIO_SERIAL] for row in records.plugged_into(server_id).values()}
            try:
                there = {serial[:VIRTIO_SERIAL] for serial in self._stand.disks(server_id)}
            except (ConsoleError, OSError) as error:
                found.append(f"guest {server_id} does not answer: {error}")
                continue
            # A guest that was asked to let go, and did not in time, may have forgotten the disk for itself: QEMU has
            # it still, so the record is true, and the attachment's reason says what became of the detach.
            half_out = {volume_id[:VIRTIO_SERIAL] for volume_id in records.refused.values()} - there
            if there != wanted - half_out:
                found.append(f"guest {server_id} sees {sorted(there)}, in the records {sorted(wanted)}")
        return found

    # What was promised.

    def _check_books(self, user: User, records: Records) -> list[str]:
        found = []
        live = {row["id"]: row for row in records.volumes}
        refused = set(records.refused.values())
        for volume_id, book in list(user.volumes.items()):
            row = live.get(volume_id)
            place = GONE if row is None else records.holder(volume_id)
            if place not in book.places and not (volume_id in refused and FREE in book.places):
                found.append(f"volume {volume_id} is with {place}; {user.name} was promised {sorted(book.places)}")
            if row is None:
                del user.volumes[volume_id]
                continue
            if row["size_gib"] not in book.sizes:
                found.append(f"volume {volume_id} has {row['size_gib']} GiB; {user.name} was promised {book.sizes}")
            book.places, book.sizes = {place}, {row["size_gib"]}
        found += self._check_servers(user, records)
        known = {name for one in self._users for name in one.volumes}
        for row in records.volumes:
            if row["name"] in user.unanswered["volume"] and row["id"] not in known:
                book = user.adopt_volume(row["id"])
                book.places, book.sizes = {records.holder(row["id"])}, {row["size_gib"]}
        user.unanswered["volume"].clear()
        return found

    def _check_servers(self, user: User, records: Records) -> list[str]:
        found = []
        goals = {row["id"]: row["goal"] for row in records.servers}
        for server_id, server in list(user.servers.items()):
            goal = goals.get(server_id, "deleted")
            if goal not in server.goals:
                found.append(f"server {server_id} is to be {goal}; {user.name} was promised {sorted(server.goals)}")
            if goal == "deleted":
                del user.servers[server_id]
            else:
                server.goals = {goal}
        for row in records.servers:
            if row["name"] in user.unanswered["server"]:
                user.adopt_server(row["id"], row["goal"])
        user.unanswered["server"].clear()
        return found

    def _check_stamps(self, book: VolumeBook, records: Records) -> list[str]:
        file = self._stand.volume_file(book.volume_id)
        holder = records.holder(book.volume_id)
        for session in book.stamps.sessions.values():
            if session is book.session and session.server_id == holder and session.server_id in self.ready:
                ask_counted(self._stand, session)
            else:
                book.stamps.end(session, file)
        return book.stamps.find_wrong(file)

    def tell(self, differences: list[str]) -> str:
        """The story of the things that differ: what the journal has of each volume or server that is named."""
        lines = [f"  {one}" for one in differences]
        text = " ".join(differences)
        with closing(sqlite3.connect(f"file:{self._stand.data / 'kevel.db'}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            rows = [
                row
                for row in connection.execute("SELECT * FROM journal ORDER BY seq")
                if any(
                    row[key] and row[key] in text for key in ("volume_id", "server_id", "attachment_id", "subject_id")
                )
            ]
        lines.append(f"journal of what is named, the last {JOURNAL_ROWS_MAX} of {len(rows)} moves:")
        lines += [
            f"  {row['at']} {row['subject']} {row['subject_id']} {row['what']}: {row['before']} -> {row['after']} "
            f"by {row['actor']} for {row['request_id']} (volume {row['volume_id']}, server {row['server_id']}) "
            f"{row['detail'] or ''}"
            for row in rows[-JOURNAL_ROWS_MAX:]
        ]
        for name, log in (("Kevel", self._stand.process.log), ("libvirt", self._stand.data / "libvirt-worker.log")):
            lines.append(f"{name}'s log ends with:")
            lines += (
                [f"  {line}" for line in log.read_text(errors="replace").splitlines()[-25:]] if log.exists() else []
            )
        return "\n".join(lines)


def read_domains(directory: Path) -> dict[str, DomainView]:
    """The domains whose XML libvirt keeps in a directory, by server."""
    found = {}
    for path in directory.glob("kevel-*.xml"):
        try:
            root = ET.fromstring(path.read_text())
        except (FileNotFoundError, ET.ParseError):
            continue  # just being removed or written; it is looked at again
        domain = root if root.tag == "domain" else root.find("domain")
        # Without its monitor it is a guest that libvirt was just ending when it died: its successor ignores it.
        if domain is not None and (root is domain or root.find("monitor") is not None):
            found[path.stem.removeprefix("kevel-")] = parse_domain_xml(ET.tostring(domain, encoding="unicode"))
    return found
