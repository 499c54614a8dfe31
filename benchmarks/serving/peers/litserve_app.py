"""LitServe, with dynamic batching in one worker process: ``litserve_app.py PORT MODEL``."""

import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime as ort
from fastapi import Request

_MAX_BATCH = 16
_WAIT_S = 0.005  # what suits it best of those tried


class Forecasts(litserve.LitAPI):  # type: ignore[misc]
    """Takes and gives tensors as ``/v2`` writes them, one series a request."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Open the model."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(sys.argv[2], options, ["CPUExecutionProvider"])

    def decode_request(self, request: Request) -> Any:
        """Return ``(time, 1)``."""
        content: Any = request  # what the request holds, in spite of its type
        return np.array(content["inputs"][0]["data"], np.float32)[:, None]

    def batch(self, inputs: Any) -> Any:
        """Return ``(batch, time, 1)``."""
        return np.stack(inputs)

    def predict(self, history: Any) -> Any:
        """Return ``(batch, 24, 3)``."""
        return self._session.run(None, {"history": history})[0]

    def unbatch(self, output: Any) -> Any:
        """Return one ``(24, 3)`` for each request."""
        return list(output)

    def encode_response(self, output: Any) -> Any:
        """Write it."""
        return {"outputs": [{"name": "forecast", "data": output.reshape(-1).tolist()}]}


if __name__ == "__main__":
    api = Forecasts(max_batch_size=_MAX_BATCH, batch_timeout=_WAIT_S, api_path="/v2/models/m/infer")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
