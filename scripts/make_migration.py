"""Write a migration: what the tables in `kevel.store.schema` have that the migrations so far do not make.

    python scripts/make_migration.py "Add snapshots"    write the next one, after reading what it does
    python scripts/make_migration.py --anew             write the first one anew; only while Kevel has no release

For developers, after a change of a table. Alembic compares and writes; it sees neither a changed CHECK of a table that
is there already, nor data that has to move: those are added by hand. The tests of the store compare the result with
the tables, CHECKs included.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from kevel.store.migrate import SCRIPTS, configure_alembic, upgrade_schema

FIRST = "First tables"


def write_migration(message: str, *, anew: bool) -> Path:
    """Write the migration from what the others make, in memory, to the tables of the code; return its file."""
    versions = SCRIPTS / "versions"
    if anew:
        for old in versions.glob("*.py"):
            old.unlink()
    engine = create_engine("sqlite://", poolclass=StaticPool)
    number = len(list(versions.glob("*.py"))) + 1
    if number > 1:
        upgrade_schema(engine)
    with engine.connect() as conn:
        config = configure_alembic(conn)
        config.attributes["batch"] = number > 1
        config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
        command.revision(config, message, autogenerate=True, rev_id=f"{number:04}")
        path = Path(ScriptDirectory.from_config(config).get_revision("head").path)
    # Without Alembic's own comments.
    path.write_text(re.sub(r"^ *#.*\n", "", path.read_text(), flags=re.MULTILINE))
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(path)], check=True)
    return path


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or (arguments[0].startswith("-") and arguments[0] != "--anew"):
        print(__doc__, file=sys.stderr)
        return 2
    anew = arguments[0] == "--anew"
    path = write_migration(FIRST if anew else arguments[0], anew=anew)
    print(f"wrote {path}; read it, and run the tests")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
