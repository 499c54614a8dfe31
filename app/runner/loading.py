"""Opens a model and proves, on the device that will serve it, that it may be served."""

import logging

from app.artifact.card import Card
from app.runner.engine import Device, OrtEngine
from app.runner.trial import find_interface

logger = logging.getLogger(__name__)


def load_engine(
    model: bytes, device: Device, *, gpu_mem_limit_bytes: int = 0, has_bindings: bool = False
) -> OrtEngine:
    """Open a model, as ``OrtEngine.from_bytes``.

    An artifact replays its golden case; a plain model is tried.

    Raises:
        ArtifactError: It is no sound model, gives other numbers here than where it was made, or
            needs holidays that the installed package does not have.
    """
    engine = OrtEngine.from_bytes(
        model, device, gpu_mem_limit_bytes=gpu_mem_limit_bytes, has_bindings=has_bindings
    )
    card = engine.any_card
    if isinstance(card, Card) and card.holidays is not None:
        card.holidays.check()
    if card is not None:
        engine.check_golden_case()
    else:
        engine.interface = find_interface(engine)
        if not engine.interface.is_mergeable:
            digest = engine.file_digest
            logger.warning("%s: rows can not be told apart, so requests run one at a time", digest)
    return engine
