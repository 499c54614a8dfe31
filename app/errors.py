"""What can go wrong, without HTTP in it.

GatecastError
├── MalformedBodyError           a body that is no JSON at all, or is cut off
├── InvalidInputError            the caller's numbers or fields are wrong
│   └── InvalidSeriesError       every series of a request is wrong
├── PayloadTooLargeError         a body, before or after decompression, is over its limit
├── UnsupportedMediaTypeError    a content type or encoding that is not spoken here
├── BodyTimeoutError             a body did not arrive in time
├── UnauthorizedError            no API key, or one that is not known
├── ForbiddenError               the caller is known, or needs no key, but may not do this
├── ModelNotFoundError           no such model or version
├── NoForecasterError            the model has another task, or takes and gives tensors alone
├── WrongTaskError               the model does not classify, regress or tag, as was asked
├── UnknownSequenceError         a sequence that was not begun, has ended or was forgotten
├── SequenceConflictError        a sequence can not go on: its model or its past is another
├── StreamNotFoundError          a stream that was never made, or was deleted
├── StreamLostError              a stream that was made and can not go on
├── StreamConflictError          observations that do not follow on a stream
├── StreamLimitError             a caller has as many streams as it may have
├── ModelRefusedError            a model file that was to be loaded is not sound
│   └── ConfigError              the ``config.toml`` of a model is wrong
├── NotSupportedError            a part of a protocol that this service does not have
├── JobsOffError                 there are no bulk jobs here
├── JobNotFoundError             the caller has no such job
├── JobConflictError             the state of a job does not allow that
├── IdempotencyKeyReusedError    a repeated request is not the one that it repeats
├── RetryableError               try again after ``retry_after_s``
│   ├── ModelNotReadyError       the model, or the runner that holds it, is not up
│   ├── OverloadedError          the queue is full
│   ├── TooManyJobsError         the caller has as many jobs as one may have
│   ├── StreamStoreError         what keeps the streams does not answer
│   ├── StorageError             the disk of the jobs is full, or slow
│   └── ShuttingDownError        the process is draining
├── DeadlineExceededError        the caller's time ran out first
├── EngineError                  a model run failed
│   ├── ModelOutputError         a model run gave numbers that are not finite
│   ├── OutOfMemoryError         a model run needs more memory than there is
│   └── DeviceLostError          no model runs in this process any more
├── ArtifactError                a model file is broken, damaged or not ours
├── BulkRunError                 a bulk run can not begin, go on or forecast anything
├── RemoteError                  a running service that a command speaks to refuses or is away
└── StartupError                 the service can not start as it was told to
"""

from collections.abc import Sequence


class GatecastError(Exception):
    """Anything gatecast raises on purpose; the message is safe to show to a caller."""


class MalformedBodyError(GatecastError):
    """A body can not be read: no JSON, not UTF-8, cut off or wrongly compressed."""


class InvalidInputError(GatecastError):
    """A value is wrong; ``pointer`` is its JSON pointer where there is one."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class InvalidSeriesError(InvalidInputError):
    """Every series of a request is wrong; ``refusals`` says why, in their order."""

    def __init__(self, message: str, refusals: Sequence[InvalidInputError]) -> None:
        super().__init__(message)
        self.refusals = tuple(refusals)


class PayloadTooLargeError(GatecastError):
    """A body exceeds its limit."""


class UnsupportedMediaTypeError(GatecastError):
    """A content type or content encoding is not supported."""


class BodyTimeoutError(GatecastError):
    """A body did not arrive within its time."""


class UnauthorizedError(GatecastError):
    """The API key is missing or not known."""


class ForbiddenError(GatecastError):
    """The caller may not do this."""


class ModelNotFoundError(GatecastError):
    """No model of that name, or no such version of it, is served."""


class NoForecasterError(GatecastError):
    """The model has another task, or none: then its file has no card."""


class WrongTaskError(GatecastError):
    """The model does not classify, regress or tag, as was asked."""


class UnknownSequenceError(GatecastError):
    """A request goes on with a sequence whose state is not kept here."""


class SequenceConflictError(GatecastError):
    """A request goes on with a sequence, but not from where the caller believes."""


class StreamNotFoundError(GatecastError):
    """There is no stream of that name."""


class StreamLostError(GatecastError):
    """A stream has expired, or its store was lost; it can only be made anew."""


class StreamConflictError(GatecastError):
    """Observations leave a gap in a stream, or contradict what it holds."""


class StreamLimitError(GatecastError):
    """The caller has as many streams as it may have."""


class ModelRefusedError(GatecastError):
    """A model that was to be loaded is not sound; what was served before still is."""


class ConfigError(ModelRefusedError):
    """The ``config.toml`` of a model is wrong; the message is one readable line."""


class NotSupportedError(GatecastError):
    """The protocol has this, the service does not."""


class JobsOffError(GatecastError):
    """The service was not given a folder for bulk jobs."""


class JobNotFoundError(GatecastError):
    """The caller has no such job."""


class JobConflictError(GatecastError):
    """A job is not in a state that allows what was asked."""


class IdempotencyKeyReusedError(GatecastError):
    """A request names the idempotency key of another one, but asks for something else."""


class RetryableError(GatecastError):
    """The caller may try again after ``retry_after_s`` seconds."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelNotReadyError(RetryableError):
    """The model, or the runner that holds it, is not up."""


class OverloadedError(RetryableError):
    """The queue is full; nothing was run.

    For ``pause_s``, other requests of the same flow would be refused as well.
    """

    def __init__(self, message: str, retry_after_s: int = 1, *, pause_s: float = 0.0) -> None:
        super().__init__(message, retry_after_s)
        self.pause_s = pause_s


class TooManyJobsError(RetryableError):
    """The caller has as many unfinished jobs as one may have."""


class StreamStoreError(RetryableError):
    """What keeps the streams does not answer; nothing of a stream was made up instead."""


class StorageError(RetryableError):
    """What belongs to a job can not be written now."""


class ShuttingDownError(RetryableError):
    """The process is draining and takes no new work."""


class DeadlineExceededError(GatecastError):
    """The caller's deadline passed before the model ran."""


class EngineError(GatecastError):
    """A model run failed."""


class ModelOutputError(EngineError):
    """A model run gave numbers that are not finite."""


class OutOfMemoryError(EngineError):
    """A model run needs more memory than there is; one of fewer rows may not."""


class DeviceLostError(EngineError):
    """The GPU gave an error that only another process can leave behind."""


class ArtifactError(GatecastError):
    """A model file is broken, damaged or not ours; the message is one readable line."""


class BulkRunError(GatecastError):
    """A bulk run can not begin, can not write its files, or has no series it can forecast."""


class RemoteError(GatecastError):
    """A running service refuses or is not there; the message is one readable line."""


class StartupError(GatecastError):
    """The service can not start as it was told to; the message is one readable line."""
