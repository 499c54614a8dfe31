"""Waves of two speeds, to classify, to regress the speed of, and to tag by their phase."""

from pathlib import Path

import numpy as np


def write_waves(path: Path, *, count: int, seed: int = 1) -> Path:
    random = np.random.default_rng(seed)
    lines = ["item_id,x,kind,speed,phase"]
    for number in range(count):
        speed = random.uniform(0.3, 0.6) if number % 2 else random.uniform(0.9, 1.4)
        length = 20 - number % 6
        wave = np.sin(speed * np.arange(length) + random.uniform(0, 6))
        kind = "slow" if number % 2 else "fast"
        for value in wave + random.normal(0, 0.05, length):
            phase = "high" if value > 0 else "low"
            lines.append(f"wave-{number},{value:.4f},{kind},{speed:.4f},{phase}")
    path.write_text("\n".join(lines))
    return path
