"""``model.py`` of Triton's own Python backend: its dynamic batcher, one run for each batch."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton


class TritonPythonModel:
    """What the backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002
        """Open the model beside this file."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = Path(__file__).with_name("model.onnx")
        self._session = ort.InferenceSession(str(model), options, ["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests of equal length: Triton merges no others."""
        parts = [triton.get_input_tensor_by_name(one, "history").as_numpy() for one in requests]
        (forecast,) = self._session.run(None, {"history": np.concatenate(parts)})
        answers, start = [], 0
        for part in parts:
            own = triton.Tensor("forecast", forecast[start : start + len(part)])
            answers.append(triton.InferenceResponse([own]))
            start += len(part)
        return answers
