import pytest
import torch

from models.learning_rate import one_cycle


@pytest.mark.parametrize("num_steps", [1, 2, 9, 10, 11, 100])
def test_rate_rises_and_falls_over_any_number_of_steps(num_steps: int) -> None:
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    schedule = one_cycle(optimiser, 0.1, num_steps)
    rates = []
    for _ in range(num_steps):
        rates.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    assert all(0 <= rate <= 0.1 for rate in rates)
    if num_steps > 11:
        assert max(rates) == pytest.approx(0.1)
        assert rates[-1] < 0.001
