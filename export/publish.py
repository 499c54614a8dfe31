"""Puts an artifact together and into the model repository."""

from app.artifact import seal, to_metadata
from export.card import to_card, to_golden_case
from export.graph import to_bytes, to_onnx
from models.checkpoint import Checkpoint


def to_artifact(checkpoint: Checkpoint) -> bytes:
    """Return the sealed artifact of ``checkpoint``: graph, card and golden case in one file.

    Raises:
        ArtifactError: The exporter did not give the graph that serving needs.
    """
    metadata = to_metadata(to_card(checkpoint), to_golden_case(checkpoint.network))
    return seal(to_bytes(to_onnx(checkpoint.network, metadata)))
