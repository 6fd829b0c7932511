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
# # Read, compare and plot runs
#
# A run is a folder. Its test leaves `rows.csv` there, a line an image: every error, type and category. All that follows
# is made of such files, so it needs no network, no GPU and no W&B.
#
# Training takes longer than reading, so the two runs compared here are made up from the truth: `blurred` finds every
# object and loses its fine structure, `patchy` keeps the fine structure and misses a part of some objects. **Their
# figures mean nothing.** With runs of your own, skip to "Read" and give their folders.

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown
from torch.utils.data import default_collate

from aimmat.data import CutoutScenes, SceneDataset, read_manifest
from aimmat.functional import box_blur
from aimmat.functional.batches import compose
from aimmat.metrics import measure
from aimmat.schema import Category, ImageType, Row
from aimmat.tables import results_table, summarise, write_rows
from aimmat.tables.compare import blame, compare, limits, verdict
from aimmat.tables.runs import read_run

# %% [markdown]
# ## Two runs, made up

# %%
y, x = torch.meshgrid(torch.linspace(0, 1, 192), torch.linspace(0, 1, 192), indexing="ij")


def blurred(alpha, rng):
    """Every object found, its fine structure lost."""
    return box_blur(alpha, [rng.uniform(3, 15)])


def patchy(alpha, rng):
    """Nearly sharp, but three pictures in ten lack what lies inside a circle."""
    alpha = box_blur(alpha, [2])
    hole = torch.hypot(y - rng.uniform(0.3, 0.7), x - rng.uniform(0.3, 0.7)) < 0.2
    return alpha.masked_fill(hole, 0) if rng.random() < 0.3 else alpha


test = SceneDataset(CutoutScenes(read_manifest(), "test", size=192))
batches = [compose(default_collate([test[place]]), augment=False, trimap_kernel=6) for place in range(len(test))]
temporary = TemporaryDirectory()
folders = {}
for predict in (blurred, patchy):
    rng, rows = np.random.default_rng(0), []
    for batch in batches:
        scores = measure(predict(batch["alpha"], rng), batch["alpha"], batch["trimap"])
        kind = list(ImageType)[batch["type"]], list(Category)[batch["category"]]
        rows.append(Row(batch["name"][0], *kind, {name: score.item() for name, score in scores.items()}))
    folders[predict.__name__] = Path(temporary.name) / predict.__name__
    write_rows(folders[predict.__name__] / "rows.csv", rows)

# %% [markdown]
# ## Read
#
# `read_run` takes the folder of a training (`runs/demo/...`) or of `python -m aimmat.score`. A row holds the errors
# over the whole picture and over the regions of its trimap.

# %%
runs = [read_run(folder) for folder in folders.values()]
a, b = runs
for name, value in list(a.rows[0].scores.items())[:8]:
    print(f"{name:15} {value:.4f}")
a.rows[0].name, a.rows[0].type, a.rows[0].category, len(a.rows)

# %% [markdown]
# ## Table 2 of the paper, for any runs
#
# `results_table` refuses runs that were tested on different images. `.to_latex()` gives the same for a paper. In a
# shell `python -m aimmat.report RUNS... --table 2 -o DIR` puts them beside the paper's figures.

# %%
Markdown(results_table({run.name: run.rows for run in runs}).to_markdown())

# %% [markdown]
# `summarise` gives the numbers behind it by name: overall, by type, by category.

# %%
means = [summarise(run.rows) for run in runs]
kinds = [*ImageType, "avg"]
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for place, (run, mean) in enumerate(zip(runs, means, strict=True)):
    axes.bar(np.arange(len(kinds)) + 0.4 * place, [mean[f"sad/type/{kind}"] for kind in kinds], 0.38, label=run.name)
axes.set_xticks(np.arange(len(kinds)) + 0.2, kinds)
axes.set(ylabel="SAD, thousands of pixels", title="by type, and the mean of the types")
axes.legend(loc="upper left")
plt.show()

# %% [markdown]
# ## Is the difference more than chance?
#
# Both runs saw the same pictures, so they are compared picture by picture: each has a difference B - A, below 0 where
# B is better. `compare` gives the mean difference with an interval (bootstrap over pictures), Wilcoxon's test and the
# wins. It names a winner only if interval and test agree. In a shell, with thumbnails:
# `python -m aimmat.report A B --compare -o DIR`.

# %%
comparison = compare(a, b)
print(f"A = {a.name}, B = {b.name}")
for error, paired in comparison.errors.items():
    print(verdict(paired, error.upper()))

# %% [markdown]
# Here B is better on most pictures and far worse on a few, so of SAD nobody can say who won. Means hide which pictures
# they come from. A point below the diagonal is a picture on which B is better; the sorted differences show whether many
# small ones decide or few large ones.

# %%
first, second = (np.array([pair[place].scores["sad"] for pair in comparison.pictures]) for place in (0, 1))
types = np.array([row.type for row, _ in comparison.pictures])
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
left.axline((1, 1), slope=1, color="0.7", linewidth=1)
for image_type, marker in zip(ImageType, "o^s", strict=True):
    mine = types == image_type
    left.scatter(first[mine], second[mine], s=18, marker=marker, label=image_type)
left.set(
    xscale="log", yscale="log", xlabel=f"SAD of A, {a.name}", ylabel=f"SAD of B, {b.name}", title="a point a picture"
)
left.axis("equal")
left.legend()
right.bar(np.arange(len(first)), second - first, color=np.where(second < first, "tab:green", "tab:red"))
right.axhline((second - first).mean(), color="black", linewidth=1, linestyle="--", label="mean")
right.set(xlabel="pictures, sorted", ylabel="SAD, B - A", title="differences")
right.legend()
plt.show()

# %% [markdown]
# ## Which decoder is to blame?
#
# AimNet has two: the semantic decoder finds background, transition and foreground, the matting decoder fills the
# transition. So errors outside the true transition (the *known* pixels) are the first one's, those inside mostly the
# second one's.

# %%
print(blame(comparison.regions["all"]))
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
parts = {part: comparison.regions["all"][part] for part in ("transition", "known")}
start = np.zeros(2)
for part, paired in parts.items():
    height = np.array([paired.a, paired.b])
    axes.barh([a.name, b.name], height, left=start, label=f"{part} pixels")
    start += height
axes.invert_yaxis()
axes.set(xlabel="mean SAD, thousands of pixels", title="where the error lies")
figure.legend(loc="outside lower center", ncols=2)
plt.show()

# %% [markdown]
# The three pictures on which B gains and loses most:

# %%
for row, other in (*comparison.pictures[:3], *comparison.pictures[-3:]):
    print(f"{other.scores['sad'] - row.scores['sad']:+8.3f}  {row.type:4} {row.name}")

# %% [markdown]
# ## What this cannot show

# %%
for sentence in limits(comparison):
    print("-", sentence)
temporary.cleanup()
