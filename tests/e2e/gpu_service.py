"""``gatecast serve``, by its environment alone, with runners on GPUs that are none."""

import asyncio
import sys

from app.settings import load_settings
from app.supervisor import Supervisor

if __name__ == "__main__":
    sys.exit(asyncio.run(Supervisor(load_settings(), "tests.e2e.gpu_runner").run()))
