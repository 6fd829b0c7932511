"""Networks to and from disk: our safetensors files, a run's Lightning checkpoints, and a run's folder."""

from __future__ import annotations

import json
import os
import pickle
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from aimmat import models
from aimmat.schema import AimmatError

Card = dict[str, Any]


def save_network(path: str | PathLike[str], net: nn.Module, card: Card) -> None:
    """Write a network's weights and its card into one safetensors file, whole or not at all.

    Args:
        path: the file to write, by custom `model.safetensors`; its folder is made if missing.
        net: the network; a compiled one is saved as the plain one.
        card: plain JSON values. `card["model"]` must be {"name": ..., **switches}, what `models.build` takes;
            `card["inference"]`, if there, {"name": "hybrid", ...}, what `inference.build_strategy` takes;
            everything else is kept as it is.

    Raises:
        AimmatError: the file cannot be written.
        ValueError: the card has no model name or holds something that JSON cannot.
    """
    if not isinstance(card.get("model"), dict) or "name" not in card["model"]:
        raise ValueError(f'card["model"] must be {{"name": ..., **switches}}, got {card.get("model")!r}')
    try:
        metadata = {"format": "pt", "aimmat": json.dumps(card, allow_nan=False)}
    except (TypeError, ValueError) as error:
        raise ValueError(f"a card holds plain JSON values only: {error}") from error
    weights = {name: value.detach().cpu().contiguous() for name, value in _plain(net.state_dict()).items()}
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(safetensors.torch.save(weights, metadata))
        partial.replace(path)
    except OSError as error:
        raise AimmatError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def load_network(path: str | PathLike[str]) -> tuple[nn.Module, Card]:
    """Rebuild a trained network from a file or from a run's folder.

    Args:
        path: a `.safetensors` file of `save_network`; a Lightning checkpoint of a run, whose hyper-parameters hold
            "model" and whose weights are named "net.*"; or a run's folder, which stands for the `model.safetensors`
            in it, else for its newest `<stage>/checkpoints/last.ckpt`.

    Returns:
        The network on the CPU in evaluation mode, and its card (of a checkpoint: its hyper-parameters).

    Raises:
        AimmatError: there is no such file, it is no checkpoint of ours, or its weights do not fit the network
            that it names.
    """
    path = _resolve(Path(path))
    weights, card = _read_safetensors(path) if path.suffix == ".safetensors" else _read_lightning(path)
    model = card.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("name"), str):
        raise AimmatError(f"{path} does not say which network it holds; it must be written by an aimmat run")
    net = models.build(**model)
    _check_fit(path, model["name"], net.state_dict(), weights)
    net.load_state_dict(weights)
    return net.eval(), card


def _resolve(path: Path) -> Path:
    """Find the file that a path stands for."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise AimmatError(f"cannot load {path}: no such file or folder")
    if (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    last = [file for pattern in ("", "*/") for file in path.glob(f"{pattern}checkpoints/last.ckpt") if file.is_file()]
    if last:
        return max(last, key=lambda file: file.stat().st_mtime)
    names = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
    found = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"
    raise AimmatError(
        f"cannot load {path}: a run's folder holds model.safetensors or <stage>/checkpoints/last.ckpt, "
        f"here lies {found}; give the path of a checkpoint file"
    )


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Card]:
    try:
        with safe_open(path, "pt") as file:
            card = (file.metadata() or {}).get("aimmat")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
    except (SafetensorError, OSError) as error:
        raise AimmatError(f"cannot load {path}: it is truncated or no safetensors file ({error})") from error
    if card is None:
        raise AimmatError(f"cannot load {path}: it holds weights but no aimmat card that names their network")
    return weights, json.loads(card)


def _read_lightning(path: Path) -> tuple[dict[str, Tensor], Card]:
    if not is_zipfile(path):
        raise AimmatError(f"cannot load {path}: it is truncated or no checkpoint (torch.save writes a zip archive)")
    try:
        # Mapped, not read: two thirds of the file are the optimiser's and never touched.
        content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise AimmatError(
            f"cannot load {path}: it holds pickled Python objects, which are not executed; "
            f"give a checkpoint that holds tensors and plain values only"
        ) from error
    except Exception as error:  # whatever a damaged archive leads torch to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise AimmatError(f"cannot load {path}: it is damaged or no checkpoint ({reason[:120]})") from error
    if not isinstance(content, dict) or not {"state_dict", "hyper_parameters"} <= content.keys():
        raise AimmatError(f"cannot load {path}: it lacks the state_dict and hyper_parameters of a run's checkpoint")
    weights = {name[4:]: value for name, value in content["state_dict"].items() if name.startswith("net.")}
    return _plain(weights), dict(content["hyper_parameters"])


def _plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without the mark that torch.compile puts into them."""
    return {name.replace("_orig_mod.", ""): value for name, value in weights.items()}


def _check_fit(path: Path, name: str, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Refuse weights that are missing, left over or of another shape than the network's."""
    wrong = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & found.keys()
        if found[key].shape != expected[key].shape
    ]
    faults = {
        "missing": sorted(expected.keys() - found.keys()),
        "not in the network": sorted(found.keys() - expected.keys()),
        "of another shape": sorted(wrong),
    }
    said = [
        f"{len(keys)} {fault} ({', '.join(keys[:3])}{', ...' * (len(keys) > 3)})"
        for fault, keys in faults.items()
        if keys
    ]
    if said:
        raise AimmatError(
            f"the weights in {path} do not fit the network {name} with the switches stated there: {'; '.join(said)}"
        )
