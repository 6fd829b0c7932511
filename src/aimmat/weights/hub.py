"""Networks on the Hugging Face Hub: found by ORG/NAME, only ever as safetensors."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from aimmat.schema import AimmatError

FILE = "model.safetensors"
_NAME = re.compile(r"(hf:)?([\w][\w.-]*/[\w][\w.-]*)")


def hub_name(name: str) -> str | None:
    """ORG/NAME of what could be a network on the Hub, None for anything else.

    >>> hub_name("org/name"), hub_name("hf:org/name"), hub_name("runs/a/b"), hub_name("/data/run"), hub_name("name")
    ('org/name', 'org/name', None, None, None)
    """
    match = _NAME.fullmatch(name)
    return match and match[2]


def hub() -> Any:
    """The package that speaks with the Hub.

    Raises:
        AimmatError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise AimmatError("the Hugging Face Hub needs its package; install it by pip install 'aimmat[hub]'") from error
    return huggingface_hub


def fetch_from_hub(repo: str) -> Path:
    """Download a network, unless the Hub's own cache has it.

    Args:
        repo: ORG/NAME. HF_ENDPOINT, HF_TOKEN and HF_HUB_CACHE are those of huggingface_hub.

    Returns:
        The file in the cache.

    Raises:
        AimmatError: the package is missing, there is no such repository or file, or the Hub cannot be reached.
    """
    package = hub()
    with suppress(Exception):  # not there yet: asked for below, where it is said
        return Path(package.hf_hub_download(repo, FILE, local_files_only=True))
    try:
        return Path(package.hf_hub_download(repo, FILE, endpoint=os.environ.get("HF_ENDPOINT"), library_name="aimmat"))
    except Exception as error:  # of the package, of the connection, of the disk
        raise AimmatError(f"cannot get {repo} from the Hugging Face Hub: {why(error)}") from error


def why(error: Exception) -> str:
    """A sentence for what the Hub's package raises, with what to do."""
    name, first = type(error).__name__, (str(error).strip().splitlines() or [""])[0]
    if name == "EntryNotFoundError" or name == "RemoteEntryNotFoundError":
        return f"it holds no {FILE}, so it is no network of aimmat"
    if name in ("RepositoryNotFoundError", "GatedRepoError", "HFValidationError"):
        return "there is no such repository, or it is not public; set HF_TOKEN to read one of your own"
    if name in ("LocalEntryNotFoundError", "OfflineModeIsEnabled") or "onnect" in name or "onnect" in first:
        return "it cannot be reached and its cache has no copy; check the network, or give the path of a file"
    return f"{name}: {first}"
