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
# # The generalised trimap and RSSN, seen
#
# A *matte* (alpha) says of every pixel how much of it is foreground, from 0 to 1. A *trimap* says less: surely
# background, surely foreground, or *transition*, where alpha must be estimated. A network that needs no trimap from its
# user predicts one itself, so somebody has to say what it should predict. The paper (section 3.2) answers by the type
# of the picture:
#
# | type | what it is | target | classes |
# | :-- | :-- | :-- | :-- |
# | SO | salient opaque: an animal, a chair | trimap | background, transition, foreground |
# | STM | salient transparent or meticulous: a glass, a net | duomap | background, transition |
# | NS | non-salient: smoke, raindrops | unimap | transition |
#
# Every picture below is of the sample set that comes with `aimmat`.

# %%
from collections import Counter

import matplotlib.pyplot as plt
import torch
from torch.utils.data import default_collate

from aimmat.data import CutoutScenes, SceneDataset, read_manifest
from aimmat.functional import box_blur, composite, draw_rssn, generalise, rssn, trimap_from_alpha
from aimmat.schema import ImageType

# %% [markdown]
# ## Scenes
#
# A scene comes in layers of 8 bits: foreground, alpha, background. One of each type:

# %%
names = ("fur_110", "glass_06", "drops_107")  # in the order of ImageType: SO, STM, NS
scenes = SceneDataset(CutoutScenes(read_manifest(), "test", size=384), seed=3)
places = {entry.stem: place for place, entry in enumerate(scenes.source.foregrounds)}
layers = default_collate([scenes[places[name]] for name in names])
foreground, background, alpha = (layers[name].float() / 255 for name in ("foreground", "background", "alpha"))
types, image = layers["type"], composite(foreground, background, alpha)
layers["name"], list(image.shape)

# %% [markdown]
# ## From alpha to trimap
#
# The traditional trimap erodes what is opaque and what is clear; between them lies the transition. The width of the
# erosion is a choice: the paper names none, the released code takes 30 pixels on its photographs.


# %%
def show(axes, picture, title=""):
    """A matte, a class map or an RGB picture, (C, H, W), without axes."""
    white = 2 if picture.dtype == torch.int64 else 1
    axes.imshow(picture.permute(1, 2, 0).squeeze(-1), cmap="gray", vmin=0, vmax=white)
    axes.set_title(title, fontsize=10)
    axes.set(xticks=[], yticks=[])


kernels = (3, 12, 30)
figure, grid = plt.subplots(1, 5, figsize=(13, 3), layout="constrained")
show(grid[0], image[0], "image")
show(grid[1], alpha[0], "alpha")
for axes, kernel in zip(grid[2:], kernels, strict=True):
    trimap = trimap_from_alpha(alpha[:1], kernel)[0]
    show(axes, trimap, f"kernel {kernel}: {(trimap == 1).float().mean():.0%} transition")

# %% [markdown]
# ## Trimap, duomap, unimap
#
# Equation 1 makes the target $U$ of the traditional trimap $T$, whose pixels are 0 (background), 0.5 (transition) or 1
# (foreground):
#
# $$U = T \;\text{(SO)}, \qquad U = 1.5\,T - T^2 \;\text{(STM)}, \qquad U = 0.5 \;\text{(NS)}$$
#
# `generalise` does it on class indices 0, 1 and 2. Black is background, grey transition, white foreground.

# %%
trimap = trimap_from_alpha(alpha, kernel=12)
semantic = generalise(trimap, types)
figure, grid = plt.subplots(3, 4, figsize=(10, 7.8), layout="constrained")
for row, image_type, target in zip(grid, ImageType, ("trimap", "duomap", "unimap"), strict=True):
    i = image_type.number
    for axes, picture in zip(row, (image[i], alpha[i], trimap[i], semantic[i]), strict=True):
        show(axes, picture)
    row[0].set_ylabel(image_type)
    row[3].set_xlabel(f"{target}: classes {semantic[i].unique().tolist()}")
for axes, title in zip(grid[0], ("image", "alpha", "traditional trimap", "generalised trimap"), strict=True):
    axes.set_title(title)

# %% [markdown]
# The duomap is worth a look: the traditional trimap of a net or a glass has specks of "foreground" wherever alpha
# happens to reach 1 over a few pixels. No network could guess those, so the duomap makes them transition.
#
# The formula and `generalise` are the same:

# %%
half = trimap / 2
formula = torch.stack([half[0], 1.5 * half[1] - half[1] ** 2, torch.full_like(half[2], 0.5)])
assert torch.equal(formula, semantic / 2)

# %% [markdown]
# ## RSSN
#
# A cut-out pasted on a photograph looks pasted: the layers differ in resolution, sharpness and noise, and a network
# can learn to see the difference instead of the object. RSSN (Li et al., IJCV 2022) treats the layers before they are
# composited. What `rssn` may do to a sample, drawn from its generator:
#
# - send one layer through a lower resolution;
# - blur the background, as a lens out of focus does: half of the samples, and every NS one (the paper's type-wise
#   augmentation);
# - add one and the same noise to both layers;
# - take denoised layers, where there are any; the sample set has none.
#
# First the parts alone, strong enough to be seen:

# %%
i = ImageType.SO.number
part = slice(40, 240)
grain = 25 / 255 * torch.randn(foreground[i].shape, generator=torch.Generator().manual_seed(0))
blurred = composite(foreground, box_blur(background, [15] * 3), alpha)[i]
noisy = composite(foreground + grain, background + grain, alpha)[i].clamp(0, 1)
figure, grid = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
for axes, picture, title in zip(
    grid, (image[i], blurred, noisy), ("plain", "blurred background", "noise"), strict=True
):
    show(axes, picture[:, part, part], title)

# %% [markdown]
# Now as it is drawn. A generator a sample makes what is drawn depend on the sample alone, so a training sample can be
# made again. `scale` shrinks the blur with the picture: these scenes have about a quarter of a photograph's side.


# %%
def drawn(seed):
    """One generator for each of the three scenes."""
    return [torch.Generator().manual_seed(100 * seed + i) for i in range(3)]


def words(treatment):
    """What was done to a sample, for its title."""
    done = [f"blur {treatment.blur:.1f} px"] if treatment.blur else []
    done += [f"low resolution: {treatment.resample}"] if treatment.resample else []
    return ", ".join(done + ["noise"] * treatment.noise) or "nothing"


seeds = (1, 2, 3, 4)
figure, grid = plt.subplots(3, len(seeds), figsize=(12, 9.8), layout="constrained")
for column, seed in zip(grid.T, seeds, strict=True):
    images, _, _ = rssn(foreground, background, alpha, types, drawn(seed), scale=0.25)
    for axes, picture, treatment in zip(column, images, draw_rssn(types, drawn(seed), scale=0.25), strict=True):
        show(axes, picture, words(treatment))
for axes, image_type in zip(grid[:, 0], ImageType, strict=True):
    axes.set_ylabel(image_type)

# %% [markdown]
# How often each part comes, over a thousand samples of each type:

# %%
for image_type in ImageType:
    many = [torch.Generator().manual_seed(seed) for seed in range(1000)]
    treatments = draw_rssn(torch.full((1000,), image_type.number), many)
    counts = Counter(name for t in treatments for name in ("resample", "blur", "noise") if getattr(t, name))
    print(image_type, {name: f"{counts[name] / 1000:.0%}" for name in ("resample", "blur", "noise")})

# %% [markdown]
# The treatment comes before the composition, so image = alpha x foreground + (1 - alpha) x background holds for the
# layers that `rssn` returns. The composition loss needs that.

# %%
treated, treated_foreground, treated_background = rssn(foreground, background, alpha, types, drawn(1), scale=0.25)
assert torch.equal(treated, composite(treated_foreground, treated_background, alpha))
