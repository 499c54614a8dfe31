"""What the tensors of a model are, as its artifact says."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from app.tensors import NUMPY_DTYPES, Datatype


class Content(BaseModel):
    """Anything in an artifact: never changed, and of no other fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class TensorSpec(Content):
    """Name, type and shape of a tensor; a dimension is a size or a name, such as ``batch``."""

    name: str
    datatype: Datatype
    shape: tuple[int | str, ...]


class StateSpec(Content):
    """A carried state: input ``name``, output ``next_name``, both of shape ``(batch, *shape)``."""

    name: str
    next_name: str
    datatype: Datatype
    shape: tuple[int, ...]
    initial: float | None
    """The value that fills the state before the first step; None stands for NaN."""

    def initial_tensor(self, batch: int) -> NDArray[Any]:
        """Return the state of ``batch`` series that have not begun."""
        fill = np.nan if self.initial is None else self.initial
        return np.full((batch, *self.shape), fill, NUMPY_DTYPES[self.datatype])
