"""The files of jobs: where they are, and files of the allowed folder that a job may name."""

import contextlib
import hashlib
import os
import shutil
import stat
from pathlib import Path
from typing import IO

from app.errors import InvalidInputError, PayloadTooLargeError
from app.files.storing import storing
from app.jobs.job import Job, JobOptions

_COPIED_AT_ONCE_BYTES = 2**20
_SUFFIXES = {"csv": ".csv", "jsonl": ".jsonl", "parquet": ".parquet", "arrow": ".arrows"}
_INPUT, _RUN, _SCRATCH = "input", "run", "scratch"
_KEPT = "the file of the job"
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class JobFiles:
    """One folder for each job: its input as it was when the job was made, its run, its result."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def folder(self, job_id: str) -> Path:
        """Return the folder of a job."""
        return self.directory / job_id

    def input_of(self, job_id: str, options: JobOptions) -> Path:
        """Return the file that a job forecasts."""
        return self.folder(job_id) / f"{_INPUT}{_SUFFIXES[options.file_format]}"

    def result_of(self, job: Job) -> Path:
        """Return the file of the forecasts; it is there once the job has succeeded."""
        return self.folder(job.job_id) / f"result{_SUFFIXES[job.options.output_format]}"

    def errors_of(self, job: Job) -> Path:
        """Return the file of the refused series; not there where none was refused."""
        return self.folder(job.job_id) / "errors.jsonl"

    def run_of(self, job: Job) -> Path:
        """Return the folder in which a run keeps what it has done."""
        return self.folder(job.job_id) / _RUN

    def receive(self, job_id: str, options: JobOptions) -> "IncomingFile":
        """Make the folder of a job and open its input for writing.

        Raises:
            StorageError: The disk refuses.
        """
        path = self.input_of(job_id, options)
        with storing(_KEPT):
            path.parent.mkdir(mode=0o700)
            return IncomingFile(path)

    def remove(self, job_id: str) -> None:
        """Remove all that there is of a job."""
        shutil.rmtree(self.folder(job_id), ignore_errors=True)

    def remove_input(self, job_id: str) -> None:
        """Remove what only a job that goes on needs: its input, and its run."""
        folder = self.folder(job_id)
        shutil.rmtree(folder / _RUN, ignore_errors=True)
        for path in folder.glob(f"{_INPUT}.*"):
            with contextlib.suppress(OSError):
                path.unlink()

    def old_folders(self, before: float) -> list[str]:
        """Return the ids of the jobs whose folders were last changed before a time since 1970."""
        return [
            path.name
            for path in self.directory.iterdir()
            if path.is_dir() and path.name != _SCRATCH and path.stat().st_mtime < before
        ]

    def make_scratch(self) -> Path:
        """Return an empty folder for the temporary files of a worker; what a lost one left goes."""
        path = self.directory / _SCRATCH
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700, exist_ok=True)
        return path


class IncomingFile:
    """A file that is being written; on disk in full once it is closed."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("xb")
        self._path = path
        self._digest = hashlib.sha256()

    def write(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            StorageError: The disk is full.
        """
        with storing(_KEPT):
            self._file.write(piece)
        self._digest.update(piece)

    def close(self) -> str:
        """Return the SHA-256 of the file, when it is safe on disk.

        Raises:
            StorageError: The disk is full.
        """
        with storing(_KEPT):
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())
            for folder in (self._path.parent, self._path.parent.parent):
                _sync_folder(folder)
        return self._digest.hexdigest()

    def abort(self) -> None:
        """Close it in whatever state it is."""
        with contextlib.suppress(OSError):  # what is not written yet may not fit
            self._file.close()


def copy_allowed(folder: Path, path: str, incoming: IncomingFile, *, max_bytes: int) -> None:
    """Copy a file below ``folder``.

    No link is followed below it, whoever might put one there meanwhile: each step is opened from
    the folder before it.

    Raises:
        InvalidInputError: There is no such file, or the way to it is not plain.
        PayloadTooLargeError: It holds more than ``max_bytes``.
    """
    with os.fdopen(_open_beneath(folder, path), "rb") as file:
        num_copied = 0
        while piece := file.read(_COPIED_AT_ONCE_BYTES):
            num_copied += len(piece)
            if num_copied > max_bytes:
                raise PayloadTooLargeError(f"the file may hold at most {max_bytes} bytes")
            incoming.write(piece)


def _open_beneath(folder: Path, path: str) -> int:
    *folders, name = path.split("/")
    if any(step in {"", ".", ".."} or "\0" in step for step in (*folders, name)):
        raise InvalidInputError("path must be relative, with plain steps between slashes", "/path")
    place = -1
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for step in folders:
            above, place = place, os.open(step, _OPEN_FOLDER, dir_fd=place)
            os.close(above)
        return _open_regular(name, place)
    except (OSError, UnicodeEncodeError) as error:
        raise InvalidInputError(
            "path must lead to a file below the folder of allowed input; links are not followed",
            "/path",
        ) from error
    finally:
        if place >= 0:
            os.close(place)


def _open_regular(name: str, place: int) -> int:
    descriptor = os.open(name, _OPEN_FILE, dir_fd=place)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{name} is no regular file")
    return descriptor


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
