"""Several processes that train together: starting them, finding each other, ending together.

``torchrun`` may start them instead. Then, as here, each learns its place from the environment
variables ``RANK``, ``LOCAL_RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and ``MASTER_PORT``.
"""

import datetime as dt
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from torch import distributed
from torch.multiprocessing.spawn import (
    ProcessContext,
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

from app.errors import GatecastError, InvalidInputError

STOPPED_BY_USER = 130
_OF_SEVERAL_NODES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
_IMPORTED_ONCE = "models.commands"
"""What takes seconds to import and can be shared by the processes of a node."""
_GRACE_S = 10.0
_PATIENCE = dt.timedelta(minutes=30)


class ProcessesError(Exception):
    """A process of several failed, and so all were ended."""


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes that train together, and which of them this is.

    Attributes:
        num_devices: Processes of each node, one a GPU where there are any.
        num_nodes: Machines.
        rank: This one among all.
    """

    num_devices: int = 1
    num_nodes: int = 1
    rank: int = 0

    @property
    def count(self) -> int:
        """All of them."""
        return self.num_devices * self.num_nodes

    @property
    def is_main(self) -> bool:
        """Whether this is the one that prints and writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            distributed.barrier()


ALONE = Processes()


def must_start(num_devices: int, num_nodes: int) -> bool:
    """Return whether the processes are yet to be started, as ``torchrun`` has not.

    Raises:
        InvalidInputError: There are fewer GPUs, or ``torchrun`` started more or fewer.
    """
    num_gpus = torch.cuda.device_count()
    if 0 < num_gpus < num_devices:
        raise InvalidInputError(f"--devices is {num_devices}, but this machine has {num_gpus} GPUs")
    is_started = {"LOCAL_RANK", "RANK", "WORLD_SIZE"} <= os.environ.keys()
    if is_started and int(os.environ["WORLD_SIZE"]) != num_devices * num_nodes:
        raise InvalidInputError(
            f"{os.environ['WORLD_SIZE']} processes were started, but --devices {num_devices} "
            f"--num-nodes {num_nodes} are {num_devices * num_nodes}"
        )
    return num_devices * num_nodes > 1 and not is_started


@contextmanager
def meet(num_devices: int, num_nodes: int) -> Iterator[Processes]:
    """Meet the other processes, and yield which one this is."""
    if num_devices * num_nodes == 1:
        yield ALONE
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "nccl"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    yield Processes(num_devices, num_nodes, distributed.get_rank())
    # After an error the group stays until the process ends, so that it tells of it before others
    # miss it.
    distributed.destroy_process_group()


def run_in_processes(function: Callable[[], None], *, num_devices: int, num_nodes: int) -> None:
    """Call ``function`` in ``num_devices`` new processes, which find those of the other nodes.

    A signal that would end this process makes them stop after a step; the second one ends them.

    Args:
        function: What can be pickled.
        num_devices: Processes to start.
        num_nodes: Machines that each start as many.

    Raises:
        KeyboardInterrupt: They were stopped by a signal, here or on another node.
        InvalidInputError: One of them raised an expected error; the message is that one's.
        ProcessesError: One of them failed otherwise; all were ended.
    """
    meeting = _choose_meeting(num_nodes) | {"WORLD_SIZE": str(num_devices * num_nodes)}
    method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    starting = get_context(method)
    starting.set_forkserver_preload([_IMPORTED_ONCE])
    received, sent = starting.Pipe(duplex=False)
    context = start_processes(  # type: ignore[no-untyped-call]  # PyTorch has no types here
        _run_one,
        (function, meeting, num_devices, sent),
        num_devices,
        join=False,
        start_method=method,
    )
    with _Stopping(context) as stopping:
        try:
            while not context.join(grace_period=_GRACE_S):
                pass
        except (ProcessExitedException, ProcessRaisedException) as failure:
            exit_code = getattr(failure, "exit_code", 1)
            if stopping.is_wanted or exit_code == STOPPED_BY_USER:
                raise KeyboardInterrupt from None
            raise _explain(failure.error_index, exit_code, received) from None
    if stopping.is_wanted:
        raise KeyboardInterrupt


def _explain(index: int, exit_code: int, received: Connection) -> Exception:
    """Return the error that tells why a process ended, or the first of those that told why."""
    if exit_code > 0 and received.poll():
        explained: Exception = received.recv()
        return explained
    how = signal.Signals(-exit_code).name if exit_code < 0 else f"status {exit_code}"
    return _failed(index, f"ended with {how}")


def _failed(index: int, how: str) -> ProcessesError:
    return ProcessesError(
        f"process {index} {how}; all processes were ended, and the same command continues from the "
        "last checkpoint"
    )


def _choose_meeting(num_nodes: int) -> dict[str, str]:
    """Return where the processes meet: said by the user where there are several nodes.

    Raises:
        InvalidInputError: The user did not.
    """
    if num_nodes == 1:
        port = str(find_free_network_port())
        return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"}
    missing = [name for name in _OF_SEVERAL_NODES if not os.environ.get(name)]
    if missing:
        raise InvalidInputError(
            f"--num-nodes {num_nodes} needs {', '.join(missing)} in the environment: address and a "
            "free port of the first node, and the number of this one, from 0"
        )
    return {name: os.environ[name] for name in _OF_SEVERAL_NODES}


def _run_one(
    local_rank: int,
    function: Callable[[], None],
    meeting: dict[str, str],
    num_devices: int,
    told: Connection,
) -> None:
    rank = int(meeting["NODE_RANK"]) * num_devices + local_rank
    os.environ.update(meeting | {"RANK": str(rank), "LOCAL_RANK": str(local_rank)})
    try:
        function()
    except KeyboardInterrupt:
        sys.exit(STOPPED_BY_USER)
    except GatecastError as error:
        told.send(InvalidInputError(str(error)))
        sys.exit(1)
    except Exception as error:
        trace = "".join(traceback.format_exception(error))
        told.send(_failed(rank, f"failed: {error!r}\n{trace}"))
        raise


class _Stopping:
    """While it is entered, signals to end this process are passed on to others."""

    def __init__(self, context: ProcessContext) -> None:
        self.is_wanted = False
        self._context = context
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "_Stopping":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    def _pass_on(self, _number: int, _frame: FrameType | None) -> None:
        number = signal.SIGKILL if self.is_wanted else signal.SIGTERM
        self.is_wanted = True
        for process in self._context.processes:
            with suppress(ProcessLookupError):
                if process.is_alive():
                    os.kill(process.pid, number)
