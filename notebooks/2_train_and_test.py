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
# # Train and test
#
# One training from Python, small enough for a minute on one CPU core: a narrow AimNet, eighty steps on the pictures
# that come with `aimmat`, then the test on held-out ones. **It shows that everything works, not how good matting can
# be.** A network that has seen 640 composites has hardly begun. The demo (`python -m aimmat.train`, minutes) learns
# more; [docs/benchmarks.md](../docs/benchmarks.md) has its figures.

# %%
import csv
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
from hydra.utils import instantiate
from IPython.display import Image, Markdown
from omegaconf import OmegaConf

import aimmat
from aimmat.data import read_manifest
from aimmat.images import read_image
from aimmat.lit.constants import constant_rows
from aimmat.tables import read_rows, results_table
from aimmat.train import main

# %% [markdown]
# ## Settings
#
# Every setting is a Hydra config in [conf/](../conf). What would follow `python -m aimmat.train` in a shell is a list
# here; `python -m aimmat.train --cfg job` prints all that could stand in it.

# %%
temporary = TemporaryDirectory()
folder = Path(temporary.name) / "run"
arguments = [
    "experiment=demo",  # the sample set, a narrow network
    f"hydra.run.dir={folder}",
    "stages=[matting]",  # without the saliency stage before it
    "model.width=0.125",  # an eighth of the paper's channels
    "callbacks=default",  # no average of the weights: eighty steps are too few for one
    "trainer.max_epochs=1",
    "+trainer.limit_train_batches=80",
    "trainer.check_val_every_n_epoch=1",
    "trainer.log_every_n_steps=2",
    "+trainer.limit_val_batches=6",
    "+trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "data.num_workers=0",
    "data.train.input_size=96",  # pixels, what the network sees; the demo takes 128
    "data.test.source.size=192",  # the demo tests at 384
    "inference.semantic_scale=0.5",  # of the test's size: what the network has seen
    "inference.matting_scale=0.75",
    "data.compose.trimap_kernel=6",
    "logger=csv",
    "estimate=false",
    "constants=false",
]

# %% [markdown]
# ## Train, then test
#
# The command trains the stages one after the other, tests the last network and leaves a folder. In its table lower is
# better.

# %%
sys.argv = ["aimmat.train", *arguments]
assert main() == 0

# %% [markdown]
# The loss is the sum of six terms: one of the semantic decoder, two of the matting decoder, three of the fused alpha.
# It should fall; single steps are noisy, since every batch shows other pictures.

# %%
with (folder / "csv" / "metrics.csv").open() as file:
    lines = [line for line in csv.DictReader(file) if line["train/loss"]]
terms = [name for name in lines[0] if name.startswith("train/") and all(line[name] for line in lines)]
figure, axes = plt.subplots(figsize=(9, 3.5), layout="constrained")
for term in terms:
    axes.plot([int(line["step"]) for line in lines], [float(line[term]) for line in lines], label=term)
axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
figure.legend(loc="outside right")
plt.show()

# %% [markdown]
# ## Is it better than a constant?
#
# Whoever says 0.5 everywhere has a SAD too, and a network that does not beat the constants has learnt nothing. Look at
# each column: after eighty steps some of them are still the constants'. "mean of type" even knows the type and the mean
# alpha of the test pictures; "all 0" has a Conn of 0 because the error counts nothing where nothing is found.

# %%
rows = read_rows(folder / "rows.csv")
config = OmegaConf.load(folder / "config.yaml")
constants = constant_rows(instantiate(config.data))
Markdown(results_table({"AimNet, 80 steps": rows} | constants).to_markdown())

# %% [markdown]
# ## Look
#
# Figures hide what is wrong with a matte, so every test leaves a gallery: good, middling and bad pictures of each type,
# as PNG and as one HTML page. After so few steps the predicted trimap is a blob, without a foreground, and what the
# matting output sees is mostly contrast.

# %%
Image(filename=str(folder / "gallery.png"))

# %% [markdown]
# ## Use
#
# The folder is all that `aimmat.load` needs: weights with a card that says how they were tested. A photograph, which
# nobody ever cut out:

# %%
predictor = aimmat.load(folder, device="cpu")
photo = next(entry.path for entry in read_manifest() if entry.role == "photo")
matte = predictor(photo)
figure, grid = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
grid[0].imshow(read_image(photo))
grid[1].imshow(matte, cmap="gray", vmin=0, vmax=1)
for axes, title in zip(grid, (photo.stem, "alpha after 80 steps"), strict=True):
    axes.set(title=title, xticks=[], yticks=[])

# %% [markdown]
# ## What is there now

# %%
for path in sorted(folder.rglob("*")):
    if path.is_file():
        print(f"{path.stat().st_size:9,}  {path.relative_to(folder)}")
temporary.cleanup()
