"""Procedural scenes: reproducible, of the promised type, with colour wherever alpha is above zero."""

import numpy as np
import pytest

from aimmat.data.synthetic import FAMILIES, scene
from aimmat.schema import Category, ImageType

SIZE = 64, 80  # pixels; not square
SEEDS = range(3)


def families_of(image_type: ImageType) -> list[str]:
    return [name for name, (kind, _) in FAMILIES.items() if kind == image_type]


def alphas(family: str) -> np.ndarray:
    return np.stack([scene(seed, SIZE, family=family).alpha for seed in SEEDS])


@pytest.mark.parametrize("family", FAMILIES)
def test_same_arguments_give_the_same_bytes_and_another_seed_another_picture(family):
    first, again, other = scene(5, SIZE, family=family), scene(5, SIZE, family=family), scene(6, SIZE, family=family)
    for layer in ("foreground", "alpha", "background"):
        assert getattr(first, layer).tobytes() == getattr(again, layer).tobytes()
        assert getattr(first, layer).tobytes() != getattr(other, layer).tobytes()
    assert first.name == again.name == f"{family}_5"


@pytest.mark.parametrize("size", [64, SIZE, (48, 33), (32, 150)])
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_have_the_asked_size_and_the_promised_type(family, size):
    drawn = scene(1, size, family=family)
    height, width = (size, size) if isinstance(size, int) else size
    assert drawn.foreground.shape == drawn.background.shape == (height, width, 3)
    assert drawn.alpha.shape == (height, width)
    assert drawn.foreground.dtype == drawn.alpha.dtype == drawn.background.dtype == np.uint8
    assert (drawn.type, drawn.category) == FAMILIES[family]
    assert drawn.alpha.max() > 64  # something is there
    assert drawn.background.std() > 1  # not one flat colour


# The shares below leave a margin around what 12 seeds of each family gave at this size.


@pytest.mark.parametrize("family", families_of(ImageType.SO))
def test_opaque_scenes_have_solid_insides_and_free_surroundings(family):
    for alpha in alphas(family):
        assert (alpha == 255).mean() > 0.06
        assert (alpha == 0).mean() > 0.4
        assert ((alpha > 0) & (alpha < 255)).any()  # anti-aliased edges


@pytest.mark.parametrize("family", families_of(ImageType.STM))
def test_transparent_and_meticulous_scenes_are_mostly_soft_where_they_are(family):
    for alpha in alphas(family):
        assert ((alpha > 12) & (alpha < 243)).sum() > 0.5 * (alpha > 0).sum()
        assert (alpha == 0).mean() > 0.4


@pytest.mark.parametrize("family", families_of(ImageType.NS))
def test_non_salient_scenes_fill_the_frame_without_hiding_it(family):
    for alpha in alphas(family):
        blocks = alpha.reshape(2, 32, 2, 40).max(axis=(1, 3))
        assert (blocks > 0).all()  # every quarter of the frame is touched
        assert (alpha >= 250).mean() < 0.35
        assert alpha.mean() / 255 < 0.75


@pytest.mark.parametrize("family", FAMILIES)
def test_foreground_colour_does_not_darken_towards_the_edge(family):
    for seed in SEEDS:
        drawn = scene(seed, SIZE, family=family)
        brightness = drawn.foreground.max(axis=2).astype(float)
        faint = (drawn.alpha > 0) & (drawn.alpha <= 64)
        strong = drawn.alpha >= np.quantile(drawn.alpha[drawn.alpha > 0], 0.8)
        if faint.sum() > 5:
            # black bleeding in would leave at most 64 / 255 of the colour; shading alone stays above 0.35
            assert brightness[faint].mean() > 0.3 * brightness[strong].mean()


def test_foreground_colour_goes_on_where_nothing_was_painted():
    drawn = scene(0, SIZE, family="rings")
    assert drawn.foreground[drawn.alpha == 0].max(axis=-1).min() > 20


def test_opaque_faces_that_meet_leave_no_gap():
    """A table's top is one solid region: its faces share edges."""
    for seed in SEEDS:
        alpha = scene(seed, 160, family="table").alpha
        rows, columns = np.nonzero(alpha == 255)
        middle = columns == int(np.median(columns))
        top = rows[middle].min()
        assert (alpha[top : top + 5, int(np.median(columns))] == 255).all()


@pytest.mark.parametrize("image_type", ImageType)
def test_a_wanted_type_is_drawn_from_all_its_families(image_type):
    drawn = [scene(seed, 32, image_type) for seed in range(60)]
    assert {one.type for one in drawn} == {image_type}
    # 60 draws from at most 10 families miss half of them with a chance below 1e-15
    assert len({one.name.rsplit("_", 1)[0] for one in drawn}) > len(families_of(image_type)) / 2


@pytest.mark.parametrize("pair", sorted(set(FAMILIES.values())))
def test_a_wanted_pair_of_type_and_category_is_kept(pair):
    drawn = scene(3, 32, *pair)
    assert (drawn.type, drawn.category) == pair


def test_every_category_of_the_schema_can_be_drawn():
    assert {category for _, category in FAMILIES.values()} == set(Category)


def test_bad_arguments_end_in_one_sentence():
    with pytest.raises(ValueError, match=r"no synthetic family has image_type=NS, category=portrait; .*SO portrait"):
        scene(0, 64, ImageType.NS, Category.PORTRAIT)
    with pytest.raises(ValueError, match="no synthetic family has image_type=NS, family=glass"):
        scene(0, 64, ImageType.NS, family="glass")
    with pytest.raises(ValueError, match="no synthetic family 'dragon'; the families are quadruped, "):
        scene(0, 64, family="dragon")
    with pytest.raises(ValueError, match="each at least 32 pixels, got 31"):
        scene(0, 31)
    with pytest.raises(ValueError, match=r"got \(64, 64, 3\)"):
        scene(0, (64, 64, 3))
    with pytest.raises(ValueError, match="must be 0 or more, got -1"):
        scene(-1)
