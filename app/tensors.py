"""Named NumPy arrays, the one currency between protocols, batcher and engine."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]

LARGEST_MAGNITUDE = 1e30
"""Of any number of a series: differences and sums of such numbers are finite in float32 too."""

Datatype = Literal["BOOL", "INT32", "INT64", "FP32", "FP64"]

NUMPY_DTYPES: dict[Datatype, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}
"""Open Inference Protocol data types that forecasters use, and how NumPy stores them."""

DATATYPES: dict[np.dtype[Any], Datatype] = {dtype: name for name, dtype in NUMPY_DTYPES.items()}
