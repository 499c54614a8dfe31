"""Measures what intervals cover within and beyond the horizon of the starter model.

python -m benchmarks.long_horizons forecasts made-up series, prints the share of values inside the
80 % intervals and writes benchmarks/results/long_horizons.json.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.extrapolation import join_blocks, median_index
from app.runner.engine import OrtEngine
from benchmarks.environment import describe_environment

ROOT = Path(__file__).parent.parent
STARTER = ROOT / "model_repository" / "monthly" / "1" / "model.onnx"
RESULTS = ROOT / "benchmarks" / "results" / "long_horizons.json"
NUM_SERIES, LENGTH, SEED = 400, 96, 1

Series = NDArray[np.float32]


def make_series(num_steps: int) -> dict[str, Series]:
    """Return ``(NUM_SERIES, num_steps)`` of each kind."""
    random, steps = np.random.default_rng(SEED), np.arange(num_steps)
    noise, step = (random.normal(0, 10, (NUM_SERIES, num_steps)) for _ in range(2))
    season = 100 * np.sin(2 * np.pi * steps / 12)
    kinds = {
        "random walks": 1000 + step.cumsum(1),
        "noise around a level": 1000 + noise,
        "season and noise": 1000 + season + noise,
        "season, steady trend and a walk": 1000 + season + 5 * steps + step.cumsum(1),
        "exponential growth and noise": 1000 * np.exp(0.01 * steps) + noise,
    }
    return {name: series.astype(np.float32) for name, series in kinds.items()}


def measure(engine: OrtEngine, values: Series) -> dict[str, float]:
    """Return the shares within the horizon and in the one after it, as widened and as run."""
    levels, horizon = engine.card.quantile_levels, engine.card.horizon
    median, past, blocks = median_index(levels), values[:, :LENGTH], list[Series]()
    for _ in range(2):
        lengths = np.full(NUM_SERIES, past.shape[1], np.int32)
        inputs = {"past_target": past, "sequence_lens": lengths}
        blocks.append(engine.run(inputs, ["quantiles"])["quantiles"])
        past = np.concatenate([past, blocks[-1][..., median]], 1)
    low, high = levels.index(0.1), levels.index(0.9)
    actual = values[:, LENGTH:]

    def cover(quantiles: Series) -> list[float]:
        inside = (actual >= quantiles[..., low]) & (actual <= quantiles[..., high])
        return [float(share) for share in inside.reshape(-1, 2, horizon).mean((0, 2))]

    within, beyond = cover(join_blocks(blocks, median, is_nonnegative=True))
    return {
        "within": round(within, 3),
        "beyond": round(beyond, 3),
        "beyond, if not widened": round(cover(np.concatenate(blocks, 1))[1], 3),
    }


def main() -> None:
    """Measure every kind of series."""
    engine = OrtEngine.from_file(STARTER, "cpu")
    kinds = make_series(LENGTH + 2 * engine.card.horizon)
    content = {
        "environment": describe_environment(),
        "coverage of 80 % intervals": {n: measure(engine, s) for n, s in kinds.items()},
    }
    print(json.dumps(content, indent=1))
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
