"""What every command shares: one sentence for an error, exit codes, memory settings."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import traceback
from collections.abc import Callable

from aimmat.schema import AimmatError

TRACEBACK = "AIMMAT_TRACEBACK"  # set to 1, an error also shows where it came from


def guarded(command: Callable[[], int | None]) -> int:
    """Run a command; turn what goes wrong into one sentence on stderr.

    Args:
        command: returns its exit code, None for 0.

    Returns:
        The command's exit code; 1 after an error, 130 after Ctrl-C.
    """
    try:
        return command() or 0
    except KeyboardInterrupt as interrupt:
        print(f"stopped: {interrupt}" if str(interrupt) else "stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get(TRACEBACK) == "1":
            traceback.print_exc()
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 1


def sentence(error: BaseException) -> str:
    """One line that says what is wrong: the message of the error, or of what caused it."""
    while type(error).__name__ == "InstantiationException" and error.__cause__ is not None:
        error = error.__cause__  # what the class said that a config asked Hydra to make
    if isinstance(error, OSError) and error.strerror:
        where = error.filename2 or error.filename or "a file"  # what was copied or moved has two names
        return f"{where} cannot be used: {error.strerror.lower()}; choose another place or make room"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return f"{type(error).__name__}; set {TRACEBACK}=1 to see where"
    if isinstance(error, AimmatError):
        return lines[-1].removeprefix("aimmat.schema.AimmatError: ")  # a loader's worker puts its traceback before it
    if type(error).__module__.split(".")[0] in ("hydra", "omegaconf"):
        return _config_sentence(lines)
    return f"{lines[-1]} ({type(error).__name__}; set {TRACEBACK}=1 to see where)"


def _config_sentence(lines: list[str]) -> str:
    """Hydra's and OmegaConf's several lines as one, without what helps only their own developers."""
    useful = []
    for line in lines:
        if line.startswith("Config search path"):
            break
        if not line.startswith(("full_key:", "object_type=", "reference_type=")):
            useful.append(line)
    text = " ".join(line if line[-1] in ".,:;'" else f"{line}," for line in useful)
    return text.rstrip(",.:") + f"; set {TRACEBACK}=1 to see where"


def keep_memory() -> None:
    """Have glibc keep freed memory instead of handing every large tensor back to the kernel.

    Fetching it again costs more than the arithmetic of a small network. Other systems are left as they are, and so is a
    process whose environment has its own MALLOC_ settings.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = ctypes.CDLL(None).mallopt
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 1 << 26)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
        mallopt(option, value)
