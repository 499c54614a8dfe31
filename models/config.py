"""The shape of a network, as one frozen value."""

from dataclasses import dataclass, replace
from typing import Literal, Self

from models.recurrent import Cell

DEFAULT_QUANTILE_LEVELS = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975)

Axis = Literal["log", "identity"]
Transform = Literal["log", "identity", "both"]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What a forecaster is made of; everything needed to build it again.

    Attributes:
        horizon: Steps ahead, all forecast at once.
        season: Steps in one season, 1 where there is none.
        window: Recent values that each step sees directly.
        transform: Axis that the members work on: ``log`` for values that are never negative,
            ``identity`` for any, ``both`` for every other member on each, logarithms first.
        num_members: Networks of which the forecast is the mean.
        is_nonnegative: Whether no forecast may be negative.
        num_cycles: Past seasons that count towards the season factors.
        half_life: After how many seasons a deviation counts half.
        season_gate: Share of the deviations that the factors must explain to be trusted in full.
        level_smoothing: Weight of the newest value of the window in the level; 1 for it alone.
        input_noise: Standard deviation of noise on the window while training.
        anchor_share: How far the forecast is drawn to a damped trend, once the network is trained.
        anchor_smoothing: Weight of the newest value in the level that trend starts from.
        width: Factor of the distances of quantiles from the median, once the network is trained.
        past_covariates: Names of the columns known up to the present.
        future_covariates: Names of the columns known ahead.
        static_covariates: Names of the columns with one value a series: numbers, then categories.
        static_categories: Known texts of the last columns of ``static_covariates``, one tuple each.
        calendar_features: Columns of the tensor ``future_covariates`` after those of that name.
    """

    horizon: int
    season: int = 1
    window: int = 8
    transform: Transform = "log"
    num_members: int = 1
    is_nonnegative: bool = False
    cell: Cell = "lstm"
    hidden_size: int = 64
    num_layers: int = 2
    dropout: float = 0.1
    quantile_levels: tuple[float, ...] = DEFAULT_QUANTILE_LEVELS
    num_cycles: int = 8
    half_life: float = 2.0
    season_gate: float = 0.3
    level_smoothing: float = 1.0
    input_noise: float = 0.0
    anchor_share: float = 0.0
    anchor_smoothing: float = 0.9
    width: float = 1.0
    past_covariates: tuple[str, ...] = ()
    future_covariates: tuple[str, ...] = ()
    static_covariates: tuple[str, ...] = ()
    static_categories: tuple[tuple[str, ...], ...] = ()
    calendar_features: tuple[str, ...] = ()

    @property
    def num_future(self) -> int:
        """Columns of the tensor ``future_covariates``."""
        return len(self.future_covariates) + len(self.calendar_features)

    @property
    def num_static_numbers(self) -> int:
        """Static covariates that are numbers; the others are categories."""
        return len(self.static_covariates) - len(self.static_categories)

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """Known texts of each categorical covariate."""
        names = self.static_covariates[self.num_static_numbers :]
        return dict(zip(names, self.static_categories, strict=True))

    @property
    def members(self) -> tuple[Self, ...]:
        """The shape of each member, as a forecaster of one network."""
        axes: tuple[Axis, ...] = (
            ("log", "identity") if self.transform == "both" else (self.transform,)
        )
        return tuple(
            replace(self, transform=axes[number % len(axes)], num_members=1)
            for number in range(self.num_members)
        )

    @property
    def axes(self) -> tuple[Transform, ...]:
        """The axes that members work on, each once."""
        return tuple(dict.fromkeys(member.transform for member in self.members))

    @property
    def tail_length(self) -> int:
        """Recent values that the carried state must hold."""
        seasonal = 2 * (self.season // 2) + self.num_cycles * self.season if self.season > 1 else 1
        return max(seasonal, self.window)

    @property
    def num_sums(self) -> int:
        """Running sums that the carried state must hold; those of changes only for an anchor."""
        return 9 if self.anchor_share else 7
