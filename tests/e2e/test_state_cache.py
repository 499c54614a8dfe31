"""Histories that grow, on a real service with several processes of both kinds."""

import re
from pathlib import Path

import numpy as np

from tests.e2e.client import Client
from tests.e2e.service import serving
from tests.e2e.traffic import path_of, quantiles_of

NUM_SERIES = 4
FIRST, LAST = 40, 50
RELATIVE_TOLERANCE = 1e-5
NO_STORE = {"cache-control": "no-store"}


async def test_growing_histories_are_run_over_their_new_values(tiny_repository: Path) -> None:
    values = np.random.default_rng(1).gamma(5, 20, (NUM_SERIES, LAST)).round(3).tolist()
    async with (
        serving(tiny_repository, runners=2, gateways=2, watchdog_s=60) as service,
        Client(service.port) as client,
    ):
        for steps in range(FIRST, LAST + 1):
            for target in values:
                body = {"series": [{"target": target[:steps]}]}
                answer = await client.post(path_of("tiny"), body)
                full = await client.post(path_of("tiny"), body, NO_STORE)
                got, want = quantiles_of(answer.json()), quantiles_of(full.json())
                np.testing.assert_allclose(got, want, rtol=RELATIVE_TOLERANCE)
        text = (await client.get("/metrics")).body.decode()

    def reading(name: str) -> float:
        found = re.search(rf'^gatecast_state_cache_{name}{{model_name="tiny"}} (.*)$', text, re.M)
        assert found is not None
        return float(found[1])

    assert reading("misses_total") == NUM_SERIES
    assert reading("hits_total") == NUM_SERIES * (LAST - FIRST)
    assert reading("saved_steps_total") == NUM_SERIES * sum(range(FIRST, LAST))
    assert reading("entries") == NUM_SERIES * (LAST - FIRST + 1)
    assert reading("bytes") > 0
