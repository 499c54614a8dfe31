"""Starts the tritonserver of nvidia-pytriton: ``triton_start.py PORT MODEL SCRATCH [COUNT]``."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import pytriton

_CONFIG = """
name: "m"
backend: "python"
max_batch_size: 16
input [{ name: "history" data_type: TYPE_FP32 dims: [-1, 1] }]
output [{ name: "forecast" data_type: TYPE_FP32 dims: [24, 3] }]
instance_group [{ kind: KIND_CPU count: %d }]
dynamic_batching { max_queue_delay_microseconds: 0 }
"""

_PACKAGE = Path(pytriton.__file__).parent
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def main(port: int, model: Path, scratch: Path, count: int) -> None:
    """Lay out the model repository and become the server; ``count`` instances run the model."""
    backends, folder = scratch / "backends", scratch / "models" / "m" / "1"
    shutil.copytree(_PACKAGE / "tritonserver" / "backends", backends)
    stub = backends / "python" / "triton_python_backend_stub"
    shutil.copy(_PACKAGE / "tritonserver" / "python_backend_stubs" / _PYTHON / stub.name, stub)
    stub.chmod(0o755)
    libraries = _PACKAGE.parent / "nvidia_pytriton.libs"
    (scratch / libraries.name).symlink_to(libraries)
    folder.mkdir(parents=True)
    shutil.copy(model, folder / "model.onnx")
    # The stub runs the system's interpreter and knows nothing of this environment.
    code = Path(__file__).with_name("triton_model.py").read_text()
    (folder / "model.py").write_text(
        f"import sys\nsys.path.insert(0, {str(_PACKAGE.parent)!r})\n" + code
    )
    (folder.parent / "config.pbtxt").write_text(_CONFIG % count)
    os.environ["LD_LIBRARY_PATH"] = f"{libraries}:{sysconfig.get_config_var('LIBDIR')}"
    program = str(_PACKAGE / "tritonserver" / "bin" / "tritonserver")
    options = {
        "model-repository": scratch / "models",
        "backend-directory": backends,
        "http-address": "127.0.0.1",
        "http-port": port,
        "allow-grpc": "false",
        "allow-metrics": "false",
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    os.execv(program, [program, "--disable-auto-complete-config", *arguments])  # noqa: S606


if __name__ == "__main__":
    instances = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), instances)
