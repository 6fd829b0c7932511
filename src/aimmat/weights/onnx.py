"""ONNX files, run as networks: anybody's, and those of `python -m aimmat.export` with all parts of theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aimmat import models
from aimmat.models.layers import Network
from aimmat.models.onnx import CARD, line, open_session
from aimmat.schema import AimmatError, Prediction, Protocol
from aimmat.weights.files import Card

AS_IT_IS = {"name": "resize", "scale": 1, "max_side": 10**6}  # the strategy for a file that has its own inside


class ExportedNetwork(Network):
    """What an exported file computes, with the parts that its network has.

    Args:
        session: ONNX Runtime's.
        path: the file, for messages.
        card: of the file; its `export` says what is inside.
    """

    trainable = False

    def __init__(self, session: Any, path: Path, card: Card) -> None:
        super().__init__()
        self.session, self.path, self.names = session, path, list(card["export"]["outputs"])
        self.picture = tuple(card["export"]["size"] or ()) or None  # the only size that it takes
        self.stride = 1 if self.picture else card["export"]["multiple"]
        self.input_channels = session.get_inputs()[0].shape[1]

    def forward(self, image: Tensor) -> Prediction:
        """Run the file.

        Args:
            image: (B, C, H, W) in [0, 1]; H and W multiples of the stride. A file for one size is shown the picture
                at that size, and its maps are brought back.

        Returns:
            The maps that the file gives, float32 on the image's device.

        Raises:
            AimmatError: ONNX Runtime fails, most often for want of memory.
        """
        self.check(image)
        size = image.shape[-2:]
        shown = image.float() if self.picture is None else _resized(image.float(), self.picture)
        try:
            found = self.session.run(self.names, {"image": shown.cpu().numpy()})
        except Exception as error:  # ONNX Runtime has no common type of its own
            raise AimmatError(f"{self.path} cannot be run on {tuple(shown.shape)}: {line(error)}") from error
        maps = {name: torch.from_numpy(value) for name, value in zip(self.names, found, strict=True)}
        if self.picture is not None:
            if "semantic" in maps:
                maps["semantic"] = maps["semantic"].log_softmax(dim=1)  # between logits there is no pixel to find
            maps = {name: _resized(value, size) for name, value in maps.items()}
        maps = {name: value.to(image.device) for name, value in maps.items()}
        return Prediction(maps.get("semantic"), maps.get("matting"), maps["alpha"])


def load_onnx(path: Path, protocol: Protocol | None, switches: Mapping[str, Any]) -> tuple[Network, Card]:
    """A network from an ONNX file.

    Args:
        path: a file of `python -m aimmat.export onnx`; or anybody's, which `models.build("onnx")` takes.
        protocol: None, or what the file computes: it cannot be changed any more.
        switches: of the network "onnx", for anybody's file.

    Returns:
        The network, and its card. The card of a file that has a strategy inside, or takes one size only, says that
        pictures are shown as they are.

    Raises:
        AimmatError: ONNX Runtime is missing, the file is no ONNX file or its card is damaged, it computes another
            protocol, or switches were given for a file that has a card.
    """
    card: Card
    session = open_session(str(path))
    text = session.get_modelmeta().custom_metadata_map.get(CARD)
    if text is None:
        net: Network = models.build("onnx", path=str(path), **switches)
        card = {
            "model": {"name": "onnx", "path": str(path), **switches},
            "inference": {"name": "resize", "scale": 1},
        }
        return net.eval(), card
    try:
        card = json.loads(text)
        exported = ExportedNetwork(session, path, card)
    except (ValueError, KeyError, TypeError) as error:
        raise AimmatError(f"cannot load {path}: its aimmat card is damaged ({line(error)}); export it again") from error
    if switches:
        raise AimmatError(f"{path} says its own switches; leave out {', '.join(switches)}")
    if protocol is not None and protocol != card.get("protocol", "paper"):
        raise AimmatError(
            f"{path} computes what protocol={card.get('protocol', 'paper')} says; export it again with "
            f"--protocol {protocol}"
        )
    if card["export"]["strategy"] != "network" or exported.picture is not None:
        card["inference"] = AS_IT_IS
    return exported.eval(), card


def _resized(maps: Tensor, size: Any) -> Tensor:
    return F.interpolate(maps, tuple(size), mode="bilinear", antialias=True)
