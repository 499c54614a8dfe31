"""Where gateways and the worker find the jobs of a service."""

from dataclasses import dataclass
from typing import Self

from app.jobs.files import JobFiles
from app.jobs.store import JobStore
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class JobDesk:
    """The journal of jobs, and their files."""

    store: JobStore
    files: JobFiles

    @classmethod
    def open(cls, settings: Settings) -> Self | None:
        """Open the folder of jobs; None where there is none, and so are no jobs.

        Raises:
            StartupError: The folder can not be used.
        """
        directory = settings.jobs_directory
        if directory is None:
            return None
        store = JobStore(directory, max_unfinished=settings.max_unfinished_jobs)
        return cls(store, JobFiles(directory))
