"""Paired statistics of two runs: right on numbers worked out by hand, careful where there is little to go by."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from aimmat.schema import AimmatError, Category, ImageType, Row
from aimmat.tables import write_rows
from aimmat.tables.compare import blame, compare, limits, paired, verdict
from aimmat.tables.runs import Run

TYPES, CATEGORIES = list(ImageType), list(Category)


def run(sads, name="run", transition=None, config=None, **changes):
    """A run whose pictures take turns in type and category; a picture's other errors follow from its SAD."""
    rows = []
    for n, sad in enumerate(sads):
        scores = {"sad": sad, "mse": sad / 100, "mad": sad / 50, "conn": sad, "grad": 2 * sad}
        if transition is not None:
            scores["sad_transition"] = transition[n]
        identity = {"name": f"p{n}", "type": TYPES[n % 3], "category": CATEGORIES[n % 7]}
        rows.append(Row(**identity | changes, scores=scores))
    return Run(Path("runs") / name, name, config or {}, rows)


def exact_p(differences):
    """The two-sided signed-rank test by its definition: over all signs of the differences that are not 0."""
    moved = differences[differences != 0]
    ranks = rankdata(np.abs(moved))
    middle = ranks.sum() / 2
    observed = abs(ranks[moved > 0].sum() - middle)
    sums = [sum(rank for rank, up in zip(ranks, ups, strict=True) if up) for ups in product([0, 1], repeat=len(moved))]
    return np.mean([abs(total - middle) >= observed - 1e-9 for total in sums])


def test_means_wins_and_p_of_five_pictures_are_those_worked_out_by_hand():
    found = paired(np.array([5.0, 6.0, 7.0, 8.0, 9.0]), np.array([4.0, 4.0, 4.0, 4.0, 14.0]))
    # Differences -1 -2 -3 -4 +5: positive ranks sum to 5. Of 32 sign patterns 10 reach at most 5 (0, 1, 2, 3, 3, 4, 4,
    # 5, 5, 5), as many the other end: 20 / 32.
    assert (found.a, found.b, found.difference) == (7, 6, -1)
    assert (found.wins, found.ties, found.losses, found.num_images) == (4, 0, 1, 5)
    assert found.p == pytest.approx(20 / 32)
    assert found.low < -1 < found.high


@pytest.mark.parametrize("seed", range(5))
def test_p_is_exact_for_few_pictures_without_equal_differences(seed):
    a, b = np.random.default_rng(seed).random((2, 9))
    assert paired(a, b).p == pytest.approx(exact_p(b - a))


def test_a_picture_that_does_not_differ_leaves_the_test_and_counts_as_a_tie():
    a, b = np.array([3.0, 5.0, 9.0, 4.0, 7.0]), np.array([2.0, 5.0, 6.0, 4 + 1e-9, 5.0])
    found = paired(a, b)
    assert (found.wins, found.ties, found.losses) == (3, 2, 0)
    assert found.p == pytest.approx(exact_p(np.array([-1.0, -3.0, -2.0]))) == 0.25


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [paired(np.zeros(60), rng.normal(0.3, 1, 60), seed=seed) for seed in range(100)]
    # 95 of 100 expected, standard deviation 2.2; the percentile interval is a little too narrow at 60 pictures.
    assert 87 <= sum(found.low <= 0.3 <= found.high for found in intervals) <= 99
    width = np.mean([found.high - found.low for found in intervals])
    assert width == pytest.approx(2 * 1.96 / 60**0.5, rel=0.05)  # normal theory; the mean of 100 widths is within 5 %


def test_the_interval_repeats_with_its_seed():
    a, b = np.random.default_rng(0).random((2, 30))
    assert paired(a, b, seed=1) == paired(a, b, seed=1) != paired(a, b, seed=2)


def test_a_picture_without_a_number_in_one_run_is_left_out_of_both():
    found = paired(np.array([1.0, np.nan, 3.0, 9.0]), np.array([2.0, 2.0, 5.0, np.nan]))
    assert (found.num_images, found.a, found.b) == (2, 2, 3.5)
    nothing = paired(np.array([np.nan]), np.array([1.0]))
    assert nothing.num_images == 0
    assert nothing.winner == ""
    assert "no picture has SAD" in verdict(nothing)


def test_a_run_against_itself_has_no_winner():
    same = run(np.arange(1.0, 31), transition=np.arange(30) / 2)
    found = compare(same, same)
    everything = [
        *found.errors.values(),
        *found.groups.values(),
        *(p for r in found.regions.values() for p in r.values()),
    ]
    assert {(p.difference, p.low, p.high, p.p, p.wins, p.losses, p.winner) for p in everything} == {
        (0, 0, 0, 1, 0, 0, "")
    }
    assert verdict(found.errors["sad"]) == "No winner: SAD is the same on every picture."
    assert blame(found.regions["all"]) == ""


def test_a_clear_gain_has_a_winner_and_the_same_runs_the_other_way_round_give_the_other():
    rng = np.random.default_rng(3)
    sads = rng.gamma(2, 5, 60)
    a, b = run(sads, "a"), run(sads * 0.8 + rng.normal(0, 0.2, 60), "b")
    there, back = compare(a, b).errors["sad"], compare(b, a).errors["sad"]
    assert (there.winner, back.winner) == ("B", "A")
    assert verdict(there).startswith("B is better in SAD: mean difference B − A -")
    assert (there.wins, there.losses) == (back.losses, back.wins)
    assert there.p == back.p


def test_many_small_gains_and_a_few_large_losses_have_no_winner():
    a = np.linspace(10, 20, 30)
    b = a - np.linspace(0.1, 0.2, 30)
    b[:4] += 50
    there, back = paired(a, b), paired(b, a)
    assert there.p < 0.05  # B is better on most pictures
    assert there.low > 0  # and worse in the mean
    assert there.winner == back.winner == ""
    assert "do not both speak for one" in verdict(there)


def test_groups_and_their_pictures_are_those_of_the_rows():
    found = compare(run(np.arange(1.0, 22), "a"), run(np.arange(1.0, 22) + np.tile([-1, 0, 1], 7), "b"))
    assert [str(group) for group in found.groups][:3] == ["SO", "STM", "NS"]
    counts = {t: (p.wins, p.ties, p.losses) for t, p in found.groups.items() if t in TYPES}
    assert counts == {ImageType.SO: (7, 0, 0), ImageType.STM: (0, 7, 0), ImageType.NS: (0, 0, 7)}
    assert found.groups[ImageType.SO].difference == pytest.approx(-1)
    assert Category.OTHER not in found.groups
    assert [b.scores["sad"] - a.scores["sad"] for a, b in found.pictures] == [-1] * 7 + [0] * 7 + [1] * 7


def test_the_difference_is_split_between_known_regions_and_transition():
    a = run(np.full(8, 10.0), "a", transition=np.full(8, 4.0))
    b = run(np.full(8, 7.0), "b", transition=np.full(8, 5.0))
    regions = compare(a, b).regions["all"]
    assert (regions["known"].difference, regions["transition"].difference) == (-4, 1)
    said = blame(regions)
    assert "-4 lies in known" in said
    assert "+1 in the transition" in said
    assert "semantic decoder's (better there: B)" in said
    assert "matting decoder's (better there: A)" in blame(
        compare(a, run(np.full(8, 12.0), transition=np.full(8, 6.0))).regions["all"]
    )


def test_foreground_and_background_add_up_to_the_known_region():
    rows = [
        [Row("p", ImageType.SO, None, {"sad": sad, "sad_transition": 1.0, "sad_foreground": fg, "sad_background": bg})]
        for sad, fg, bg in ((6.0, 2.0, 3.0), (4.0, 2.5, 0.5))
    ]
    regions = compare(*(Run(Path(str(n)), str(n), {}, of) for n, of in enumerate(rows))).regions["SO"]
    assert {part: of.difference for part, of in regions.items()} == {
        "transition": 0,
        "foreground": 0.5,
        "background": -2.5,
        "known": -2,
    }


def test_rows_without_regions_have_no_split():
    assert compare(run([1.0, 2.0]), run([2.0, 3.0])).regions == {}


def test_few_pictures_come_with_what_they_cannot_show():
    few = limits(compare(run([3.0, 4.0, 5.0, 6.0]), run([1.0, 1.0, 1.0, 1.0])))
    assert any("smallest p that the test can give is 0.12" in said for said in few)  # 2 / 2^4
    assert any("all pictures, SO (2), STM (1)" in said for said in few)
    many = limits(compare(run(np.arange(1.0, 301)), run(np.arange(2.0, 302))))
    assert len(many) == 2  # one training each, and many numbers
    assert compare(run([3.0, 4.0, 5.0, 6.0]), run([1.0] * 4)).errors["sad"].winner == ""


@pytest.mark.parametrize(
    ("b", "says"),
    [
        (run([1.0, 2.0, 3.0]), "of which 2 are the same"),
        (run([1.0, 2.0], name="b", type=ImageType.NS), "the same in name, type and category"),
        (run([1.0, 2.0], transition=[0.5, 0.5]), "measure all pictures alike"),
        (run([1.0, 2.0], config={"data": {"test": {"size": 320}}}), "one test set"),
        (run([]), "test that run first"),
        (Run(Path("b"), "b", {}, run([1.0]).rows * 2), "'p0' more than once in b"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused_in_one_sentence(b, says):
    a = run([1.0, 2.0], config={"data": {"test": {"size": 384}}})
    with pytest.raises(AimmatError, match=says.replace("(", r"\(")) as refusal:
        compare(a, b)
    assert "\n" not in str(refusal.value)


def test_scores_by_two_protocols_are_not_compared(tmp_path):
    runs = []
    for protocol in ("aim", "matlab"):
        scored = run([1.0, 2.0], protocol)
        write_rows(tmp_path / protocol / "rows.csv", scored.rows, method="m", protocol=protocol)
        runs.append(Run(tmp_path / protocol, protocol, {}, scored.rows))
    with pytest.raises(AimmatError, match=r"protocol aim in .* and of matlab"):
        compare(*runs)
    assert compare(runs[1], runs[1]).errors["sad"].num_images == 2
    with pytest.raises(AimmatError, match="protocol matlab in"):
        compare(runs[1], run([1.0, 2.0]))  # a run's own test


def test_the_same_test_set_in_another_folder_is_the_same():
    configs = [{"data": {"test": {"entries": {"name": "aim500", "root": root}}}} for root in ("/a", "/b")]
    compare(*(run([1.0, 2.0], config=config) for config in configs))
