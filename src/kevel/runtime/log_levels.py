"""From which level on this process logs, by the names of its modules; it can be changed while it runs."""

from __future__ import annotations

import logging
import sys
from typing import Final

import structlog

#: The words, as Cinder's clients send them.
LEVELS: Final = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
}
#: What all of Kevel's own loggers begin with.
OWN: Final = "kevel"
#: Loggers shown at once.
SHOWN_MAX: Final = 500


class LogLevels:
    """The levels of this process."""

    def show(self, prefix: str) -> dict[str, str]:
        """The level in force of each logger whose name begins so."""
        names = sorted({OWN, *logging.root.manager.loggerDict})
        wanted = [name for name in names if name.startswith(prefix)][:SHOWN_MAX]
        return {name: logging.getLevelName(logging.getLogger(name).getEffectiveLevel()) for name in wanted}

    def set(self, prefix: str, level: str) -> None:
        """Let every logger whose name begins so log from that level on ("" is all of Kevel). KeyError for no level."""
        number = LEVELS[level.upper()]
        prefix = prefix or OWN
        for name in {prefix.rstrip("."), *logging.root.manager.loggerDict}:
            if name.startswith(prefix.rstrip(".")):
                logging.getLogger(name).setLevel(number)


def set_up_logging(level: str) -> None:
    """Log to stderr: Kevel's events as pairs, other libraries' lines as they are."""
    number = LEVELS[level.upper()]
    logging.basicConfig(level=number, format="%(levelname)s %(name)s: %(message)s")
    own = logging.getLogger(OWN)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    own.handlers[:] = [handler]
    own.propagate = False
    own.setLevel(number)
    structlog.configure(
        processors=[
            # The first: whatever is not logged costs no more than that.
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
