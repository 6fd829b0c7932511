"""Hold the other networks beside their public code: python benchmarks/methods.py METHOD CHECKOUT [--write GOLDEN.json]

METHOD is one of those below, CHECKOUT a checkout of the repository that its function names, whose files are imported as
they are. Both sides get the same random weights and pictures; a table says what was compared, how far apart it is and
how far it may be, and the exit code is 1 when something is out. With --write the public code's figures go into a file,
from which tests/models/test_METHOD.py holds this package without that code.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import io
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from runpy import run_path
from types import ModuleType, SimpleNamespace
from typing import NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimmat.lit.losses import DIMLoss, GFMLoss, SHMLoss, U2NetLoss
from aimmat.models import DIM, GFM, SHM, U2Net
from aimmat.models.densenets import DenseNet
from aimmat.models.resnets import Basic, Bottleneck, ResNet
from aimmat.schema import Prediction
from aimmat.weights.dim import FLAT
from aimmat.weights.gfm import to_gfm
from aimmat.weights.released import rename
from aimmat.weights.shm import rename as shm_names
from aimmat.weights.u2net import U2NET

PARITY = run_path(str(Path(__file__).with_name("parity.py")), run_name="parity")
fill, picture, sampled, normalised = (PARITY[name] for name in ("fill", "picture", "sampled", "normalised"))


class Compared(NamedTuple):
    """A figure of both sides."""

    what: str
    ours: Tensor
    theirs: Tensor
    keep: bool = True  # a sample of theirs in the golden file
    tolerance: float | None = 1e-5  # of the largest absolute difference; None: for information

    @property
    def difference(self) -> float:
        if self.ours.shape != self.theirs.shape or not (self.ours.isfinite().all() and self.theirs.isfinite().all()):
            raise SystemExit(f"{self.what}: the sides differ in shape, or a value is not finite")
        return (self.ours - self.theirs).abs().max().item()

    @property
    def good(self) -> bool:
        return self.tolerance is None or self.difference <= self.tolerance


def module(path: Path) -> ModuleType:
    """A file of a checkout as a module of its own."""
    if not path.is_file():
        raise SystemExit(f"there is no {path}; give a checkout of the repository that the method's function names")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def gradients_apart(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> Compared:
    """The largest relative difference of two gradients of all weights; biases, silent before normalisation, apart."""
    apart = [(ours[name] - theirs[name]).norm() / theirs[name].norm() for name in ours if ours[name].ndim > 1]
    return Compared("gradient of the weights, relative", torch.stack(apart), torch.zeros(len(apart)).double(), False)


# U2NET and U2NETP: github.com/xuebinqin/U-2-Net

SIZES = {"320 x 320": (320, 320), "odd sides": (101, 165)}


def u2net_filled(small: bool) -> nn.Module:
    net = fill(U2Net(small=small))
    for head in (*net.sides, net.fuse):
        head.weight.data *= 0.1  # or sigmoids saturate: the blocks' sums double the variance eleven times
    return net.eval()


def u2net_maps(net: nn.Module, image: Tensor) -> Tensor:
    """The seven maps in [0, 1], the fused one first, (B, 7, H, W)."""
    with torch.no_grad():
        parts = net.to(image.dtype)(image).parts
    net.float()
    return torch.cat((parts["fused"], parts["sides"]), dim=1).sigmoid()


def u2net_step(net: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a training step in float64, and its gradients."""
    net.double().train()
    image, alpha = u2net_batch()
    loss = sum(U2NetLoss()(net(image), {"alpha": alpha}).values())
    loss.backward()
    return loss.detach(), {name: value.grad for name, value in net.named_parameters()}


def u2net_batch() -> tuple[Tensor, Tensor]:
    image = picture(64, 96)
    return torch.cat((image, image.flip(3))), image.mean(dim=1, keepdim=True).repeat(2, 1, 1, 1)


def u2net(checkout: Path) -> Iterator[Compared]:
    public = module(checkout / "model" / "u2net.py")
    for small, name in ((False, "U2NET"), (True, "U2NETP")):
        ours, theirs = u2net_filled(small), getattr(public, name)().eval()
        names = rename(ours.state_dict(), U2NET)
        theirs.load_state_dict({names[key]: value for key, value in ours.state_dict().items()}, strict=True)
        for what, size in SIZES.items():
            image = picture(*size).float()
            maps = u2net_maps(ours, image), u2net_public(theirs, image)
            yield Compared(f"{name}, {what}", *maps, keep="odd" in what)
        image = picture(64, 96)
        yield Compared(f"{name}, float64", u2net_maps(ours, image), u2net_public(theirs.double(), image))

        loss, found = u2net_step(ours)
        image, alpha = u2net_batch()
        wanted = u2net_loss(checkout)(*theirs.train()(normalised(image)), alpha)[1]
        wanted.backward()
        gradients = {key: value.grad for key, value in theirs.named_parameters()}
        yield Compared(f"{name}, loss", loss[None], wanted.detach()[None])
        gradient = gradients_apart(found, {key: gradients[names[key]] for key in found})
        yield gradient._replace(what=f"{name}, {gradient.what}")


def u2net_public(net: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat(net(normalised(image)), dim=1)


def u2net_loss(checkout: Path) -> Callable[..., tuple[Tensor, Tensor]]:
    """The loss in u2net_train.py, which trains when it is imported; silenced, as it prints."""
    tree = ast.parse((checkout / "u2net_train.py").read_text())
    own = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) or (isinstance(node, ast.Assign) and node.targets[0].id == "bce_loss")
    ]
    scope = {"nn": nn}
    exec(compile(ast.Module(own, []), "u2net_train.py", "exec"), scope)

    def loss(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        with contextlib.redirect_stdout(io.StringIO()):
            return scope["muti_bce_loss_fusion"](*arguments)

    return loss


# DIM: github.com/huochaitiantang/pytorch-deep-image-matting

DIMS = {"plain": (False, False), "skip": (True, False), "refined": (True, True)}  # skip, refiner


def dim_filled(name: str) -> nn.Module:
    skip, refiner = DIMS[name]
    net = fill(DIM(skip=skip, refiner=refiner))
    if not skip:
        for conv in net.decoder:
            conv.weight.data *= 2  # or mattes are flat: of what it sees, unpooled, three of four values are 0
    return net.eval()


def dim_picture(height: int, width: int) -> Tensor:
    """A picture and its trimap, cut from its smoothed green."""
    image = picture(height, width)
    smooth = F.avg_pool2d(image[:, 1:2], 9, 1, 4, count_include_pad=False)
    trimap = (1 + (smooth > 0.53).double() - (smooth < 0.47).double()) / 2
    return torch.cat((image, trimap), dim=1)


def dim_mattes(net: nn.Module, image: Tensor) -> Tensor:
    """The decoder's matte and, with a refiner, the refiner's."""
    with torch.no_grad():
        prediction = net.to(image.dtype)(image)
    net.float()
    coarse = [prediction.parts["coarse"]] if "coarse" in prediction.parts else []
    return torch.cat([*coarse, prediction.matting], dim=1)


def dim_losses(matte: Tensor, image: Tensor) -> dict[str, Tensor]:
    """Ours, unweighted, of a matte of the picture, which lies over its mirror image."""
    part = {"transition": (image[:, 3:] == 0.5).to(matte)}
    terms = DIMLoss(alpha=1, composition=1)(Prediction(None, matte, matte, part), dim_layers(image))
    return {name: terms[name][None] for name in ("alpha", "composition")}


def dim_layers(image: Tensor) -> dict[str, Tensor]:
    alpha, foreground, background = image[:, :1], image[:, :3], image[:, :3].flip(3)
    blend = alpha * foreground + (1 - alpha) * background
    return {"alpha": alpha, "foreground": foreground, "background": background, "image": blend}


def dim(checkout: Path) -> Iterator[Compared]:
    file = checkout / "core" / "net.py"
    public = module(file)
    older = ModuleType("older")  # before V1.5 nothing was added to the decoder's maps
    lines = [line for line in file.read_text().splitlines() if not re.fullmatch(r" +(x\dd) = \1 \+ x\d\d", line)]
    exec(compile("\n".join(lines), "net.py", "exec"), older.__dict__)
    for name, (skip, refiner) in DIMS.items():
        ours = dim_filled(name)
        theirs = (public if skip else older).VGG16(SimpleNamespace(stage=3 if refiner else 1)).eval()
        names = rename(ours.state_dict(), FLAT)
        theirs.load_state_dict({names[key]: value for key, value in ours.state_dict().items()}, strict=True)
        for what, image in {"192 x 320": dim_picture(192, 320).float(), "float64": dim_picture(64, 96)}.items():
            yield Compared(f"{name}, {what}", dim_mattes(ours, image), dim_public(theirs, image, refiner))
    image = dim_picture(64, 96)
    matte = image[:, 2:3]
    for name, found in dim_losses(matte, image).items():
        yield Compared(f"loss, {name}", found, dim_public_losses(checkout, matte, image)[name][None])


def dim_public(net: nn.Module, image: Tensor, refiner: bool) -> Tensor:
    with torch.no_grad():
        coarse, refined = net.to(image.dtype)(torch.cat((normalised(image[:, :3]), image[:, 3:]), dim=1))
    net.float()
    return torch.cat((coarse, refined), dim=1) if refiner else coarse


def dim_public_losses(checkout: Path, matte: Tensor, image: Tensor) -> dict[str, Tensor]:
    """Of `gen_loss` in core/train.py, which imports its own loaders, and moves what it makes to a GPU."""
    tree = ast.parse((checkout / "core" / "train.py").read_text())
    own = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "gen_loss"]
    scope = {"torch": torch}
    exec(compile(ast.Module(own, []), "train.py", "exec"), scope)
    layers = {name: 255 * value for name, value in dim_layers(image).items()}
    colours = layers["image"], layers["alpha"], layers["foreground"], layers["background"]
    with mock.patch.object(Tensor, "cuda", lambda self: self):
        alpha, composition = scope["gen_loss"](*colours, 256 * image[:, 3:], matte)
    return {"alpha": alpha, "composition": composition}


# GFM: github.com/JizhiziLi/GFM

# Kept in the golden file; the others have the same parts, or take seconds and gigabytes to make.
GFM_KEPT = {
    ("r34", "tt"): ("glance_tt", "focus_tt", "fused_tt"),
    ("r34", "rim"): ("fused_ft", "fused_bt", "final"),
    ("r34_2b", "tt"): ("focus_tt", "fused_tt"),
    ("d121", "tt"): ("focus_tt", "fused_tt"),
}
GFM_NETS = [("r34", "tt"), ("r34", "ft"), ("r34", "bt"), ("r34", "rim"), ("r34_2b", "tt"), ("r34_2b", "rim")]
GFM_NETS += [("d121", "tt"), ("d121", "rim"), ("r101", "tt"), ("r101", "rim")]


def gfm_filled(backbone: str, mode: str) -> nn.Module:
    net = fill(GFM(backbone=backbone, mode=mode, normalisation="raw", protocol="release"))
    for block in net.modules():  # or each residual block doubles the variance
        if isinstance(block, Basic):
            block.bn2.weight.data *= 0.3
        elif isinstance(block, Bottleneck):
            block.bn3.weight.data *= 0.3
    first = next(part for part in net.encoder.modules() if isinstance(part, nn.Conv2d) and part.in_channels == 3)
    (net.encoder.stem[0] if backbone == "r34_2b" else first).weight.data /= 64  # its pixels go to 255
    return net.eval()


def gfm_maps(net: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Glance and focus in [0, 1] and their fusion, of each branch, and what integrates them."""
    with torch.no_grad():
        found = net.to(image.dtype)(image)
    net.float()
    parts = found.parts or {"glance_tt": found.semantic, "focus_tt": found.matting, "fused_tt": found.alpha}
    return {name: value.sigmoid() if name.startswith("glance") else value for name, value in parts.items()}


def gfm_sure(maps: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The maps without the fusion of pixels at which two classes are equally likely but for rounding."""
    kept = dict(maps)
    for branch in [name.removeprefix("glance_") for name in maps if name.startswith("glance_")]:
        first, second = theirs[f"glance_{branch}"].topk(2, dim=1).values.chunk(2, dim=1)
        unsure = first - second < 2 * PARITY["TIE"]
        for name in (f"fused_{branch}", "final"):
            if name in kept:
                kept[name] = kept[name].masked_fill(unsure, 0)
    return kept


def gfm(checkout: Path) -> Iterator[Compared]:
    sys.path.insert(0, str(checkout / "core"))
    if importlib.util.find_spec("torchvision") is None:  # stand-ins with its names: our encoders and a classifier
        models = SimpleNamespace(
            resnet34=lambda pretrained: GfmResNet("resnet34"),
            resnet101=lambda pretrained: GfmResNet("resnet101"),
            densenet121=lambda pretrained: GfmDenseNet(),
        )
        sys.modules["torchvision"] = SimpleNamespace(models=models)
    else:  # without its downloads
        models = importlib.import_module("torchvision").models
        for name in ("resnet34", "resnet101", "densenet121"):
            setattr(models, name, partial(gfm_untrained, getattr(models, name)))
    public, evaluate = (importlib.import_module(name) for name in ("gfm", "evaluate"))
    with mock.patch.object(Tensor, "cuda", lambda tensor: tensor):
        for backbone, mode in GFM_NETS:
            ours = gfm_filled(backbone, mode)
            theirs = public.GFM(SimpleNamespace(backbone=backbone, rosta=mode.upper())).eval()
            theirs.load_state_dict(to_gfm(ours), strict=True)
            sizes = {"64 x 96": (64, 96)} | ({"320 x 320": (320, 320)} if backbone == "r34" else {})
            for what, size in sizes.items():
                image = picture(*size) if what == "64 x 96" else picture(*size).float()
                maps, wanted = gfm_maps(ours, image), gfm_public(theirs, image, mode)
                found, expected = gfm_sure(maps, wanted), gfm_sure(wanted, wanted)
                for name in expected:
                    keep = what == "64 x 96" and name in GFM_KEPT.get((backbone, mode), ())
                    line = f"{backbone}, {mode}, {what}, {name}"
                    yield Compared(line, found[name], expected[name], keep)
            if backbone == "r34":
                batch = {
                    key: value[:1].float() for key, value in PARITY["scenes"](64).items() if value.is_floating_point()
                }
                batch["semantic"] = PARITY["scenes"](64)["semantic"][:1]
                with torch.no_grad():
                    loss = sum(GFMLoss(protocol="release")(ours(batch["image"]), batch).values())
                maps = gfm_public(theirs, batch["image"], mode)
                wanted = gfm_public_loss(evaluate, maps, batch)
                yield Compared(f"{backbone}, {mode}, loss, relative", loss[None] / wanted, torch.ones(1), False)


def gfm_untrained(make: Callable[[], nn.Module], pretrained: bool) -> nn.Module:
    return make()


def gfm_public(net: nn.Module, image: Tensor, mode: str) -> dict[str, Tensor]:
    with torch.no_grad():
        found = net.to(image.dtype)(255 * image)
    net.float()
    branches = dict(zip(("tt", "ft", "bt"), found, strict=False)) if mode == "rim" else {mode: found}
    named = {
        f"{part}_{branch}": value
        for branch, values in branches.items()
        for part, value in zip(("glance", "focus", "fused"), values, strict=True)
    }
    return named | ({"final": found[3]} if mode == "rim" else {})


def gfm_public_loss(evaluate: ModuleType, maps: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    """What train() in core/train.py calls, with the targets of each branch that its fusion rule asks for."""
    trimap, mask = torch.tensor((0.0, 128.0, 255.0))[batch["semantic"]], 255 * batch["alpha"]
    ori, fg, bg = (255 * batch[name] for name in ("image", "foreground", "background"))
    eroded, dilated = 255 * (trimap == 255).float(), 255 * (trimap > 0).float()
    targets = {"tt": (3, trimap, mask), "ft": (2, eroded, mask - eroded), "bt": (2, dilated, dilated - mask)}

    def whole(matte: Tensor) -> Tensor:
        alpha = evaluate.get_alpha_loss_whole_img(matte, mask) + evaluate.get_laplacian_loss_whole_img(matte, mask)
        return alpha + evaluate.get_composition_loss_whole_img(ori, mask, fg, bg, matte)

    terms = []
    for branch, (count, classes, target) in targets.items():
        if f"glance_{branch}" in maps:
            glance, focus, fused = (maps[f"{part}_{branch}"] for part in ("glance", "focus", "fused"))
            terms += [evaluate.get_crossentropy_loss(count, classes, glance), whole(fused)]
            terms += [
                evaluate.get_alpha_loss(focus, target, trimap),
                evaluate.get_laplacian_loss(focus, target, trimap),
            ]
    return sum(terms) + whole(maps["final"]) if "final" in maps else 0.25 * sum(terms)


class GfmResNet(ResNet):
    """A ResNet with all that torchvision's has."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.maxpool = self.pool
        self.fc = nn.Linear(self.channels[-1], 1000)


class GfmDenseNet(DenseNet):
    """A DenseNet with all that torchvision's has."""

    def __init__(self) -> None:
        super().__init__("densenet121")
        self.classifier = nn.Linear(self.channels[-1], 1000)


# SHM: github.com/tsing90/pytorch_semantic_human_matting

SHM_RUNS = {  # trimap, colours, order, sides
    "imagenet, 320 x 320": ("predicted", "imagenet", "unknown_foreground", 320, 320),
    "bgr, 96 x 160": ("predicted", "bgr", "unknown_foreground", 96, 160),
    "float64": ("predicted", "bgr", "unknown_foreground", 64, 96),
    "matting network, float64": ("given", "bgr", "foreground_unknown", 64, 96),
}


def shm_filled(run: str) -> nn.Module:
    trimap, colours, order, *_ = SHM_RUNS[run]
    net = fill(SHM(trimap=trimap, colours=colours, order=order))
    for block in net.modules():
        if isinstance(block, Bottleneck):
            block.bn3.weight.data *= 0.3  # or each of the sixteen residual blocks doubles the variance
    net.semantic.head.weight.data *= 0.3  # or one class is certain everywhere
    return net.eval()


def shm_picture(run: str) -> Tensor:
    """A picture, and the trimap where it is given; float32 unless the run's name says other."""
    trimap, _, _, *size = SHM_RUNS[run]
    image = dim_picture(*size) if trimap == "given" else picture(*size)
    return image if "float64" in run else image.float()


def shm_maps(net: nn.Module, image: Tensor) -> Tensor:
    """The classes' logits where there are any, and the matte before it is cut to [0, 1]."""
    with torch.no_grad():
        found = net.to(image.dtype)(image)
    logits = [] if found.semantic is None else [found.semantic]
    return torch.cat((*logits, found.parts["alpha"]), dim=1)


def shm_batch() -> dict[str, Tensor]:
    """A matte and its layers, and classes cut from it."""
    image = dim_picture(64, 96)
    return dim_layers(image) | {"semantic": (2 * image[:, 3:]).long()}


def shm(checkout: Path) -> Iterator[Compared]:
    sys.path.insert(0, str(checkout))
    if importlib.util.find_spec("torchvision") is None:  # whose encoders this network does without
        names = ["torchvision", "torchvision.models", *(f"torchvision.models.{kind}" for kind in SHM_UNUSED)]
        sys.modules.update({name: ModuleType(name) for name in names})
        for kind, makers in SHM_UNUSED.items():
            sys.modules[f"torchvision.models.{kind}"].__dict__.update(dict.fromkeys(makers))
    extractors, network = (importlib.import_module(f"model.{name}") for name in ("extractors", "network"))
    untrained = extractors.ResNet(extractors.Bottleneck, [3, 4, 6, 3])
    for run, (trimap, colours, *_) in SHM_RUNS.items():
        ours, image = shm_filled(run), shm_picture(run)
        with mock.patch.object(extractors, "resnet50", return_value=untrained):
            theirs = (network.net_M if trimap == "given" else network.net_F)().eval()
        weights, names = ours.state_dict(), shm_names(ours.state_dict())
        own = {
            names[key]: value for key, value in weights.items() if trimap == "predicted" or key.startswith("matting")
        }
        left = theirs.load_state_dict(own, strict=False)
        if left.unexpected_keys or any("classifier" not in key for key in left.missing_keys):
            raise SystemExit(f"the names are not the public code's: {left}")
        yield Compared(run, shm_maps(ours, image), shm_public(theirs, image, colours), run != "imagenet, 320 x 320")
    batch = shm_batch()
    logits, alpha = 8 * batch["foreground"] - 4, 1.5 * batch["background"][:, :1]
    loss = sum(SHMLoss()(Prediction(logits, alpha, alpha, {"alpha": alpha}), batch).values())
    yield Compared("loss", loss[None], shm_public_loss(checkout, logits, alpha, batch)[None])


# What the public code imports from torchvision and does not need here.
SHM_UNUSED = {"densenet": ("densenet121", "densenet161"), "squeezenet": ("squeezenet1_1",)}


def shm_public(net: nn.Module, image: Tensor, colours: str) -> Tensor:
    seen = image[:, :3].flip(1) if colours == "bgr" else normalised(image[:, :3])
    net.to(image.dtype)
    with torch.no_grad():
        if image.shape[1] == 4:  # the trimap as classes: background, unknown, foreground
            classes = F.one_hot((2 * image[:, 3]).long(), 3).permute(0, 3, 1, 2).to(image)
            return net(seen, classes)
        return torch.cat(net(seen), dim=1)


def shm_public_loss(checkout: Path, logits: Tensor, alpha: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Of train.py, which imports its own loaders; with the smoothing of Deep Image Matting, 1e-6 before the square."""
    tree = ast.parse((checkout / "train.py").read_text().replace("eps = 1e-6", "eps = 1e-12"))
    own = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "loss_function"]
    scope = {"torch": torch, "nn": nn}
    exec(compile(ast.Module(own, []), "train.py", "exec"), scope)
    layers = batch["image"], logits, batch["semantic"], alpha, batch["alpha"], batch["background"], batch["foreground"]
    return scope["loss_function"](*layers)[0]


# A new one joins with its line here.
METHODS: dict[str, Callable[[Path], Iterator[Compared]]] = {"dim": dim, "gfm": gfm, "shm": shm, "u2net": u2net}


def revision(checkout: Path) -> str:
    """Of the checkout, and whether it is as committed."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True).stdout.strip()

    if not (checkout / ".git").exists():
        return "of unknown revision"
    return git("rev-parse", "HEAD") + (", with changes" if git("status", "--porcelain") else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--write", type=Path, metavar="GOLDEN.json")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # public code uses functions that PyTorch has renamed since

    print(f"{given.method} {revision(given.checkout)}; torch {torch.__version__}; {torch.get_num_threads()} threads\n")
    print(f"{'':58} {'difference':>10} {'tolerance':>9}")
    good, golden = True, {}
    for compared in METHODS[given.method](given.checkout):
        good &= compared.good
        verdict = "ok" if compared.good else "OUT"
        allowed = "" if compared.tolerance is None else f"{compared.tolerance:9.0e} {verdict}"
        print(f"{compared.what:58} {compared.difference:10.2g} {allowed}", flush=True)
        if compared.keep:
            golden[compared.what] = sampled(compared.theirs)
    if given.write:
        command = f"python benchmarks/methods.py {given.method} CHECKOUT --write {given.write}"
        head = {"command": command, "revision": revision(given.checkout), "torch": torch.__version__}
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in (head | golden).items()]
        given.write.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
