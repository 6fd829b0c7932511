"""Hold this package beside the released AimNet: python benchmarks/parity.py AIM_CHECKOUT [--write GOLDEN.json]

AIM_CHECKOUT is a checkout of github.com/JizhiziLi/AIM, whose core/ is imported as it is. Both sides get the same random
weights, pictures and batches; a table says what was compared, how far apart it is and how far it may be, and the exit
code is 1 when something is out. With --write the release's figures go into a file, from which tests/test_parity.py
holds this package without the release.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from runpy import run_path
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.ndimage
import skimage.transform
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimmat.functional import generalise, sad, trimap_from_alpha
from aimmat.functional.metrics import measure
from aimmat.images import read_alpha, read_image, write_alpha
from aimmat.inference import Hybrid, Predictor, Resize
from aimmat.lit.losses import MattingLoss
from aimmat.models import AimNet
from aimmat.schema import Batch, ImageType, Prediction
from aimmat.weights import read_network, save_release
from aimmat.weights.released import AIM, rename

ROOT = Path(__file__).parents[1]
PAIRS = run_path(str(ROOT / "tests" / "golden" / "pairs.py"))
PHOTOS = ("astronaut", "coffee")  # 512 x 512 and 512 x 341 pixels; the sample set has no larger ones
STRATEGIES = {  # scale for the semantic decoder, for the matting decoder; the release's own script has no 1/3
    "hybrid 1/4 + 1/2": (1 / 4, 1 / 2),
    "hybrid 1/4 + 1/3": (1 / 4, 1 / 3),
    "resize 1/4": (1 / 4, None),
}
RATES = (1e-4, 1e-6)  # of Adam, in the release's two stages: DUTS, matting
STEP = 64  # side of the batch in the training step that the golden file keeps; seconds in float64
SAMPLES = 500  # values that the golden file keeps of a map
TIE = 1e-5  # two classes whose probabilities are closer are equally likely: rounding decides

Maps = dict[str, Tensor]


# What both sides are given: uniform noise, and sums of it in float64 rounded to 8 bits, so that every processor makes
# the same numbers


def fill(net: nn.Module) -> nn.Module:
    """Random weights with batch statistics that are not 0 and 1; all classes occur, nothing saturates."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if not value.is_floating_point():
                continue
            drawn = (2 * torch.rand(value.shape, generator=generator) - 1) * 3**0.5  # variance 1
            if value.ndim > 1:
                value.copy_(drawn * (2 / value[0].numel()) ** 0.5)  # He et al., ICCV 2015
            else:
                value.copy_(0.1 * drawn + ("bias" not in name and "mean" not in name))
            if name.endswith("second.1.weight"):
                value *= 0.3  # or each of the sixteen residual blocks doubles the variance
            elif name.endswith("squeeze.weight"):
                value.abs_().mul_(0.1)  # or all hidden units of an excitation can be dead, or its sigmoids saturate
    return net


def noise(generator: torch.Generator, shape: tuple[int, int, int, int], cells: int | None = None) -> Tensor:
    """Uniform in [0, 1] and float64; of so many cells, bilinear in between, or one a pixel."""
    lattice = (*shape[:2], cells, cells) if cells else shape
    values = torch.rand(lattice, generator=generator, dtype=torch.float64)
    return F.interpolate(values, shape[2:], mode="bilinear", align_corners=True) if cells else values


def eight_bit(values: Tensor) -> Tensor:
    return (255 * values).round() / 255


def picture(height: int, width: int) -> Tensor:
    """Noise at four scales; to the deep layers, the finest alone would look the same everywhere.

    Channels last, other sums of float32 let another value win some pooling in 2 of the first 12 seeds, which moves a
    tenth of the matte by up to 2e-3. In this one none does.
    """
    generator = torch.Generator().manual_seed(1)
    scales = [noise(generator, (1, 3, height, width), cells) for cells in (4, 16, 64, None)]
    return eight_bit(torch.stack(scales).mean(dim=0))


def scenes(size: int) -> Batch:
    """Two composites, of the types SO and STM."""
    smooth = noise(torch.Generator().manual_seed(0), (2, 7, size, size), 9)
    alpha = eight_bit((5 * smooth[:, :1] - 2).clamp(0, 1))
    foreground, background = eight_bit(smooth[:, 1:]).chunk(2, dim=1)
    kinds = torch.tensor([ImageType.SO.number, ImageType.STM.number])
    return Batch(
        image=alpha * foreground + (1 - alpha) * background,
        alpha=alpha,
        foreground=foreground,
        background=background,
        semantic=generalise(trimap_from_alpha(alpha, 5), kinds),
    )


def guess(alpha: Tensor) -> Prediction:
    """What a network could say about the scenes with these mattes."""
    errors = noise(torch.Generator().manual_seed(1), (2, 5, *alpha.shape[2:])).to(alpha) - 0.5
    matting, fused = ((alpha + 0.7 * errors[:, k : k + 1]).clamp(0, 1) for k in (3, 4))
    return Prediction(8 * errors[:, :3], matting, fused)


# The two sides


class Side(Protocol):
    """What either of them computes, under our names."""

    def outputs(self, image: Tensor, channels_last: bool = False) -> Maps: ...

    def infer(self, image: np.ndarray, strategy: str) -> Tensor: ...

    def losses(self, prediction: Prediction, batch: Batch, stage: str) -> Maps: ...

    def metrics(self, pred: np.ndarray, alpha: np.ndarray, transition: np.ndarray) -> Maps: ...

    def save(self, path: Path, alpha: np.ndarray) -> None: ...

    def step(self, batch: Batch, dtype: torch.dtype) -> Maps: ...


class Ours:
    """This package. `unpooling`: the protocol whose rule gives gradient to values that lost their cell, or none."""

    def __init__(self, unpooling: str = "release") -> None:
        self.unpooling = unpooling
        self.net = fill(AimNet(protocol="release")).eval()

    @torch.no_grad()
    def outputs(self, image: Tensor, channels_last: bool = False) -> Maps:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        net = self.net.to(dtype=image.dtype, memory_format=layout)
        prediction = net(image.contiguous(memory_format=layout))
        self.net.to(dtype=torch.float32, memory_format=torch.contiguous_format)
        return {"semantic": prediction.semantic.sigmoid(), "matting": prediction.matting, "fused": prediction.alpha}

    def infer(self, image: np.ndarray, strategy: str) -> Tensor:
        coarse, fine = STRATEGIES[strategy]
        see = Hybrid(coarse, fine, protocol="release") if fine else Resize(coarse, protocol="release")
        return torch.from_numpy(Predictor(self.net, see, "cpu")(image))

    def losses(self, prediction: Prediction, batch: Batch, stage: str) -> Maps:
        left_out = () if stage == "matting" else ("matting_laplacian", "fused_laplacian", "fused_composition")
        terms = MattingLoss(**dict.fromkeys(left_out, 0.0), protocol="release")(prediction, batch)
        return {**terms, "total": sum(terms.values())}

    def metrics(self, pred: np.ndarray, alpha: np.ndarray, transition: np.ndarray) -> Maps:
        p, a, t = (torch.from_numpy(np.array(part))[None, None] for part in (pred, alpha, transition))
        regions = {"foreground": ~t & (a == 1), "background": ~t & (a < 1)}
        return measure(p, a, t) | {f"sad_{name}": sad(p, a, region) for name, region in regions.items()}

    def save(self, path: Path, alpha: np.ndarray) -> None:
        write_alpha(path, alpha, protocol="release")

    def step(self, batch: Batch, dtype: torch.dtype) -> Maps:
        net = AimNet(protocol=self.unpooling).to(dtype)
        net.load_state_dict(self.net.state_dict())
        batch = precise(batch, dtype)
        return learn(net, lambda: self.losses(net(batch["image"]), batch, "matting")["total"])


class Release:
    """The code of a checkout on the CPU, with stand-ins for what it needs besides."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        sys.path.insert(0, str(checkout / "core"))
        if importlib.util.find_spec("torchvision") is None:
            transforms = types.SimpleNamespace(Normalize=lambda mean, std: normalised)
            sys.modules["torchvision"] = types.SimpleNamespace(transforms=transforms)
        if not hasattr(scipy.ndimage, "morphology"):
            scipy.ndimage.morphology = scipy.ndimage
        # There is no GPU to move to; what is made for one is wanted in the precision of the comparison.
        Tensor.cuda = lambda tensor: tensor.to(torch.get_default_dtype())

        config, encoder = (importlib.import_module(name) for name in ("config", "network.resnet_mp"))
        # Its network reads a backbone when it is built: here one of random weights, soon replaced.
        encoder.PRETRAINED_R34_MP = config.PRETRAINED_R34_MP = folder / "backbone.pth"
        torch.save(encoder.ResNet(encoder.BasicBlock, [3, 4, 6, 3]).state_dict(), folder / "backbone.pth")
        self.util, self.evaluate, self.test = (importlib.import_module(name) for name in ("util", "evaluate", "test"))
        # The defaults of scikit-image 0.14.5, which the release asks for; later ones filter and reflect.
        self.test.resize = partial(skimage.transform.resize, order=1, mode="constant", cval=0, anti_aliasing=False)

        save_release(folder / "ours.pth", fill(AimNet(protocol="release")))
        self.net = self.test.AimNet().eval()
        self.net.load_state_dict(torch.load(folder / "ours.pth")["state_dict"], strict=True)
        nn.init.normal_(self.net.resnet.fc.weight)  # which is nothing of ours, but has to survive a round trip

    @torch.no_grad()
    def outputs(self, image: Tensor, channels_last: bool = False) -> Maps:
        found = self.net.to(image.dtype)(normalised(image))
        self.net.float()
        return dict(zip(("semantic", "matting", "fused"), found, strict=True))

    @torch.no_grad()
    def infer(self, image: np.ndarray, strategy: str) -> Tensor:
        fine = STRATEGIES[strategy][1]
        arguments = types.SimpleNamespace(cuda=False, test_choice="HYBRID" if fine else "RESIZE")
        code = self.test.inference_img.__code__  # the scale of its finer picture is its only constant 1/2
        constants = tuple(fine if fine and value == 0.5 else value for value in code.co_consts)
        inference_img = types.FunctionType(code.replace(co_consts=constants), vars(self.test))
        return torch.from_numpy(inference_img(arguments, self.net, image))

    def losses(self, prediction: Prediction, batch: Batch, stage: str) -> Maps:
        return self._losses((prediction.semantic.sigmoid(), prediction.matting, prediction.alpha), batch, stage)

    def _losses(self, outputs: tuple[Tensor, ...], batch: Batch, stage: str) -> Maps:
        # What the two branches of train() in core/train.py call; the file itself does not parse.
        evaluate, (semantic, local, fused) = self.evaluate, outputs
        mask, usr = (255 * batch["alpha"]).round(), torch.tensor((0.0, 128.0, 255.0))[batch["semantic"]]
        terms = {
            "semantic": evaluate.get_crossentropy_loss(usr, semantic),
            "matting_alpha": evaluate.get_alpha_loss(local, mask, usr),
            "fused_alpha": evaluate.get_alpha_loss_whole_img(fused, mask),
        }
        if stage == "matting":
            ori, fg, bg = (normalised(batch[name]) for name in ("image", "foreground", "background"))
            terms["matting_laplacian"] = evaluate.get_laplacian_loss(local, mask, usr)
            terms["fused_laplacian"] = evaluate.get_laplacian_loss_whole_img(fused, mask)
            terms["fused_composition"] = evaluate.get_composition_loss_whole_img(ori, mask, fg, bg, fused)
        return {**terms, "total": sum(terms.values())}

    def metrics(self, pred: np.ndarray, alpha: np.ndarray, transition: np.ndarray) -> Maps:
        evaluate, trimap = self.evaluate, np.where(transition, 128, np.where(alpha == 1, 255, 0))
        names = ("sad", "mse", "mad")
        inner = evaluate.calculate_sad_mse_mad(pred, alpha, trimap)
        figures = dict(zip(names, evaluate.calculate_sad_mse_mad_whole_img(pred, alpha), strict=True))
        figures |= {f"{name}_transition": value for name, value in zip(names, inner, strict=True)}
        figures["sad_foreground"], figures["sad_background"] = evaluate.calculate_sad_fgbg(pred, alpha, trimap)
        figures["grad"] = evaluate.compute_gradient_whole_image(pred, alpha)
        figures["conn"] = evaluate.compute_connectivity_loss_whole_image(pred, alpha)
        return {name: torch.tensor([value], dtype=torch.float64) for name, value in figures.items()}

    def save(self, path: Path, alpha: np.ndarray) -> None:
        self.util.save_test_result(str(path), alpha)

    def step(self, batch: Batch, dtype: torch.dtype) -> Maps:
        net = self.test.AimNet().to(dtype)
        net.load_state_dict(self.net.state_dict())
        batch = precise(batch, dtype)
        torch.set_default_dtype(dtype)
        try:
            found = learn(net, lambda: self._losses(net(normalised(batch["image"])), batch, "matting")["total"])
        finally:
            torch.set_default_dtype(torch.float32)
        theirs = rename(AimNet().state_dict(), AIM)
        return {
            f"{kind}/{ours}": found[f"{kind}/{name}"]
            for kind in dict.fromkeys(key.split("/")[0] for key in found)
            for ours, name in theirs.items()
            if f"{kind}/{name}" in found
        }


def normalised(image: Tensor) -> Tensor:
    """What the release's loaders do to a picture in [0, 1]; the constants are float32 on both sides."""
    mean, std = (torch.tensor(v, dtype=torch.float32) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (image - mean.to(image)[:, None, None]) / std.to(image)[:, None, None]


def precise(batch: Batch, dtype: torch.dtype) -> Batch:
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in batch.items()}


def learn(net: nn.Module, loss: Callable[[], Tensor]) -> Maps:
    """A training step: gradients, running batch statistics, and by how much Adam changes the weights at each rate."""
    net.train()
    loss().backward()
    weights = dict(net.named_parameters())
    before = {name: value.detach().clone() for name, value in weights.items()}
    found = {f"gradient/{name}": value.grad for name, value in weights.items() if value.grad is not None}
    found |= {f"statistics/{name}": value for name, value in net.named_buffers() if "running" in name}
    for rate in RATES:
        torch.optim.Adam(net.parameters(), lr=rate).step()
        with torch.no_grad():
            for name, value in weights.items():
                found[f"Adam {rate:g}/{name}"] = value - before[name]
                value.copy_(before[name])
    return found


# What is measured on either side


def photographs(side: Side) -> Maps:
    photos = {name: read_image(ROOT / f"src/aimmat/data/sample/photos/{name}.jpg") for name in PHOTOS}
    return {f"{name}, {how}": side.infer(photo, how) for name, photo in photos.items() for how in STRATEGIES}


def losses(side: Side) -> Maps:
    batch = precise(scenes(320), torch.float32)
    return {
        f"{stage} stage, {name}": value
        for stage in ("sod", "matting")
        for name, value in side.losses(guess(batch["alpha"]), batch, stage).items()
    }


def metrics(side: Side) -> Maps:
    return {
        f"{name}, {figure}": value
        for name in PAIRS["NAMES"]
        for figure, value in side.metrics(*PAIRS["pair"](name)).items()
    }


def saved(side: Side) -> Maps:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in PAIRS["NAMES"]:
            side.save(Path(folder, f"{name}.png"), PAIRS["pair"](name)[0])
            found[name] = torch.from_numpy(read_alpha(Path(folder, f"{name}.png"))).double()
    return found


# How far apart it may be


class Row(NamedTuple):
    """A line of the table; without a tolerance it is for information."""

    what: str
    difference: float
    tolerance: float | None

    @property
    def good(self) -> bool:
        return self.tolerance is None or self.difference <= self.tolerance


def largest(difference: Tensor) -> float:
    return difference.abs().max().item()


def outputs_apart(ours: Maps, theirs: Maps) -> Iterator[Row]:
    first, second = theirs["semantic"].topk(2, dim=1).values.chunk(2, dim=1)
    tie = first - second < TIE
    yield Row("semantic", largest(ours["semantic"] - theirs["semantic"]), 1e-5)
    yield Row("matting", largest(ours["matting"] - theirs["matting"]), 1e-5)
    yield Row("fused", largest((ours["fused"] - theirs["fused"]).masked_fill(tie, 0)), 1e-5)
    yield Row(f"pixels left out of it, two classes within {TIE:g}", tie.sum().item(), None)


def channels_last_apart(ours: Maps, theirs: Maps) -> Iterator[Row]:
    for name in theirs:
        difference = (ours[name] - theirs[name]).abs()
        yield Row(f"{name}, 99.9th percentile", np.quantile(difference.numpy(), 0.999), 1e-5)
        yield Row(f"{name}, largest", largest(difference), None)


def photographs_apart(ours: Maps, theirs: Maps) -> Iterator[Row]:
    for name in theirs:
        difference = (ours[name] - theirs[name]).abs()
        yield Row(f"{name}, mean", difference.mean().item(), 3e-4)
        yield Row(f"{name}, share of pixels above 0.02", (difference > 0.02).double().mean().item(), 1e-3)


def figures_apart(ours: Maps, theirs: Maps) -> Iterator[Row]:
    """The worst of each figure; where both are 0, they are equal."""
    worst: dict[str, float] = {}
    for name, value in theirs.items():
        figure = name.split(", ")[1]
        relative = ((ours[name] - value).abs() / value.abs().clamp(min=1e-15)).item()
        worst[figure] = max(worst.get(figure, 0), relative)
    for figure, relative in worst.items():
        yield Row(f"{figure}, relative", relative, 1e-6)


def levels_apart(ours: Maps, theirs: Maps) -> Iterator[Row]:
    yield Row("grey levels", max(largest(ours[name] - theirs[name]) for name in theirs), 0)


def step_apart(ours: Maps, theirs: Maps, exact: bool) -> Iterator[Row]:
    """Gradients, statistics and weights of a step; in float32 (not `exact`) for information.

    A bias in front of batch normalisation has a gradient of zero but for rounding, so it is measured against the
    gradient of its layer's weights. In float32 a rounding can carry a value over a ReLU's zero, which moves gradients
    by up to a thousandth; and Adam, which divides a gradient by its own size, makes whole steps from such rounding.
    """
    if ours.keys() != theirs.keys():
        raise SystemExit(f"the sides name different tensors: {sorted(ours.keys() ^ theirs.keys())[:4]}")
    kinds: dict[str, list[str]] = {}
    for name in theirs:
        kinds.setdefault(name.split("/")[0], []).append(name)
    apart = {name: largest(ours[name] - theirs[name]) for name in theirs}
    worst = max((relative_gradient(ours, theirs, name), name) for name in kinds.pop("gradient"))
    yield Row(f"gradient, relative; worst: {worst[1].split('/')[1]}", worst[0], 1e-4 if exact else None)
    yield Row("running statistics", max(apart[name] for name in kinds.pop("statistics")), 1e-6)
    for kind, names in kinds.items():
        for what, chosen in (("weights", False), ("biases before normalisation", True)):
            furthest = max(apart[name] for name in names if silent(name) == chosen)
            yield Row(f"{what} after {kind}", furthest, 1e-6 if exact else None)


def silent(name: str) -> bool:
    """Whether it is the bias of a convolution in front of batch normalisation."""
    return name.endswith(".0.bias")


def relative_gradient(ours: Maps, theirs: Maps, name: str) -> float:
    against = theirs[name.removesuffix("bias") + "weight"] if silent(name) else theirs[name]
    return ((ours[name] - theirs[name]).norm() / against.norm().clamp(min=1e-30)).item()


# What the golden file keeps


def number(value: Tensor) -> float:
    return float(f"{value.item():.12g}")


def sampled(values: Tensor) -> list[float]:
    """The mean, then values at places drawn with a fixed seed."""
    order = torch.randperm(values.numel(), generator=torch.Generator().manual_seed(0))
    return [number(values.double().mean()), *(round(value, 7) for value in values.flatten()[order[:SAMPLES]].tolist())]


def fingerprint(values: Tensor) -> list[float]:
    """The norm and the projection on a vector of random signs."""
    values = values.double().flatten()
    return [number(values.norm()), number(values @ signs()[: values.numel()])]


@cache
def signs() -> Tensor:
    return torch.randint(2, (2 * 512 * 1024 * 9,), generator=torch.Generator().manual_seed(0)).double() * 2 - 1


def layout(content: Maps) -> list[Any]:
    """Number of a checkpoint's entries and the digest of their names, shapes and types."""
    lines = sorted(f"{name} {tuple(value.shape)} {value.dtype}" for name, value in content.items())
    return [len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()]


class Group(NamedTuple):
    """What both sides measure, how it is compared, and what the golden file keeps of each of the release's tensors."""

    measure: Callable[[Side], Maps]
    apart: Callable[[Maps, Maps], Iterator[Row]]
    keep: Callable[[Tensor], Any] | None


GROUPS = {
    "320 x 320": Group(lambda side: side.outputs(picture(320, 320).float()), outputs_apart, sampled),
    "256 x 416": Group(lambda side: side.outputs(picture(256, 416).float()), outputs_apart, sampled),
    "800 x 800": Group(lambda side: side.outputs(picture(800, 800).float()), outputs_apart, sampled),
    "float64": Group(lambda side: side.outputs(picture(96, 160)), outputs_apart, sampled),
    "channels last": Group(lambda side: side.outputs(picture(320, 320).float(), True), channels_last_apart, None),
    "channels last, float64": Group(lambda side: side.outputs(picture(96, 160), True), outputs_apart, None),
    "photographs": Group(photographs, photographs_apart, sampled),
    "losses": Group(losses, figures_apart, number),
    "metrics": Group(metrics, figures_apart, number),
    "saved mattes": Group(saved, levels_apart, sampled),
    "step, float64": Group(
        lambda side: side.step(scenes(STEP), torch.float64), partial(step_apart, exact=True), fingerprint
    ),
    "step, float32": Group(lambda side: side.step(scenes(128), torch.float32), partial(step_apart, exact=False), None),
}


def round_trip(release: Release, folder: Path) -> Row:
    """A checkpoint as core/train.py writes it, read by us and written again."""
    torch.save({"state_dict": release.net.state_dict()}, folder / "theirs.pth")
    loaded = read_network(folder / "theirs.pth")
    save_release(folder / "back.pth", loaded.net, loaded.unused)
    before, after = (torch.load(folder / name)["state_dict"] for name in ("theirs.pth", "back.pth"))
    changed = before.keys() ^ after.keys() | {
        name for name in before.keys() & after.keys() if not torch.equal(before[name], after[name])
    }
    return Row(f"entries of {len(before)} that changed", len(changed), 0)


def whole_gradient(ours: Maps, theirs: Maps) -> float:
    names = [name for name in theirs if name.startswith("gradient/")]
    apart, size = (
        torch.stack([v.norm() for v in vs]).norm()
        for vs in ([ours[name] - theirs[name] for name in names], [theirs[name] for name in names])
    )
    return (apart / size).item()


def revision(checkout: Path) -> str:
    """Of the checkout, and whether its core/ is as committed."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True).stdout.strip()

    if not (checkout / ".git").exists():
        return "of unknown revision"
    return git("rev-parse", "HEAD") + (", with changes in core/" if git("status", "--porcelain", "--", "core") else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--write", type=Path, metavar="GOLDEN.json")
    given = parser.parse_args()
    if not (given.checkout / "core" / "evaluate.py").is_file():
        raise SystemExit(f"{given.checkout} holds no core/evaluate.py; give a checkout of github.com/JizhiziLi/AIM")
    warnings.simplefilter("ignore")  # the release uses functions that PyTorch and SciPy have renamed since

    versions = [f"{module.__name__} {module.__version__}" for module in (torch, np, scipy, skimage)]
    print(f"AIM {revision(given.checkout)}; {', '.join(versions)}; {torch.get_num_threads()} threads\n")
    print(f"{'':22} {'':58} {'difference':>10} {'tolerance':>9}")
    good, golden = True, {}

    def show(name: str, row: Row) -> None:
        nonlocal good
        good &= row.good
        allowed = "" if row.tolerance is None else f"{row.tolerance:9.0e} {'ok' if row.good else 'OUT'}"
        print(f"{name:22} {row.what:58} {row.difference:10.2g} {allowed}", flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, release = Ours(), Release(given.checkout, folder)
        show("checkpoint", round_trip(release, folder))
        for name, group in GROUPS.items():
            theirs, found = group.measure(release), group.measure(ours)
            if not all(value.isfinite().all() for value in (*theirs.values(), *found.values())):
                raise SystemExit(f"{name}: a value is not finite")
            for row in group.apart(found, theirs):
                show(name, row)
            if group.keep is not None:
                golden[name] = {key: group.keep(value) for key, value in theirs.items()}
            if name == "step, float64":
                paper = Ours(unpooling="paper").step(scenes(STEP), torch.float64)
                what = "gradient, relative, where only winners get one (paper)"
                show(name, Row(what, whole_gradient(paper, theirs), None))
        golden["checkpoint"] = {"layout": layout(release.net.state_dict())}
    if given.write:
        command = f"python benchmarks/parity.py AIM_CHECKOUT --write {given.write}"
        head = {"command": command, "revision": revision(given.checkout), "versions": versions}
        parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        for name, kept in golden.items():
            lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in kept.items())
            parts.append(f"{json.dumps(name)}: {{\n{lines}\n}}")
        given.write.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
