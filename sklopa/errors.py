"""Every error and warning that sklopa raises on purpose.

Each error is a :class:`SklopaError` and also the builtin or scikit-learn error that a
caller would catch anyway, so ``except ValueError`` keeps working.
"""

from sklearn.exceptions import NotFittedError


class SklopaError(Exception):
    """Base class of all errors raised by sklopa."""


class InvalidInput(SklopaError, ValueError):
    """Data that cannot be used as they are; the text names the first bad row."""


class InvalidType(SklopaError, TypeError):
    """Data of a kind that sklopa does not read, such as a bare string or numbers."""


class InvalidParameter(SklopaError, ValueError):
    """A constructor parameter with a value that is not allowed."""


class NotFitted(SklopaError, NotFittedError):
    """A method that needs ``fit`` was called before it."""


class BackboneNotFound(SklopaError, OSError):
    """The frozen model is neither a folder, nor cached, nor reachable on a hub."""


class UnsupportedBackbone(SklopaError, ValueError):
    """The frozen model cannot do what the estimator asks of it."""


class BackboneNotPicklable(SklopaError, TypeError):
    """Live objects were asked to travel in a pickle."""


class FitFailed(SklopaError, ValueError):
    """Training met a loss that is not finite."""


class OutOfMemory(SklopaError, MemoryError):
    """Not even one row fits in memory."""


class ServerUnreachable(SklopaError, ConnectionError):
    """No server answers, however often it was asked."""


class ServerRefused(SklopaError, ValueError):
    """The server answers, and cannot or will not do what it was asked."""


class MissingDependency(SklopaError, ImportError):
    """A feature needs an optional package that is not installed."""


class CodeExecutionDisabled(SklopaError, ValueError):
    """Generated code was to be executed without permission."""


class SandboxUnavailable(SklopaError, OSError):
    """The platform cannot confine generated code as promised."""


class ArchiveNotFound(SklopaError, OSError):
    """There is no saved estimator at a path or on the hub, or it cannot be read there."""


class InvalidArchive(SklopaError, ValueError):
    """A saved estimator is damaged, hostile, or made for something else than is here."""


class NotWritten(SklopaError, OSError):
    """Something could not be written to disk; what was there before is unchanged."""


class CheckpointMismatch(SklopaError, ValueError):
    """A checkpoint folder belongs to a fit with other data or parameters, or is in use."""


class ArchiveWarning(UserWarning):
    """A saved estimator was written with other versions than those that read it."""


class TruncationWarning(UserWarning):
    """Some texts were longer than the token limit and lost their end."""


class BatchSizeWarning(UserWarning):
    """A batch did not fit in memory and was halved."""


class SharedDeviceWarning(UserWarning):
    """Several workers want to train on one GPU, and take turns."""


class BusyMachineWarning(UserWarning):
    """Threads wait for each other, and a fit that promises the same bits keeps their number."""


class WholeModelWarning(UserWarning):
    """A client was to need little of the frozen model, and needs all of it."""


class OldServerWarning(UserWarning):
    """A server is older than the first version that is safe to send tensors to."""
