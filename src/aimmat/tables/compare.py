"""Two runs tested on the same pictures: which is better, by how much, on what, and what that cannot show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from aimmat.schema import AimmatError, Category, ImageType, Row
from aimmat.tables.runs import Run

ERRORS = ("sad", "mse", "mad", "conn", "grad")
REGIONS = ("transition", "foreground", "background")
DRAWS = 10_000  # bootstrap samples: a bound of the interval then moves by about a hundredth of its width with the seed
LEVEL = 0.05  # of the interval and of the test
FEW = 20  # pictures, below which an interval of 95 % holds the true mean of skewed errors clearly less often than that

_SAME, _ZERO = 1e-6, 1e-9  # relative, absolute: errors closer than this differ by the order of additions


@dataclass(frozen=True)
class Paired:
    """An error of runs A and B over the same pictures. Lower is better, so a difference below 0 speaks for B."""

    num_images: int  # with a number in both
    a: float  # mean
    b: float
    low: float  # bounds of the 95 % bootstrap interval of the mean difference B - A
    high: float
    p: float  # two-sided Wilcoxon signed-rank test of the differences
    wins: int  # pictures on which B is better
    ties: int
    losses: int

    @property
    def difference(self) -> float:
        """Mean difference B - A."""
        return self.b - self.a

    @property
    def winner(self) -> str:
        """A or B where interval and test agree that it is better, in the mean and on most pictures; else empty."""
        if self.p < LEVEL and self.high < 0 and self.wins > self.losses:
            return "B"
        return "A" if self.p < LEVEL and self.low > 0 and self.losses > self.wins else ""


@dataclass(frozen=True)
class Comparison:
    """All that two tests on the same pictures say of each other."""

    errors: dict[str, Paired]  # by error, over the whole picture
    groups: dict[ImageType | Category, Paired]  # SAD by type, then by category, those that have pictures
    regions: dict[str, dict[str, Paired]]  # SAD by "all" or type, then "transition", "known", and "foreground", ...
    pictures: tuple[tuple[Row, Row], ...]  # of A and of B, the largest gain of B in SAD first, its largest loss last


def compare(a: Run, b: Run, seed: int = 0) -> Comparison:
    """Pair two tests picture by picture.

    Args:
        a: the run to start from.
        b: the run that is held against it.
        seed: of the bootstrap.

    Returns:
        The comparison; "known" is what lies outside the transition, and is there where the rows have "sad_transition".

    Raises:
        AimmatError: other pictures, another test set, other metrics, or no row.
    """
    pairs = _pairs(a, b)
    scores = {
        metric: np.array([[row.scores[metric] for row in pair] for pair in pairs]).T for metric in pairs[0][0].scores
    }
    if "sad_transition" in scores:
        scores["sad_known"] = scores["sad"] - scores["sad_transition"]
    groups: list[ImageType | Category] = [*ImageType, *Category]
    inside = {group: np.array([group in (row.type, row.category) for row, _ in pairs]) for group in groups}
    present = [group for group in groups if inside[group].any()]
    places: dict[str, Any] = {"all": slice(None)} | {g: inside[g] for g in present if isinstance(g, ImageType)}
    parts = [part for part in (*REGIONS, "known") if "sad_known" in scores and f"sad_{part}" in scores]
    order = np.argsort(scores["sad"][1] - scores["sad"][0], kind="stable")
    return Comparison(
        errors={metric: paired(*scores[metric], seed=seed) for metric in ERRORS if metric in scores},
        groups={group: paired(*scores["sad"][:, inside[group]], seed=seed) for group in present},
        regions={
            place: {part: paired(*scores[f"sad_{part}"][:, which], seed=seed) for part in parts}
            for place, which in places.items()
            if parts
        },
        pictures=tuple(pairs[index] for index in order),
    )


def same_test(a: Run, b: Run) -> None:
    """Refuse runs that were tested on other pictures, or on other versions of them.

    Raises:
        AimmatError: pictures differ in name, type or category, or the test in its settings.
    """
    if _pictures(a.rows) != _pictures(b.rows):
        shared = len(_pictures(a.rows) & _pictures(b.rows))
        raise AimmatError(
            f"runs are held against each other on the same pictures, got {len(a.rows)} in {a.folder} and "
            f"{len(b.rows)} in {b.folder}, of which {shared} are the same in name, type and category; test both on "
            f"one set"
        )
    if _test_set(a.config) and _test_set(b.config) and _test_set(a.config) != _test_set(b.config):
        raise AimmatError(
            f"runs are held against each other on one test set, got other settings of data.test or of the trimap's "
            f"kernel in {a.folder} and {b.folder}; test both with the same ones"
        )


def paired(a: np.ndarray, b: np.ndarray, *, seed: int = 0) -> Paired:
    """Statistics of paired numbers; lower is better.

    Args:
        a: errors of run A, (N,); nan where a picture has none.
        b: errors of run B on the same pictures, (N,).
        seed: of the bootstrap.

    Returns:
        Over the pictures that have both numbers; of none, means, bounds and p are nan.

    Source:
        Percentile bootstrap (Efron and Tibshirani, 1993). Wilcoxon, Biometrics Bulletin 1945, pictures that do not
        differ left out; exact up to 50 pictures without equal differences.

    >>> paired(np.array([3.0, 4.0, 5.0, 6.0]), np.array([2.0, 2.0, 2.0, 6.0])).wins
    3
    """
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    differences = np.where(np.isclose(a, b, rtol=_SAME, atol=_ZERO), 0, b - a)
    if not len(differences):
        return Paired(0, math.nan, math.nan, math.nan, math.nan, math.nan, 0, 0, 0)
    low, high = _bootstrap(differences, seed)
    moved = differences[differences != 0]
    return Paired(
        num_images=len(differences),
        a=float(a.mean()),
        b=float(b.mean()),
        low=low,
        high=high,
        p=float(wilcoxon(moved).pvalue) if len(moved) else 1.0,  # of no difference, every sign is as extreme
        wins=int((differences < 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences > 0).sum()),
    )


def verdict(compared: Paired, error: str = "SAD") -> str:
    """What a pair of means says, in a sentence or two."""
    if not compared.num_images:
        return f"No winner: no picture has {error} in both runs."
    if compared.ties == compared.num_images:
        return f"No winner: {error} is the same on every picture."
    facts = (
        f"mean difference B − A {compared.difference:+.4g}, 95 % interval {compared.low:+.4g} to {compared.high:+.4g}, "
        f"Wilcoxon p {_p(compared.p)}, B better on {compared.wins} of {compared.num_images} pictures"
    )
    if compared.winner:
        return f"{compared.winner} is better in {error}: {facts}."
    if compared.low <= 0 <= compared.high and compared.p >= LEVEL:
        return f"No winner in {error}: {facts}. A difference of this size may come from the choice of pictures."
    return (
        f"No winner in {error}: {facts}. Interval (of the mean) and test (of most pictures) do not both speak for one."
    )


def blame(regions: Mapping[str, Paired]) -> str:
    """Which decoder makes the difference, in two sentences; empty where no picture differs.

    Args:
        regions: SAD in the "transition" and in the "known" region, as `Comparison.regions` has it for "all".

    Raises:
        KeyError: a region is missing.
    """
    transition, known = regions["transition"], regions["known"]
    if transition.ties == known.ties == known.num_images:
        return ""
    larger = max((known, transition), key=lambda region: abs(region.difference))
    decoder = "semantic" if larger is known else "matting"
    sure = larger.winner or "neither, as far as these pictures tell"
    return (
        f"Of the mean difference in SAD, {known.difference:+.3g} lies in known foreground and background, which the "
        f"semantic decoder should settle, and {transition.difference:+.3g} in the transition, which the matting "
        f"decoder fills. The larger part is the {decoder} decoder's (better there: {sure}). As a rule only: a "
        f"transition pixel that the semantic decoder takes for known counts as the matting decoder's."
    )


def limits(comparison: Comparison) -> list[str]:
    """What these numbers cannot show, a sentence or two each."""
    whole = comparison.errors["sad"]
    said = [
        "One training each: the intervals say what other pictures would give, not what other seeds would; train each "
        "with several seeds before believing a small difference.",
        "Many numbers at a level of 95 %: of twenty that have no cause, one excludes 0.",
    ]
    moved = whole.wins + whole.losses
    if moved and 2.0 ** (1 - moved) >= LEVEL:
        said.append(
            f"Only {moved} of the pictures differ: the smallest p that the test can give is {2.0 ** (1 - moved):.2g}, "
            f"so no difference, however large, reaches {LEVEL}; that takes 6 pictures."
        )
    few = ["all pictures"] if whole.num_images < FEW else []
    few += [
        f"{group} ({compared.num_images})"
        for group, compared in comparison.groups.items()
        if 0 < compared.num_images < FEW
    ]
    if few:
        said.append(
            f"Fewer than {FEW} pictures: intervals of {', '.join(few)} are narrower than they should be, since a few "
            f"large errors decide a mean; read wins and losses, and look at the pictures."
        )
    return said


def _pairs(a: Run, b: Run) -> list[tuple[Row, Row]]:
    """The rows of both runs picture by picture, in the order of A's, or the sentence that says why not."""
    for run in (a, b):
        if not run.rows:
            raise AimmatError(f"a comparison needs the rows of a test, got none in {run.folder}; test that run first")
        twice = [name for name, count in Counter(row.name for row in run.rows).items() if count > 1]
        if twice:
            raise AimmatError(
                f"a comparison pairs pictures by name, got {twice[0]!r} more than once in {run.folder}; "
                f"give every picture a name of its own"
            )
    others = {row.name: row for row in b.rows}
    same_test(a, b)
    metrics = a.rows[0].scores.keys()
    if "sad" not in metrics or any(row.scores.keys() != metrics for row in (*a.rows, *b.rows)):
        raise AimmatError(
            f"two runs are compared by the same metrics, SAD among them, got {', '.join(metrics)} in {a.folder} and "
            f"{', '.join(b.rows[0].scores)} in {b.folder}; measure all pictures alike"
        )
    protocols = [run.measured_by for run in (a, b)]
    if protocols[0] != protocols[1]:
        raise AimmatError(
            f"two runs are compared by the same metrics, got those of protocol {protocols[0]} in {a.folder} and of "
            f"{protocols[1]} in {b.folder}; score both by one protocol"
        )
    return [(row, others[row.name]) for row in a.rows]


def _pictures(rows: Sequence[Row]) -> set[tuple[str, ImageType | None, Category | None]]:
    return {(row.name, row.type, row.category) for row in rows}


def _test_set(config: Mapping[str, Any]) -> Any:
    """What makes the test's pictures and their regions, wherever the files lie; None where the config does not say."""
    data = config.get("data") or {}
    if not data.get("test"):
        return None
    return _portable(data["test"]), (data.get("compose") or {}).get("trimap_kernel")


def _portable(settings: Any) -> Any:
    """The settings without the folders of one machine."""
    if isinstance(settings, Mapping):
        return {key: _portable(value) for key, value in settings.items() if key not in ("root", "cache")}
    return settings


def _bootstrap(differences: np.ndarray, seed: int) -> tuple[float, float]:
    """Bounds of the percentile interval of the mean."""
    rng, num = np.random.default_rng(seed), len(differences)
    at_once = max(1, 2**22 // num)  # draws: 32 MB of indices
    means = [
        differences[rng.integers(num, size=(min(at_once, DRAWS - done), num))].mean(axis=1)
        for done in range(0, DRAWS, at_once)
    ]
    low, high = np.quantile(np.concatenate(means), [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def _p(value: float) -> str:
    """A p in print."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"
