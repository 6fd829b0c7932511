"""`python -m aimmat.prepare replay`: training samples of a run made again, exactly as the network saw them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import chdir
from datetime import datetime
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track
from torch.utils.data import default_collate

from aimmat.data import Key
from aimmat.data.facts import listening
from aimmat.data.records import RECORD, SampleRecord, entries_of, fingerprint, read_records, versions
from aimmat.functional import draw_rssn
from aimmat.schema import AimmatError, Batch, Category, ImageType
from aimmat.tables import write_file

if TYPE_CHECKING:
    from aimmat.lit import MattingDataModule

LAYERS = ("image", "alpha", "semantic", "foreground", "background")


def register(verbs: argparse._SubParsersAction) -> None:
    """Add the verb to the command."""
    verb = verbs.add_parser("replay", help="training samples of a run again: a sheet and the recipe of each")
    verb.add_argument("--run", dest="folder", type=Path, required=True, help="the run's folder")
    verb.add_argument("--stage", default="matting", help="%(default)s")
    verb.add_argument("--step", type=int, help="what this step of the optimiser learnt from; 0 is the first, as logged")
    verb.add_argument("--epoch", type=int, help="0 is the first; with --sample or --name")
    verb.add_argument("--sample", type=int, help="number of the sample in the data set")
    verb.add_argument("--name", help="name of the sample: slow, draws the epoch's samples until it comes")
    verb.add_argument("-o", "--output", type=Path, help="where the PNG and the JSON go (RUN/replay)")
    verb.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Write the sheet and the recipes."""
    by_step = given.step is not None and given.epoch is given.sample is given.name is None
    by_sample = given.step is None and given.epoch is not None and (given.sample is None) != (given.name is None)
    if not by_step and not by_sample:
        raise AimmatError("give either --step N, or --epoch E with one of --sample I and --name NAME")
    if by_step:
        found, name = replay_step(given.folder, given.step, given.stage), f"step{given.step:06d}"
    else:
        found = replay_sample(given.folder, given.epoch, given.sample, given.name, given.stage)
        name = f"epoch{given.epoch}-sample{found[0].recipes[0]['index']}"
    output = (given.output or given.folder / "replay") / f"{given.stage}-{name}"
    recipes = [recipe for batch in found for recipe in batch.recipes]
    page = sheet(found)
    write_file(output.with_suffix(".json"), json.dumps(recipes, indent=1, default=str))
    page.save(output.with_suffix(".png"))
    for note in dict.fromkeys(note for batch in found for note in batch.notes):
        print(f"note: {note}")
    print(f"{output}.png: {len(recipes)} samples; {output.name}.json: their recipes")


class Replayed(NamedTuple):
    """A batch as the network saw it."""

    batch: Batch
    recipes: list[dict[str, Any]]  # of each sample: files, epoch, index, seed, what RSSN did, ...
    notes: list[str]  # sentences on what may make it another one


def replay_step(folder: str | Path, step: int, stage: str = "matting") -> list[Replayed]:
    """What a step of the optimiser learnt from.

    Args:
        folder: of the run.
        step: 0 is the first, as the logs count.
        stage: of the run.

    Returns:
        The batches of the step: those that were accumulated, of one process after the other.

    Raises:
        AimmatError: no such run, stage or step, or the data set is not the run's any more.
    """
    records = _records(Path(folder), stage)
    record = next((found for found in reversed(records) if found.step <= step), None)
    if step < 0 or record is None:
        raise AimmatError(f"the steps of stage {stage} are counted from {records[0].step}, got {step}")
    epoch, numbers = record.place(step)
    if 0 <= record.epochs <= epoch:
        last = record.step_of(record.epochs - 1, record.batches - 1)
        raise AimmatError(f"the last step of stage {stage} is {last}, got {step}")
    data, notes = _data(record)
    return [
        _replay(data, record, keys, {"step": step, "process": process, "batch": number}, notes)
        for process, number, keys in _shown(data, record, epoch)
        if number in numbers
    ]


def replay_sample(
    folder: str | Path, epoch: int, sample: int | None = None, name: str | None = None, stage: str = "matting"
) -> list[Replayed]:
    """Samples of an epoch, each as a batch of its own.

    Args:
        folder: of the run.
        epoch: 0 is the first.
        sample: number in the data set.
        name: in place of the number; several samples of an epoch may share one.
        stage: of the run.

    Returns:
        A batch of one for each sample.

    Raises:
        AimmatError: no such run, stage or sample, or the data set is not the run's any more.
    """
    records = _records(Path(folder), stage)
    record = next((found for found in reversed(records) if found.epoch <= epoch), records[0])
    if epoch < record.epoch or 0 <= record.epochs <= epoch:
        raise AimmatError(f"stage {stage} has the epochs {records[0].epoch} to {record.epochs - 1}, got {epoch}")
    data, notes = _data(record)
    length = len(data.train)  # type: ignore[arg-type]
    if name is not None:
        indices = [i for i in track(range(length), "drawing samples") if data.train[Key(epoch, i)]["name"] == name]
        if not indices:
            raise AimmatError(f"no sample of epoch {epoch} is called {name!r}; names join those of the files with a +")
    elif sample is not None and 0 <= sample < length:
        indices = [sample]
    else:
        raise AimmatError(f"samples are numbered 0 to {length - 1}, got {sample}")
    found = []
    for process, number, keys in _shown(data, record, epoch):
        place = {"step": record.step_of(epoch, number), "process": process, "batch": number}
        found += [_replay(data, record, [key], place, notes) for key in keys if key.sample in indices]
    return found


def sheet(found: Sequence[Replayed], tile: int = 128) -> Image.Image:
    """Each sample in a row: image, alpha, target of the semantic decoder, foreground, background; what was drawn below.

    Args:
        found: batches.
        tile: side of a picture, pixels.
    """
    font = ImageFont.load_default(size=11)
    rows = [(batch.batch, i, recipe) for batch in found for i, recipe in enumerate(batch.recipes)]
    columns = max(1, round((len(rows) / len(LAYERS)) ** 0.5))
    width, height = len(LAYERS) * tile + 8, tile + 34
    page = Image.new("RGB", (columns * width, -(-len(rows) // columns) * height), "white")
    draw = ImageDraw.Draw(page)
    for number, (batch, i, recipe) in enumerate(rows):
        left, top = number % columns * width, number // columns * height
        for part, layer in enumerate(LAYERS):
            page.paste(_picture(batch[layer][i]).resize((tile, tile)), (left + part * tile, top))  # type: ignore[literal-required]
        place = ", ".join(f"{key} {recipe[key]}" for key in ("epoch", "process", "batch", "index") if key in recipe)
        draw.text((left + 2, top + tile + 1), f"{place}: {recipe['name']}"[:110], "black", font)
        draw.text((left + 2, top + tile + 16), _words(recipe)[:110], "black", font)
    return page


def _records(folder: Path, stage: str) -> list[SampleRecord]:
    path = folder / stage / RECORD
    if not path.is_file():
        stages = sorted(found.parent.name for found in folder.glob(f"*/{RECORD}"))
        if stages:
            raise AimmatError(f"stage {stage} has not trained in {folder}; give --stage {' or '.join(stages)}")
        raise AimmatError(f"{folder} is not the folder of a run that has trained: it has no {stage}/{RECORD}")
    return read_records(path)


def _data(record: SampleRecord) -> tuple[MattingDataModule, list[str]]:
    """The run's data, and what may make its samples others than they were."""
    from hydra.utils import instantiate

    with chdir(record.folder if Path(record.folder).is_dir() else "."):
        data: MattingDataModule = instantiate({**record.data, "val": None, "test": None})
    if fingerprint(entries_of(data.train)) != record.manifest:
        raise AimmatError(
            "the data set lists other files, types or another order than when the run was made, so its samples cannot "
            "be made again; put its manifest or folder back as it was"
        )
    notes = []
    if changed := {name: was for name, was in record.versions.items() if versions().get(name) != was}:
        was, now = (", ".join(f"{n} {known.get(n)}" for n in changed) for known in (record.versions, versions()))
        notes.append(f"the run used {was}, this is {now}: samples may differ a little")
    if record.device != _device(record).type:
        notes.append(f"the run drew blur and noise on {record.device}, which is missing here: they are others on cpu")
    return data, notes


def _device(record: SampleRecord) -> torch.device:
    missing = record.device == "cuda" and not torch.cuda.is_available()
    return torch.device("cpu" if missing else record.device)


def _shown(data: MattingDataModule, record: SampleRecord, epoch: int) -> Iterator[tuple[int, int, list[Key]]]:
    """Every batch of an epoch: its process, its number, its samples."""
    for process in range(record.processes):
        batches = data.batches(process, record.processes, record.accumulate)
        batches.sampler.set_epoch(epoch)
        for number, keys in enumerate(batches):
            if batches.share(number):  # else a process that had no sample left
                yield process, number, keys


def _replay(
    data: MattingDataModule, record: SampleRecord, keys: Sequence[Key], place: dict[str, int], notes: list[str]
) -> Replayed:
    samples, facts = [], []
    for key in keys:
        with listening() as told:
            samples.append(data.train[key])
        facts.append({name: fact for name, fact in told.items() if fact is not None})
    device = _device(record)
    layers = {
        name: part.to(device) if torch.is_tensor(part) else part for name, part in default_collate(samples).items()
    }
    batch = data.compose(layers, augment=True)
    options = getattr(data.compose, "keywords", {}).get("rssn_options") or {}
    known = signature(draw_rssn).parameters
    generators = [torch.Generator(device).manual_seed(int(seed)) for seed in layers["seed"]]
    treatments = draw_rssn(
        layers["type"],
        generators,
        scale=layers["scale"],
        **{name: value for name, value in options.items() if name in known},
    )
    recipes = []
    for key, sample, told, treatment in zip(keys, samples, facts, treatments, strict=True):
        recipe = {**place, "epoch": key.epoch, "index": key.sample, "name": sample["name"], "made_of": told}
        recipe |= {"type": list(ImageType)[sample["type"]], "category": list(Category)[sample["category"]]}
        recipe |= {"scale": float(sample["scale"]), "seed": sample["seed"], "device": device.type}
        recipe |= {"skipped": sample["skipped"]} if sample.get("skipped") else {}  # `data.on_error=skip`
        drawn = treatment._asdict()
        del drawn["denoise"]  # `compose` has no layers without their noise to take
        recipes.append(recipe | {"rssn": drawn})
    return Replayed(batch, recipes, [*notes, *_later(facts, record.time)])


def _later(facts: Sequence[dict[str, object]], time: float) -> list[str]:
    """The files that changed after a run was made."""
    when = datetime.fromtimestamp(time).isoformat(" ", "minutes")
    files = sorted({fact for told in facts for fact in told.values() if isinstance(fact, Path)})
    return [
        f"{file} changed after the run was made, {when}: the network may have seen another picture"
        for file in files
        if file.is_file() and file.stat().st_mtime > time
    ]


def _picture(layer: torch.Tensor) -> Image.Image:
    values = layer.float() / 2 if layer.dtype == torch.long else layer
    grey = values.mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(np.broadcast_to(grey, (*grey.shape[:2], 3)).copy())


def _words(recipe: dict[str, Any]) -> str:
    drawn = recipe["rssn"]
    parts = [f"{recipe['type']} {recipe['category']}", f"scale {recipe['scale']:.3g}"]
    parts += [f"{drawn['resample']} resampled"] * bool(drawn["resample"])
    parts += [f"background blurred by {drawn['blur']:.3g} px"] * bool(drawn["blur"]) + ["noise"] * drawn["noise"]
    return ", ".join(parts)
