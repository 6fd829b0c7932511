"""HATT's loss: squared error, structural similarity and, where wanted, a discriminator of patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimmat.functional.filters import gaussian_kernel, separable_filter
from aimmat.schema import AimmatError, Batch, Prediction


class HATTLoss(nn.Module):
    """Mean squared error, lack of structural similarity, and how well patches of the matte pass for true ones.

    | term | of | weight |
    | --- | --- | --- |
    | mse | squared error, mean over all pixels | mse |
    | ssim | 1 - `structural_similarity`, mean over all pixels: likeness lowers it | ssim |
    | generator | -log of the probability that the discriminator gives the predicted matte | generator |
    | discriminator | binary cross-entropy of true and predicted mattes, which have half each | 1 |

    The discriminator is a part of the loss: its parameters learn in the same optimiser, at the same rate. Neither term
    teaches the other's side: `generator` goes through constants, and `discriminator` sees a matte without history.

    Args:
        mse: weight.
        ssim: weight.
        adversarial: "patchgan" adds the last two terms; "off".
        generator: weight.

    Raises:
        AimmatError: an unknown value of adversarial.

    Source:
        Qiao et al., CVPR 2020: the three losses. Weights as in the two public re-implementations, both of which add the
        similarity itself and so drive structures apart.
    """

    def __init__(self, mse: float = 1.0, ssim: float = 0.1, adversarial: str = "off", generator: float = 0.05) -> None:
        super().__init__()
        if adversarial not in ("off", "patchgan"):
            raise AimmatError(f"hatt's adversarial is off or patchgan, got {adversarial!r}; YAML needs it as 'off'")
        self.mse, self.ssim, self.generator = mse, ssim, generator
        self.discriminator = patch_discriminator() if adversarial == "patchgan" else None

    def forward(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms, each a scalar.

        Args:
            prediction: its alpha is read.
            batch: "alpha" is the target; the discriminator sees "image" beside it.

        Raises:
            ValueError: the mattes differ in shape.
        """
        alpha, truth = prediction.alpha, batch["alpha"]
        terms = {
            "ssim": self.ssim * (1 - structural_similarity(alpha, truth).mean()),
            "mse": self.mse * F.mse_loss(alpha, truth),
        }
        if self.discriminator is not None:
            seen, true = torch.cat((batch["image"], alpha), dim=1), torch.cat((batch["image"], truth), dim=1)
            constants = {name: value.detach() for name, value in self.discriminator.named_parameters()}
            passed = torch.func.functional_call(self.discriminator, constants, (seen,))
            terms["generator"] = self.generator * _surprise(passed)
            terms["discriminator"] = (
                _surprise(self.discriminator(true)) + _surprise(-self.discriminator(seen.detach()))
            ) / 2
        return terms


def structural_similarity(pred: Tensor, alpha: Tensor) -> Tensor:
    """How alike two mattes are in mean, contrast and structure around each pixel (SSIM); higher is better.

    Sums of shifted copies in float32, so that neither autocast nor TF32 rounds the small differences of large moments
    that it is made of; beyond the border a matte goes on as its mirror image.

    Args:
        pred: predicted alpha matte, (B, 1, H, W), values in [0, 1].
        alpha: ground-truth alpha matte, same shape and range.

    Returns:
        (B, 1, H, W), from -1 to 1 (equal surroundings).

    Raises:
        ValueError: the shapes differ.

    Source:
        Wang et al., IEEE TIP 2004: a Gaussian of sigma 1.5 over 11 x 11 pixels, constants 0.01^2 and 0.03^2.
    """
    if pred.shape != alpha.shape:
        raise ValueError(
            f"pred and alpha must be alpha mattes of one shape (B, 1, H, W), got {tuple(pred.shape)} and "
            f"{tuple(alpha.shape)}; resize the prediction to the target"
        )
    kernel = gaussian_kernel(1.5, truncate=3.5)
    moments = torch.cat((pred, alpha, pred * pred, alpha * alpha, pred * alpha), dim=1)
    p, a, pp, aa, pa = separable_filter(moments, kernel, kernel).chunk(5, dim=1)
    mean = (2 * p * a + 0.01**2) / (p * p + a * a + 0.01**2)
    structure = (2 * (pa - p * a) + 0.03**2) / (pp - p * p + aa - a * a + 0.03**2)
    return mean * structure


def patch_discriminator() -> nn.Sequential:
    """True or predicted: a logit for each patch of 70 x 70 pixels of a picture and its matte.

    Returns:
        (B, 4, H, W) -> (B, 1, H/8 - 2, W/8 - 2), sides of 24 or more, positive for true; 2,764,865 parameters. Pictures
        are normalised one by one: there are no statistics that three passes of a step could mix.

    Source:
        Isola et al., CVPR 2017, appendix 6.1.2 (C64-C128-C256-C512).
    """
    layers: list[nn.Module] = [nn.Conv2d(4, 64, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
    for channels, stride in ((64, 2), (128, 2), (256, 1)):
        conv = nn.Conv2d(channels, 2 * channels, 4, stride, 1, bias=False)
        layers += [conv, nn.InstanceNorm2d(2 * channels), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(512, 1, 4, 1, 1))


def _surprise(logits: Tensor) -> Tensor:
    """-log(sigmoid(logits)), mean: what it costs to be told that all of them are true."""
    return F.softplus(-logits.float()).mean()
