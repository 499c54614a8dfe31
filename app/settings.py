"""Every setting of the service: one frozen class, read from ``GATECAST_*`` or options."""

import base64
import os
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.cores import count_cores
from app.errors import StartupError
from app.platforms import platform_settings

DIALECT_NAMES = frozenset({"timegpt", "sagemaker", "chronos", "vertex", "kserve"})
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})

_LEAST_SECRET_BYTES, _MOST_SECRET_BYTES = 24, 64
_ROUTE = re.compile(r"(/[A-Za-z0-9._~:@!$&'()*+,;=-]+)+")


class Settings(BaseSettings):
    """Settings of gateways, runners and their supervisor."""

    model_config = SettingsConfigDict(env_prefix="GATECAST_", frozen=True, extra="forbid")

    model_repository: Path = Field(
        Path("model_repository"), description="Folder of NAME/VERSION/model.onnx files."
    )
    model_control: Literal["fixed", "poll", "explicit"] = Field(
        "fixed",
        description="What changes the models served: a restart, the folder, or load and unload.",
    )
    poll_interval_s: float = Field(
        5.0, gt=0, description="How often the folder is looked at where it is polled."
    )
    max_model_bytes: int = Field(
        2 * 2**30, ge=1024, description="Largest model file; ONNX itself ends at this size."
    )
    vetting_timeout_s: float = Field(
        8.0, gt=0, description="Longest a new model file may take to be opened and tried."
    )
    retire_after_s: float = Field(
        10.0, ge=0, description="How long a replaced version still answers those who chose it."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    admin_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port that alone takes loads and unloads; empty: the same port, 0: a free one.",
    )
    gateways: int = Field(1, ge=1, le=256, description="Processes that speak HTTP.")
    runners: int = Field(
        1,
        ge=0,
        le=256,
        description="Processes that run models on the CPU, 0: one a core; on CUDA one a GPU.",
    )
    runner_niceness: int = Field(
        5,
        ge=0,
        le=19,
        description="How far runners on the CPU give way to gateways where cores are short, as"
        " nice.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where models run; `cuda` refuses to start without CUDA."
    )
    gpu_mem_limit_bytes: int = Field(
        0, ge=0, description="Most GPU memory of the ONNX Runtime arena; 0 sets no limit."
    )
    gpu_run_slots: int = Field(
        1,
        ge=1,
        le=8,
        description="Runs on one GPU at a time, so that the next one's copies overlap.",
    )
    gpu_buckets: bool = Field(
        default=True,
        description="Whether runs on CUDA are padded to few fixed sizes, run before they serve.",
    )
    gpu_io_binding: bool = Field(
        default=False,
        description="Whether runs on CUDA copy from and to host memory that stays in its place.",
    )
    api_keys_file: Path | None = Field(
        None, description="File of hashed API keys, made by `gatecast keys`."
    )
    insecure: bool = Field(
        default=False, description="Allow an address beyond loopback without API keys."
    )
    default_model: str = Field(
        "", description="Model that a request of a dialect means where it names none."
    )
    dialects: str = Field(
        "timegpt,sagemaker,chronos,vertex,kserve",
        description="Foreign protocols that are spoken; empty switches all off.",
    )
    vertex_health_route: str = Field("/health", description="Probe path; Vertex AI sets its own.")
    vertex_predict_route: str = Field("/predict", description="Path that Vertex AI posts to.")
    deepar_inference_config: str = Field(
        "", description="DeepAR's `configuration`, as JSON, for JSON Lines requests."
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
    max_horizon_factor: int = Field(
        2,
        ge=1,
        le=100,
        description="Longest horizon of a native request, in horizons of the model; 1 is its own.",
    )
    request_timeout_s: float = Field(
        30.0,
        gt=0,
        description="Longest a request may take, or each 256 series of a file; a caller may only"
        " shorten it.",
    )
    header_timeout_s: float = Field(
        15.0, gt=0, description="Longest the headers of a request may take to arrive."
    )
    body_timeout_s: float = Field(
        30.0, gt=0, description="Longest the body of a request may take to arrive."
    )
    max_batch_size: int = Field(16, ge=1, description="Most series in one model run.")
    fit_batch_size: bool = Field(
        default=True,
        description="Whether runs stay smaller where the machine gains nothing by larger ones.",
    )
    max_batch_steps: int = Field(
        32_768, ge=1, description="Most padded steps, series times longest, in one model run."
    )
    max_padding_share: float = Field(
        0.25, ge=0, lt=1, description="Most padding, as a share of all steps, in one model run."
    )
    max_queue_steps: int = Field(
        4_000_000, ge=1, description="Most padded steps that may wait for one model."
    )
    max_queue_wait_ms: float = Field(
        2000.0, gt=0, description="Longest, by estimate, that a request may wait for its run."
    )
    max_queue_delay_ms: float = Field(
        0.0, ge=0, description="How long a run waits for company; 0 never waits."
    )
    priority_levels: int = Field(
        3, ge=1, le=100, description="Levels of a request's priority under `/v2`; 1 is the highest."
    )
    max_sequences: int = Field(
        10_000, ge=1, description="Most sequences of `/v2` whose state one runner keeps."
    )
    sequence_idle_timeout_s: float = Field(
        300.0, gt=0, description="A sequence that is not used for this long is forgotten."
    )
    state_cache_bytes: int = Field(
        64 * 2**20,
        ge=0,
        description="Memory of one runner for the states behind recent histories; 0 keeps none.",
    )
    stream_store: str = Field(
        "",
        repr=False,
        description="What keeps streams over restarts: an SQLite file, or the `redis://` or"
        " `rediss://` URL of a Redis that services share; empty: streams end with the service.",
    )
    stream_ttl_s: float = Field(
        30 * 86_400.0, gt=0, description="A stream to which nothing is added for this long is lost."
    )
    max_streams: int = Field(10_000, ge=1, description="Most streams of one API key.")
    declare_sequences: bool = Field(
        default=False,
        description="Whether models that carry state name `sequence_batching` in their `/v2`"
        " config, so that perf_analyzer drives them by sequences.",
    )
    jobs_directory: Path | None = Field(
        None, description="Folder of bulk jobs and their files; empty switches them off."
    )
    jobs_input: Path | None = Field(
        None, description="Folder whose files a job may name instead of sending one."
    )
    max_job_file_bytes: int = Field(
        2**30, ge=1024, description="Largest file of a job, also after decompression."
    )
    max_unfinished_jobs: int = Field(
        20, ge=1, description="Most jobs of one API key that may wait or run."
    )
    job_retention_s: float = Field(
        604_800.0, gt=0, description="How long a finished job and its files are kept."
    )
    webhook_secret: str = Field(
        "",
        repr=False,
        description="What signs webhooks, `whsec_` and Base64; empty: jobs send none.",
    )
    webhook_hosts: str = Field(
        "", description="Hosts that webhooks may reach by http and at private addresses."
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
    access_log: bool = Field(
        default=True,
        description="Log a line per request; for those refused at once, one per caller and second.",
    )

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        if self.host not in LOOPBACK_HOSTS and self.api_keys_file is None and not self.insecure:
            raise ValueError(
                f"refusing to listen on {self.host} without API keys:"
                " set GATECAST_API_KEYS_FILE, or pass --insecure"
            )
        return self

    @field_validator("vertex_health_route", "vertex_predict_route")
    @classmethod
    def _check_route(cls, path: str) -> str:
        if not _ROUTE.fullmatch(path):
            raise ValueError("must be a path such as /predict")
        return path

    @field_validator("webhook_secret")
    @classmethod
    def _check_secret(cls, secret: str) -> str:
        if secret and not _is_secret(secret):
            raise ValueError("must be `whsec_` and the Base64 of 24 to 64 bytes")
        return secret

    @field_validator("stream_store")
    @classmethod
    def _check_store(cls, place: str) -> str:
        if "://" in place and not place.startswith(("redis://", "rediss://")):
            raise ValueError("must be a file, or a URL that begins with redis:// or rediss://")
        return place

    @field_validator("dialects")
    @classmethod
    def _check_dialects(cls, names: str) -> str:
        if unknown := set(_split(names)) - DIALECT_NAMES:
            known = ", ".join(sorted(DIALECT_NAMES))
            raise ValueError(f"knows no {', '.join(sorted(unknown))}; there are {known}")
        return names

    @property
    def num_runners(self) -> int:
        """Processes that run models on the CPU."""
        return self.runners or count_cores()

    @property
    def dialect_names(self) -> tuple[str, ...]:
        """The dialects that are switched on."""
        return tuple(dict.fromkeys(_split(self.dialects)))

    @property
    def trusted_webhook_hosts(self) -> tuple[str, ...]:
        """Hosts that webhooks may reach by http and at private addresses."""
        return tuple(_split(self.webhook_hosts))

    def to_environment(self) -> dict[str, str]:
        """Return the environment that gives a child process these same settings."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("GATECAST_")}
        given = self.model_dump(mode="json", exclude_none=True)
        return inherited | {f"GATECAST_{name.upper()}": str(value) for name, value in given.items()}


def load_settings(**overrides: object) -> Settings:
    """Read the settings: ``overrides`` win over the environment, that over the platform's wishes.

    Raises:
        StartupError: A value is missing or wrong; the message names each setting.
    """
    platform = {
        name: value
        for name, value in platform_settings(os.environ).items()
        if f"GATECAST_{name.upper()}" not in os.environ
    }
    try:
        return Settings(**platform | overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        lines = (
            f"{_setting_name(p['loc'])}{p['msg'].removeprefix('Value error, ')}" for p in problems
        )
        raise StartupError("; ".join(lines)) from error


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _is_secret(text: str) -> bool:
    prefix, _, encoded = text.partition("_")
    try:
        num_bytes = len(base64.b64decode(encoded, validate=True))
    except ValueError:
        return False
    return prefix == "whsec" and _LEAST_SECRET_BYTES <= num_bytes <= _MOST_SECRET_BYTES


def _setting_name(location: tuple[int | str, ...]) -> str:
    return f"GATECAST_{str(location[0]).upper()}: " if location else ""
