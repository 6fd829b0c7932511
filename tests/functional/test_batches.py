"""From uint8 layers to a batch with its targets."""

import pytest
import torch

from aimmat.functional import composite, generalise, trimap_from_alpha
from aimmat.functional.batches import compose
from aimmat.schema import Category, ImageType


def layers(size=24, types=("SO", "STM", "NS"), scale=1.0):
    generator = torch.Generator().manual_seed(0)
    count = len(types)
    alpha = torch.zeros(count, 1, size, size, dtype=torch.uint8)
    alpha[..., 4:-4, 4:-4] = 255
    alpha[..., 4, 4:-4] = 128
    return {
        "foreground": torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8),
        "background": torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8),
        "alpha": alpha,
        "type": torch.tensor([ImageType(name).number for name in types]),
        "category": torch.full((count,), Category.TOY.number),
        "scale": torch.full((count,), scale),
        "seed": torch.arange(count),
        "name": list(types),
    }


def test_without_augmentation_the_picture_is_the_plain_composite():
    given = layers()
    batch = compose(given, augment=False)
    floats = [given[name].float() / 255 for name in ("foreground", "background", "alpha")]
    torch.testing.assert_close(batch["image"], composite(*floats), rtol=0, atol=0)
    torch.testing.assert_close(batch["alpha"] * 255, given["alpha"].float(), rtol=0, atol=1e-5)  # one rounding


def test_augmented_layers_still_compose_to_the_picture():
    batch = compose(layers(), augment=True)
    again = composite(batch["foreground"], batch["background"], batch["alpha"])
    torch.testing.assert_close(batch["image"], again, rtol=0, atol=1e-6)  # float32 rounding of three terms
    assert batch["image"].min() >= 0
    assert batch["image"].max() <= 1


def test_an_augmented_sample_does_not_depend_on_its_batch():
    given = layers()
    alone = {name: value[1:2] for name, value in given.items()}
    assert torch.equal(compose(given, augment=True)["image"][1:2], compose(alone, augment=True)["image"])


def test_the_representation_is_the_switch_uni():
    given = layers()
    trimap = trimap_from_alpha(given["alpha"].float() / 255, 5)
    unified = compose(given, augment=False, trimap_kernel=5)
    assert torch.equal(unified["trimap"], trimap)
    assert torch.equal(unified["semantic"], generalise(trimap, given["type"]))
    assert torch.equal(compose(given, augment=False, trimap_kernel=5, representation="trimap")["semantic"], trimap)


def test_a_trimap_of_the_data_sets_own_goes_before_one_made_from_alpha():
    given = layers()
    own = torch.zeros_like(given["alpha"])
    own[..., 10:, :] = 1
    own[..., 12:, :] = 2
    batch = compose({**given, "trimap": own}, augment=False)
    assert batch["trimap"].dtype == torch.int64
    assert torch.equal(batch["trimap"], own.long())
    assert torch.equal(batch["semantic"], generalise(own.long(), given["type"]))
    as_trimap = compose({**given, "trimap": own}, augment=False, representation="trimap")
    assert torch.equal(as_trimap["semantic"], own.long())


def test_the_trimap_kernel_follows_the_scale_of_each_sample():
    given = layers(types=("SO", "SO"))
    given["scale"] = torch.tensor([1.0, 0.5])
    trimap = compose(given, augment=False, trimap_kernel=10)["trimap"]
    alpha = given["alpha"].float() / 255
    assert torch.equal(trimap[:1], trimap_from_alpha(alpha[:1], 10))
    assert torch.equal(trimap[1:], trimap_from_alpha(alpha[1:], 5))


def test_an_unknown_representation_is_refused():
    with pytest.raises(ValueError, match="one of unified, trimap, got 'duomap'"):
        compose(layers(), augment=False, representation="duomap")
