import cv2
import numpy as np
import pytest
import torch

from aimmat.functional import generalise, trimap_from_alpha


def blobs(*size, seed=0):
    """Large opaque and clear areas with a soft seam between them, uint8."""
    grey = cv2.GaussianBlur(np.random.default_rng(seed).random(size, dtype=np.float32), (0, 0), 6)
    grey = (grey - grey.min()) / np.ptp(grey)
    return np.clip((grey - 0.5) * 2000 + 128, 0, 255).astype(np.uint8)


def to_matte(*images):
    return torch.stack([torch.from_numpy(image)[None] for image in images]).float() / 255


def cv2_trimap(alpha, kernel):
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (kernel, kernel))
    foreground, background = (cv2.erode((alpha == value).astype(np.uint8), element) for value in (255, 0))
    return torch.from_numpy(1 + foreground.astype(np.int64) - background)


@pytest.mark.parametrize("kernel", [1, 3, 5, 11, 31])
def test_odd_kernels_are_opencvs_ellipse(kernel):
    images = [blobs(90, 120, seed=seed) for seed in range(2)]
    trimap = trimap_from_alpha(to_matte(*images), kernel)
    assert trimap.dtype == torch.int64
    assert len(trimap.unique()) == 3
    for found, image in zip(trimap[:, 0], images, strict=True):
        assert torch.equal(found, cv2_trimap(image, kernel))


@pytest.mark.parametrize("size", [(9, 14), (1, 7), (40, 2)])
def test_images_smaller_than_the_kernel_work(size):
    image = blobs(*size)
    assert torch.equal(trimap_from_alpha(to_matte(image), 31)[0, 0], cv2_trimap(image, 31))


def test_even_kernels_are_centred_and_stand_for_the_odd_one_above():
    alpha = torch.zeros(1, 1, 15, 15)
    alpha[..., 7, 7] = 0.5
    trimap = trimap_from_alpha(alpha, 10)
    assert torch.equal(trimap, trimap_from_alpha(alpha, 11))
    assert torch.equal(trimap, trimap.flip(-1))
    assert torch.equal(trimap, trimap.flip(-2))
    assert trimap[0, 0, 7].sum() == 11  # pixels of transition


def test_only_what_rounds_to_0_and_255_is_certain():
    alpha = torch.tensor([0, 0.4, 0.6, 1, 254, 254.4, 254.6, 255]).view(1, 1, 1, 8) / 255
    assert trimap_from_alpha(alpha, 1).flatten().tolist() == [0, 0, 1, 1, 1, 1, 2, 2]


def test_generalise_is_equation_1():
    trimap = torch.arange(3).view(1, 1, 1, 3).repeat(3, 1, 1, 1)
    value = torch.tensor([0, 0.5, 1])  # T of each class index
    unified = value[generalise(trimap, torch.tensor([0, 1, 2]))].view(3, 3)
    assert torch.equal(unified[0], value)  # SO: U = T
    assert torch.equal(unified[1], 1.5 * value - value**2)  # STM
    assert torch.equal(unified[2], torch.full((3,), 0.5))  # NS


def test_generalise_leaves_its_input_alone():
    trimap = torch.full((1, 1, 2, 2), 2)
    generalise(trimap, torch.tensor([2]))
    assert (trimap == 2).all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: trimap_from_alpha(torch.zeros(4, 4), 3), r"alpha must have shape \(B, 1, H, W\), got \(4, 4\)"),
        (lambda: trimap_from_alpha(torch.zeros(1, 1, 4, 4), 0), "at least 1 pixel, got 0"),
        (lambda: generalise(torch.zeros(2, 1, 4, 4), torch.tensor(0)), r"one ImageType.number an image, \(2,\)"),
    ],
)
def test_bad_arguments_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()
