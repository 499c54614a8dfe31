"""What the service does on a GPU: python -m benchmarks.gpu (under 8 minutes, on one GPU).

Compares with the CPU (1e-4), counts the nodes of the graphs by provider, times runs of 1 to 1,024
rows with memory and percentiles, bindings and runs under way against plain runs, buckets against
sizes as they come, and halves a batch that has no room. Then over HTTP: the share of the raw
speed of ONNX Runtime at 1,000 series a request with each setting, requests a second by gateways
and by clients, ragged lengths, and a runner that is killed. Prints all figures and writes them to
benchmarks/results/gpu.json, anew after each section.

--device cpu --quick runs through all of it in little, on any machine; its figures mean nothing.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

from app.runner.engine import cuda_is_usable
from benchmarks.environment import describe_environment
from benchmarks.gpu.device import describe_device
from benchmarks.gpu.engines import measure_engines
from benchmarks.gpu.plan import QUICK, Plan, Scale
from benchmarks.gpu.services import measure_services

RESULTS = Path(__file__).parents[1] / "results" / "gpu.json"


def main() -> int:
    """Measure, print and write; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="little of everything")
    parser.add_argument("--minutes", type=float, default=7.0, help="after this nothing new begins")
    parser.add_argument("--output", type=Path, help="where to write, else beside other results")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not cuda_is_usable():
        print("ONNX Runtime can not open CUDA here")
        return 1
    output = arguments.output
    if output is None and not arguments.quick:
        output = RESULTS
    environment = describe_environment() | describe_device(arguments.device)
    for name, value in environment.items():
        print(f"{name}: {value}")
    plan = Plan(
        arguments.device,
        QUICK if arguments.quick else Scale(),
        ends_at=time.monotonic() + 60 * arguments.minutes,
        header={"environment": environment},
        output=output,
    )
    asyncio.run(_measure(plan))
    return int(plan.has_failed)


async def _measure(plan: Plan) -> None:
    await measure_engines(plan)
    await measure_services(plan)


if __name__ == "__main__":
    sys.exit(main())
