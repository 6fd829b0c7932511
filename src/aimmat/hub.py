"""`python -m aimmat.hub push RUN ORG/NAME`: put a network on the Hugging Face Hub, with a page made from its run."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aimmat
from aimmat.console import guarded
from aimmat.schema import AimmatError
from aimmat.tables import read_rows, results_table, write_file
from aimmat.weights import read_network, save_network
from aimmat.weights.hub import FILE, hub, hub_name, why

PRIVATE = ("run", "source", "init")  # of a card: names of one's own folders


def push(run: Path, repo: str, *, private: bool = False, folder: Path | None = None) -> str:
    """Push a network, or write what would be pushed.

    Args:
        run: a run's folder, or a file of weights.
        repo: ORG/NAME, made if it is not there.
        private: the repository that is made is not public.
        folder: write there and push nothing; must not exist.

    Returns:
        One line that says where it is and how to load it.

    Raises:
        AimmatError: a name that is none, weights that cannot be read or have no licence, a folder that exists, the
            package missing, or the Hub refusing.
    """
    name = hub_name(repo)
    if name is None:
        raise AimmatError(f"a repository of the Hub is called ORG/NAME, got {repo!r}")
    if folder is not None:
        if folder.exists():
            raise AimmatError(f"{folder} exists; name a new folder")
        _write(run, name, folder)
        return f"{folder} holds what would be pushed as {name}"
    package = hub()
    with tempfile.TemporaryDirectory() as place:
        _write(run, name, Path(place))
        api = package.HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="aimmat")
        try:
            api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=place, commit_message=f"aimmat {aimmat.__version__}")
        except Exception as error:  # of the package, of the connection
            raise AimmatError(f"cannot push {name} to the Hugging Face Hub: {why(error)}") from error
    return f'{name} is pushed; aimmat.load("{name}") loads it'


def _write(run: Path, name: str, folder: Path) -> None:
    net, card, unused, *_ = read_network(run)
    if not card.get("licence"):
        raise AimmatError(f"the weights in {run} have no licence; train or convert them with one (licence=CC-BY-4.0)")
    card = {key: value for key, value in card.items() if key not in PRIVATE}
    recipe = card.get("recipe")
    if isinstance(recipe, dict):
        card["recipe"] = {key: value for key, value in recipe.items() if key not in PRIVATE}
    save_network(folder / FILE, net, card, unused)
    write_file(folder / "README.md", page(name, card, run))


def page(name: str, card: Mapping[str, Any], run: Path) -> str:
    """The repository's page, in the Hub's form: a head of YAML, then Markdown.

    Args:
        name: ORG/NAME.
        card: of the weights, see `weights.checkpoints`.
        run: the run's folder, whose rows.csv gives the tables.
    """
    model = card["model"]
    head = {
        "library_name": "aimmat",
        "pipeline_tag": "image-segmentation",
        "license": str(card["licence"]).lower().replace(" ", "-"),
        "tags": ["image-matting", "alpha-matte", "background-removal", model["name"]],
    }
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", "", f"# {name}", ""]
    lines += [
        "A network that predicts the alpha matte of whatever stands in front, from one photograph, without a trimap; "
        "trained with aimmat.",
        "",
        "```python",
        "import aimmat",
        "",
        f"predictor = aimmat.load(\"{name}\")  # pip install 'aimmat[hub]'",
        'matte = predictor("photo.jpg")  # (H, W) float32 in [0, 1]',
        'cutout = predictor.cutout("photo.jpg")  # (H, W, 4) uint8, RGBA',
        "```",
        "",
        "## Network",
        "",
        *(f"- {key}: {value}" for key, value in model.items()),
        "",
    ]
    if card.get("recipe"):
        lines += ["## Training", "", "```json", json.dumps(card["recipe"], indent=2), "```", ""]
    rows = run / "rows.csv"
    if rows.is_file():
        lines += ["## Test", "", results_table({model["name"]: read_rows(rows)}).to_markdown(), ""]
    lines += [
        "## Limits",
        "",
        "The figures are those of the pictures it was tested on. What it was not shown in training it may take for "
        "background, or the other way round; look at its mattes before you rely on them.",
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see `python -m aimmat.hub --help`."""
    parser = argparse.ArgumentParser(prog="python -m aimmat.hub", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("push", help="put a network on the Hub")
    verb.add_argument("run", metavar="RUN", type=Path, help="a run's folder, or a file of weights")
    verb.add_argument("repo", metavar="ORG/NAME", help="the repository, made if it is not there")
    verb.add_argument("--private", action="store_true", help="a repository that is made is not public")
    verb.add_argument("--folder", metavar="DIR", type=Path, help="write what would be pushed there, and push nothing")
    given = parser.parse_args(arguments)
    return guarded(lambda: print(push(given.run, given.repo, private=given.private, folder=given.folder)))


if __name__ == "__main__":
    sys.exit(main())
