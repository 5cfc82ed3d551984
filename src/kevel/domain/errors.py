"""Every error Kevel raises on purpose.

    KevelError
    |-- CallerError             the caller's fault: shown to the caller, changes nothing
    |   |-- Invalid             400
    |   |-- Unauthenticated     401
    |   |-- Forbidden           403
    |   |-- NotFound            404
    |   |-- Conflict            409
    |   |-- Outdated            412
    |   |-- OverLimit           413
    |   |-- Unsupported         415
    |   |-- KeyReused           422
    |   |-- StorageFailed       500   (the storage's fault, and an answer that Cinder's clients expect)
    |   `-- Unavailable         503   (not the caller's fault, but the caller's to repeat)
    |-- StepError               what a guest, a host or storage answered to a step
    |   |-- StepRetry           it may pass: try again, with backoff
    |   |-- StepNever           it will not succeed as asked: step down, keep the reason
    |   `-- StepUnknown         the call was lost: the effect may exist, so look again
    |-- SetupError              Kevel cannot start here: data directory, port, configuration
    |-- Repeated                the request was carried out before: its answer is kept
    `-- StaleWrite              a compare-and-set met a newer row: read again and decide anew

The first split is whose fault it is, since that decides what happens next. A class's docstring is its default message.
Anything that is not a KevelError is a bug: it becomes a 500 without its text, and the text goes to the log.
"""

from __future__ import annotations


class KevelError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        super().__init__(self.message)


class CallerError(KevelError):
    """The request cannot be carried out as it stands."""

    #: HTTP status that every API maps this to.
    status = 400


class Invalid(CallerError):
    """The request is malformed."""

    status = 400


class Unauthenticated(CallerError):
    """The request needs a valid token."""

    status = 401


class Forbidden(CallerError):
    """Policy does not allow this request."""

    status = 403


class NotFound(CallerError):
    """The resource could not be found."""

    status = 404


class Conflict(CallerError):
    """The resource is in a state that does not allow this."""

    status = 409


class Outdated(CallerError):
    """What was to be changed has changed since it was read."""

    status = 412


class OverLimit(CallerError):
    """A quota, a size limit or the storage's capacity would be exceeded."""

    status = 413


class Unsupported(CallerError):
    """The content type is not supported; use application/json."""

    status = 415


class KeyReused(CallerError):
    """The idempotency key stands for another request."""

    status = 422


class StorageFailed(CallerError):
    """The storage did not do what this request needs."""

    status = 500


class Unavailable(CallerError):
    """Kevel cannot take this request just now; repeat it later."""

    status = 503


class StepError(KevelError):
    """A step of the ladder did not succeed."""


class StepRetry(StepError):
    """A passing failure; the step is tried again."""


class StepNever(StepError):
    """The step cannot succeed as asked."""


class StepUnknown(StepError):
    """The outcome of the call is unknown; the real state must be looked at."""


class SetupError(KevelError):
    """Kevel cannot start with this data directory or configuration."""


class Fenced(KevelError):
    """Another registration of this host's agent has taken this one's place."""


class Repeated(KevelError):
    """The request was carried out before, and its answer is kept."""


class StaleWrite(KevelError):
    """The row has moved on since it was read."""
