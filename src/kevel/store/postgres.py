"""PostgreSQL: connections as Kevel needs them, and whether a server is fit for it."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg.types.numeric import IntLoader
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from kevel.domain.errors import Invalid, NotFound, SetupError, Unavailable
from kevel.store.batch import StoreFull

#: Kevel is tested with this one; older ones are refused.
VERSION_MIN: Final = 15
#: How long one statement may take, and how long it may wait for a lock.
STATEMENT_S_MAX: Final = 30
LOCK_S_MAX: Final = 10
#: The server ends a session that stops in the middle of a transaction.
IDLE_IN_TRANSACTION_S_MAX: Final = 60
#: Statements that a connection keeps prepared: Kevel has a few hundred.
PREPARED_MAX: Final = 1000
#: How text is compared and sorted: by its bytes, as SQLite does.
COLLATIONS: Final = frozenset({"C", "POSIX", "C.UTF-8", "C.utf8"})

#: What libpq is told unless the URL says otherwise: a peer that is gone is noticed within 20 s.
_CONNECT: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "20000",
}
#: The same for the server's end of the connection, the limits, and a COMMIT that is durable.
_SETTINGS: Final = f"""
SELECT set_config('statement_timeout', '{STATEMENT_S_MAX}s', false),
       set_config('lock_timeout', '{LOCK_S_MAX}s', false),
       set_config('idle_in_transaction_session_timeout', '{IDLE_IN_TRANSACTION_S_MAX}s', false),
       set_config('tcp_keepalives_idle', '10', false),
       set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '2', false),
       set_config('tcp_user_timeout', '20s', false),
       set_config('jit', 'off', false),
       CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END
"""
_SERVER: Final = """
SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'), datlocprovider::text,
       datcollate, datctype, pg_is_in_recovery()
FROM pg_database WHERE datname = current_database()
"""
_UNSAFE: Final = """
SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name
"""


class DatabaseUnreachable(Unavailable):
    """Kevel's database cannot be reached; nothing was changed. Try again later."""


class DatabaseSlow(Unavailable):
    """Kevel's database took too long, or somebody holds a lock in it; nothing was changed. Try again later."""


class DatabaseReadOnly(Unavailable):
    """Kevel's database takes no writes just now; nothing was changed. Try again later."""


class DatabaseFull(StoreFull):
    """Kevel's database server is out of disk space; free some and try again."""


class QuietCursor(psycopg.Cursor[Any]):
    """A cursor whose errors name what was broken, and never the values: PostgreSQL's own quote them (S10)."""

    def execute(self, *args: Any, **kwargs: Any) -> QuietCursor:
        try:
            super().execute(*args, **kwargs)
        except psycopg.Error as error:
            hide_values(error)
            raise
        return self


def hide_values(error: psycopg.Error) -> None:
    """Rewrite the error's text: a constraint's name, or what is wrong with the statement."""
    diag = error.diag
    if error.sqlstate is None:
        return  # psycopg's own words; there are no values in them
    name = type(error).__name__
    if isinstance(error, psycopg.IntegrityError):
        broken = ".".join(part for part in (diag.table_name, diag.constraint_name or diag.column_name) if part)
        error.args = (f"{name}: {broken}",)
    elif error.sqlstate.startswith("22"):  # what a value is wrong for; the message holds it
        error.args = (f"{name} ({error.sqlstate})",)
    else:
        error.args = (f"{name}: {diag.message_primary}",)


def parse_url(text: str) -> URL:
    """The URL of a database. Raises SetupError, which never repeats it: a password may be in it."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.drivername not in ("postgresql", "postgres") or not url.database:
        raise SetupError(
            "The database is not named as Kevel needs it; it has to look like postgresql://USER@HOST/DATABASE "
            "(what was given is not shown here, since a password may be in it)."
        )
    return url.set(drivername="postgresql+psycopg")


def make_postgres_engine(url: URL, application: str = "kevel") -> Engine:
    """An engine whose connections are set up as Kevel needs them. Transactions are begun by hand."""
    connect: dict[str, Any] = {key: value for key, value in _CONNECT.items() if key not in url.query}
    engine = create_engine(
        url,
        poolclass=NullPool,
        pool_reset_on_return=None,
        hide_parameters=True,
        paramstyle="format",
        use_native_hstore=False,
        connect_args=connect | {"autocommit": True, "cursor_factory": QuietCursor, "application_name": application},
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: psycopg.Connection[Any], record: object) -> None:
        connection.prepare_threshold = 2
        connection.prepared_max = PREPARED_MAX
        # A sum of integers is "numeric" there. Kevel stores nothing of that type.
        connection.adapters.register_loader("numeric", IntLoader)
        connection.execute(_SETTINGS)

    return engine


def show_url(url: URL) -> str:
    """The URL as people may see it."""
    return url.render_as_string(hide_password=True).replace("postgresql+psycopg:", "postgresql:")


def check_server(engine: Engine) -> list[str]:
    """What makes the server less safe than it should be, for an operator to read.

    Raises SetupError when it cannot be reached, or Kevel cannot run on it.
    """
    shown = show_url(engine.url)
    try:
        with engine.connect() as conn:
            version, encoding, provider, collation, ctype, standby = conn.exec_driver_sql(_SERVER).one()
            unsafe = [str(name) for (name,) in conn.exec_driver_sql(_UNSAFE)]
    except DBAPIError as error:
        raise SetupError(f"The database {shown} cannot be used: {_first_line(error)}") from None
    if version < VERSION_MIN:
        raise SetupError(f"The server of {shown} is PostgreSQL {version}; Kevel needs {VERSION_MIN} or newer.")
    if standby:
        raise SetupError(f"{shown} is a standby, which takes no writes; name the primary.")
    if encoding != "UTF8" or provider != "c" or not {collation, ctype} <= COLLATIONS:
        raise SetupError(
            f"The database {shown} has the encoding {encoding} and sorts by {collation!r}; Kevel needs UTF8 and C. "
            f"Make it with: CREATE DATABASE {engine.url.database} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"
        )
    return [f"{name} is off on the server of {shown}: a power cut there may lose or damage data" for name in unsafe]


def _first_line(error: DBAPIError) -> str:
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason was given."


def explain_error(error: Exception) -> Exception:
    """What callers are told of the database's error: one that will pass, or their own fault; else the error itself."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        return error
    if isinstance(cause, psycopg.DataError) and cause.sqlstate is None and "NUL" in str(cause):
        # Since nothing stored has one, whoever looks for it finds nothing.
        looking = isinstance(error, DBAPIError) and str(error.statement).startswith("SELECT")
        return NotFound() if looking else Invalid("A text holds a NUL character; leave it out: it cannot be stored.")
    known: dict[str | None, type[Exception]] = {
        "53100": DatabaseFull,
        "57014": DatabaseSlow,
        "55P03": DatabaseSlow,
        "25006": DatabaseReadOnly,
    }
    kind = known.get(cause.sqlstate)
    return error if kind is None else kind()
