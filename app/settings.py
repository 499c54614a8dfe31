"""Every setting of the service: one frozen class, read from ``GATECAST_*`` or options."""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import StartupError

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


class Settings(BaseSettings):
    """Settings of gateways, runners and their supervisor."""

    model_config = SettingsConfigDict(env_prefix="GATECAST_", frozen=True, extra="forbid")

    model_repository: Path = Field(
        Path("model_repository"), description="Folder of NAME/VERSION/model.onnx files."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    gateways: int = Field(1, ge=1, le=256, description="Processes that speak HTTP.")
    runners: int = Field(
        1, ge=1, le=256, description="Processes that run models on the CPU; on CUDA there is one."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where models run; `cuda` refuses to start without CUDA."
    )
    gpu_mem_limit_bytes: int = Field(
        0, ge=0, description="Most GPU memory of the ONNX Runtime arena; 0 sets no limit."
    )
    api_keys_file: Path | None = Field(
        None, description="File of hashed API keys, made by `gatecast keys`."
    )
    insecure: bool = Field(
        default=False, description="Allow an address beyond loopback without API keys."
    )
    max_body_bytes: int = Field(
        8 * 2**20, ge=1024, description="Largest request body, also after decompression."
    )
    max_file_bytes: int = Field(
        64 * 2**20, ge=1024, description="Largest file in a request, also after decompression."
    )
    max_series: int = Field(10_000, ge=1, description="Most series in one request.")
    max_steps: int = Field(
        2_000_000, ge=1, description="Most time steps in one request, all series."
    )
    request_timeout_s: float = Field(
        30.0, gt=0, description="Longest a request may take; X-Request-Timeout-Ms only shortens it."
    )
    header_timeout_s: float = Field(
        15.0, gt=0, description="Longest the headers of a request may take to arrive."
    )
    body_timeout_s: float = Field(
        30.0, gt=0, description="Longest the body of a request may take to arrive."
    )
    max_batch_size: int = Field(32, ge=1, description="Most series in one model run.")
    max_batch_steps: int = Field(
        32_768, ge=1, description="Most padded steps, series times longest, in one model run."
    )
    max_padding_share: float = Field(
        0.25, ge=0, lt=1, description="Most padding, as a share of all steps, in one model run."
    )
    max_queue_steps: int = Field(
        4_000_000, ge=1, description="Most padded steps that may wait for one model."
    )
    max_queue_delay_ms: float = Field(
        0.0, ge=0, description="How long a run waits for company; 0 never waits."
    )
    watchdog_s: float = Field(5.0, gt=0, description="A process silent for this long is replaced.")
    startup_timeout_s: float = Field(
        120.0, gt=0, description="Longest a process may take to become ready."
    )
    drain_delay_s: float = Field(
        3.0,
        ge=0,
        description="After SIGTERM, how long connections are still accepted and told to close.",
    )
    graceful_timeout_s: float = Field(
        25.0, ge=0, description="After that, how long accepted requests may take to finish."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )
    access_log: bool = Field(default=True, description="Log one line per request.")

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        if self.host not in LOOPBACK_HOSTS and self.api_keys_file is None and not self.insecure:
            raise ValueError(
                f"refusing to listen on {self.host} without API keys:"
                " set GATECAST_API_KEYS_FILE, or pass --insecure"
            )
        return self

    def to_environment(self) -> dict[str, str]:
        """Return the environment that gives a child process these same settings."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("GATECAST_")}
        given = self.model_dump(mode="json", exclude_none=True)
        return inherited | {f"GATECAST_{name.upper()}": str(value) for name, value in given.items()}


def load_settings(**overrides: object) -> Settings:
    """Read the settings; ``overrides`` win over the environment.

    Raises:
        StartupError: A value is missing or wrong; the message names each setting.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        lines = (
            f"{_setting_name(p['loc'])}{p['msg'].removeprefix('Value error, ')}" for p in problems
        )
        raise StartupError("; ".join(lines)) from error


def _setting_name(location: tuple[int | str, ...]) -> str:
    return f"GATECAST_{str(location[0]).upper()}: " if location else ""
