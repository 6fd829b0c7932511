# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Measure anyone's mattes
#
# Whichever model made a matte, measuring it needs three files: the prediction, the truth and, for the figures of the
# transition, the data set's trimap. Five errors are usual, all of them lower is better:
#
# | error | what it is |
# | :-- | :-- |
# | SAD | sum of absolute differences, in thousands of pixels |
# | MSE, MAD | squared and absolute difference, a mean over pixels |
# | Grad | squared difference of the mattes' gradients, summed: lost or invented edges |
# | Conn | what hangs loose from the largest connected piece, summed: holes and islands |
#
# Two pieces of code stand behind most tables: that of the AIM release (`protocol="aim"`) and the MATLAB code of Deep
# Image Matting (`protocol="matlab"`). They do not agree, and this notebook shows where.

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

from aimmat import score
from aimmat.functional.metrics import measure
from aimmat.functional.trimap import trimap_from_alpha
from aimmat.images import read_alpha, read_trimap, write_alpha
from aimmat.metrics import MattingMetrics
from aimmat.schema import Category, ImageType
from aimmat.tables import read_rows

# %% [markdown]
# ## Files
#
# Two folders of PNGs whose files have the same names, and one of trimaps (0, 128, 255). Here they are drawn: four true
# mattes, and a prediction of each with a fault of its own. Put your folders in their place.

# %%
y, x = np.mgrid[-1:1:192j, -1:1:192j]
radius, angle = np.hypot(x, y), np.arctan2(y, x)
fur = np.clip(8 * (0.6 + 0.08 * np.sin(40 * angle) * np.cos(9 * angle) - radius), 0, 1)
glass = np.where(radius < 0.7, 0.25 + 0.5 * radius**2, 0)
smoke = 0.45 * (1 + np.sin(5 * x + 3 * y) * np.cos(4 * y - 2 * x))
truths = {"fur": fur, "glass": glass, "smoke": smoke, "ball": np.clip(10 * (0.6 - radius), 0, 1)}
predictions = {
    "fur": np.clip(8 * (0.6 - radius), 0, 1),  # the hairs are missing
    "glass": 0.8 * glass,  # too thin
    "smoke": 0.4 + 0.2 * smoke,  # washed out
    "ball": np.zeros_like(x),  # nothing was found
}
temporary = TemporaryDirectory()
folder = Path(temporary.name)
for name, truth in truths.items():
    for kind in ("predictions", "truth", "trimaps"):
        (folder / kind).mkdir(exist_ok=True)
    write_alpha(folder / "predictions" / f"{name}.png", predictions[name])
    write_alpha(folder / "truth" / f"{name}.png", truth)
    trimap = trimap_from_alpha(torch.from_numpy(truth)[None, None], kernel=12)[0, 0].numpy()
    Image.fromarray(np.array([0, 128, 255], np.uint8)[trimap]).save(folder / "trimaps" / f"{name}.png")

figure, grid = plt.subplots(3, 4, figsize=(10, 7.6), layout="constrained")
for column, name in zip(grid.T, truths, strict=True):
    column[0].set_title(name)
    for axes, kind in zip(column, ("truth", "predictions", "trimaps"), strict=True):
        axes.imshow(Image.open(folder / kind / f"{name}.png"), cmap="gray", vmin=0, vmax=255)
        axes.set(xticks=[], yticks=[])
for axes, kind in zip(grid[:, 0], ("truth", "prediction", "trimap"), strict=True):
    axes.set_ylabel(kind)

# %% [markdown]
# ## Two folders, one command
#
# In a shell: `python -m aimmat.score predictions truth --trimaps trimaps --protocol aim`. The same from Python; it
# writes `rows.csv`, a line an image, and the tables in Markdown and LaTeX.

# %%
rows = {}
for protocol in ("aim", "matlab"):
    folders = [str(folder / kind) for kind in ("predictions", "truth", "trimaps")]
    output = folder / f"scores_{protocol}"
    code = score.main([*folders[:2], "--trimaps", folders[2], "--protocol", protocol, "--jobs", "1", "-o", str(output)])
    assert code == 0
    rows[protocol] = {row.name: row.scores for row in read_rows(output / "rows.csv")}

# %% [markdown]
# ## Where the protocols part
#
# Whole picture, the same files, both protocols:

# %%
errors = ("sad", "mse", "grad", "conn")
print("       " + "".join(f"{error:>9} aim {'matlab':>8}" for error in errors))
for name in truths:
    pairs = [f"{rows['aim'][name][error]:13.4f} {rows['matlab'][name][error]:8.4f}" for error in errors]
    print(f"{name:7}" + "".join(pairs))

# %% [markdown]
# SAD and MSE are the same. Grad and Conn are not, and not by a factor that could be put right:
#
# - `fur`: both mattes reach 0 and 1, so Grad differs by its filter alone, a few per cent.
# - `glass`: the MATLAB code stretches each matte to its own range before it takes the gradient. A prediction of 0.8
#   times the truth becomes the truth, and its Grad is nearly 0.
# - `smoke`: washed out to a fifth of its contrast, a grave fault; stretching takes it away as well.
# - `ball`: nothing was found. At every level there is no pixel that both mattes reach; the AIM code then skips the
#   level and finds nothing loose, the MATLAB code counts the ball as lost.
#
# So a Grad or Conn of one table says nothing about one of the other. The stretching, seen:


# %%
def stretched(matte):
    """By its own minimum and maximum to [0, 1], as MATLAB's mat2gray does."""
    return (matte - matte.min()) / (matte.max() - matte.min())


figure, grid = plt.subplots(1, 2, figsize=(10, 3), layout="constrained", sharey=True)
for axes, change, title in zip(grid, (lambda matte: matte, stretched), ("as they are", "stretched"), strict=True):
    for matte, label in ((truths["smoke"], "truth"), (predictions["smoke"], "prediction")):
        axes.plot(change(matte)[96], label=label)
    axes.set(title=f"smoke, middle row, {title}", xlabel="pixel", ylabel="alpha")
grid[0].legend()
plt.show()

# %% [markdown]
# ## Which pixels
#
# The other thing to mix up. AIM and GFM print errors over the whole picture; benchmarks of trimap-based matting print
# them over the transition alone, where MSE is a mean over far fewer pixels. Outside its transition a trimap-based
# method is told the answer, a method without trimap is not:


# %%
def read(name):
    """Prediction, truth and trimap of one image as `measure` takes them: (1, 1, H, W)."""
    pred, alpha = (read_alpha(folder / kind / f"{name}.png") / 255 for kind in ("predictions", "truth"))
    trimap = read_trimap(folder / "trimaps" / f"{name}.png")
    return [torch.from_numpy(array)[None, None] for array in (pred, alpha, trimap)]


scores = {name: measure(*read(name), protocol="matlab") for name in truths}
regions = ("", "_transition", "_foreground", "_background")
for error in ("sad", "mse"):
    print(f"{error:6}" + "".join(f"{region.strip('_') or 'whole picture':>15}" for region in regions))
    for name in truths:
        print(f"{name:6}" + "".join(f"{scores[name][error + region].item():15.4f}" for region in regions))

# %% [markdown]
# `nan` is a mean over no pixel: `glass` and `smoke` have no foreground in their trimaps. Such a score is left out of
# averages; it is not 0.
#
# ## Averages
#
# `MattingMetrics` (a torchmetrics metric) measures batch by batch and averages over images, types and categories. A
# table may print the mean over images or the mean of the types' means: with 424 SO, 43 STM and 33 NS images in AIM-500
# these are far apart, so say which. A network in training is measured by the same class.

# %%
metric = MattingMetrics(protocol="aim")
kinds = {
    "fur": (ImageType.SO, Category.ANIMAL),
    "glass": (ImageType.STM, Category.TRANSPARENT),
    "smoke": (ImageType.NS, Category.OTHER),
    "ball": (ImageType.SO, Category.TOY),
}
for name, (image_type, category) in kinds.items():
    metric.update(*read(name), torch.tensor([image_type.number]), torch.tensor([category.number]))
averages = metric.compute()
for key in ("sad", "sad/type/SO", "sad/type/STM", "sad/type/NS", "sad/type/avg", "sad_transition"):
    print(f"{key:15} {averages[key].item():7.3f}")

# %% [markdown]
# ## Before you print a figure
#
# - Name the protocol, the pixels (whole picture or transition) and the average.
# - Compare Grad and Conn within one protocol only.
# - For `matlab`, round predictions to 8 bits first, as saved PNGs are.
# - Take the data set's trimaps: regions made from the truth, as here, give other figures.
# - Predictions of another size than the truth are refused; `--resize` brings them to it, and the table says so.
#
# The rules of both protocols side by side, and who printed what: [docs/metrics.md](../docs/metrics.md).

# %%
temporary.cleanup()
