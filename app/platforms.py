"""What the machine-learning platforms tell a container by environment variables of their own.

These are defaults: a ``GATECAST_*`` variable or an option of ``gatecast serve`` wins.
"""

from collections.abc import Mapping
from pathlib import Path

_SAGEMAKER_MODEL = Path("/opt/ml/model")
_VARIABLES = {
    "AIP_HTTP_PORT": "port",
    "AIP_HEALTH_ROUTE": "vertex_health_route",
    "AIP_PREDICT_ROUTE": "vertex_predict_route",
    "SAGEMAKER_BIND_TO_PORT": "port",
    "DEEPAR_INFERENCE_CONFIG": "deepar_inference_config",
}


def platform_settings(
    environment: Mapping[str, str], sagemaker_model: Path = _SAGEMAKER_MODEL
) -> dict[str, str]:
    """Return the settings that SageMaker or Vertex AI ask for.

    The model repository is ``SM_MODEL_DIR``, else ``AIP_STORAGE_URI`` where that is a folder (a
    bucket's address is not), else ``/opt/ml/model`` where there is one.
    """
    given = {
        name: value for variable, name in _VARIABLES.items() if (value := environment.get(variable))
    }
    folders = [environment.get("SM_MODEL_DIR"), environment.get("AIP_STORAGE_URI")]
    folder = next((f for f in folders if f and Path(f).is_dir()), None)
    if folder is None and sagemaker_model.is_dir():
        folder = str(sagemaker_model)
    return given | ({"model_repository": folder} if folder else {})
