"""The error hierarchy: raised in the core, translated once into HTTP problems and once into CLI messages.

A message says what is wrong with what value; `hint` says what to do about it.
"""


class TamisError(Exception):
    """Base of every error a user can cause or meet. `type` is a stable identifier of the kind of error."""

    type = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InputError(TamisError, ValueError):
    """A value, file or array that cannot be used as given."""

    type = "invalid-input"


class NotFoundError(TamisError, LookupError):
    """Something named does not exist."""

    type = "not-found"


class ExpiredError(NotFoundError):
    """Something was kept for a while, and is no longer."""

    type = "expired"


class ConflictError(TamisError):
    """The request contradicts the present state, such as results asked of an unfinished job."""

    type = "conflict"


class BusyError(ConflictError):
    """Another request is at the same thing right now."""

    type = "busy"


class AuthenticationError(TamisError):
    """No valid API key was sent."""

    type = "unauthenticated"


class LimitError(TamisError):
    """A configured limit (size, count, quota) would be exceeded."""

    type = "limit-exceeded"


class QuotaError(LimitError):
    """There is no room left for what was sent."""

    type = "quota-exceeded"


class ChecksumError(TamisError):
    """What arrived is not what was sent."""

    type = "checksum-mismatch"


class CancelledError(TamisError):
    """The job was cancelled by its owner."""

    type = "cancelled"


class SettingsError(TamisError):
    """The configuration is incomplete or contradictory."""

    type = "invalid-settings"
