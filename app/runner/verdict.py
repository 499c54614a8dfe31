"""What a runner asks the process that tries model files, and what that answers, as JSON lines."""

import msgspec


class Trial(msgspec.Struct, frozen=True):
    """Announces a model file, whose bytes follow; the limits are those of its trial."""

    num_bytes: int
    timeout_s: float
    memory_bytes: int


class Verdict(msgspec.Struct, frozen=True):
    """Whether a model file may be opened; ``reason`` says why not."""

    is_sound: bool
    reason: str = ""
