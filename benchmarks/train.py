"""Time a training step beside the released code's: python benchmarks/train.py AIM_CHECKOUT [--compile] [--device cuda].

AIM_CHECKOUT is a clone of github.com/JizhiziLi/AIM. Its network, losses and Adam make the step of its core/train.py,
which does not parse; ours is the matting stage as the configuration builds it, inside Lightning's own loop. Both start
from the same weights, on the same two composites of 320 x 320. Every side has a process of its own and does one step
when it is its turn, so that sides differ in their allocator too: "keeps memory" is what the commands here switch on,
the others have the C library's default. Printed are medians of CPU time on one thread, how many times as fast as the
release it is in the median round, with the lowest and the highest, and the peak of resident memory. On a GPU: pictures
a second by the clock, and the peak of the memory that torch allocated there.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}

import argparse
import logging
import multiprocessing
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning import Callback
from omegaconf import OmegaConf
from parity import Release, fill, normalised, precise, scenes
from torch import Tensor

from aimmat.console import keep_memory
from aimmat.lit import MattingModule
from aimmat.models import AimNet
from aimmat.train import config_dir

SIZE = 320
WARM_UP = 2  # steps before the first round


class Side(NamedTuple):
    """Who steps; `overrides` are words for the configuration, none for the release's own loop."""

    overrides: tuple[str, ...] | None
    keeps: bool
    compiled: bool = False


RELEASE, KEEPING = "release", "release, keeps memory"
SIDES = {
    RELEASE: Side(None, False),
    KEEPING: Side(None, True),
    "here, float32": Side(("trainer.precision=32-true",), True),
    "here, bfloat16": Side(("trainer.precision=bf16-mixed",), True),
}
COMPILED = {
    "here, float32, compiled": Side(("trainer.precision=32-true",), True, True),
    "here, bfloat16, compiled": Side(("trainer.precision=bf16-mixed",), True, True),
}
EQUAL = Side(("trainer.precision=32-true", "protocol=release"), True)


class Worker:
    """A side in its own process, which does a step at each call."""

    def __init__(self, side: Side, given: SimpleNamespace) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=work, args=(side, given, end), daemon=True)
        self.process.start()
        end.close()

    def step(self) -> tuple[float, float]:
        """Seconds, and the loss."""
        self.pipe.send(True)
        return self.pipe.recv()  # type: ignore[no-any-return]

    def end(self) -> int:
        """Bytes of memory at the peak."""
        self.pipe.send(False)
        peak = self.pipe.recv()
        self.process.join()
        return int(peak)


def work(side: Side, given: SimpleNamespace, pipe: Connection) -> None:
    """What runs in a worker."""
    warnings.simplefilter("ignore")  # of the release, and Lightning's hints
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    if side.keeps:
        keep_memory()
    turn = Turn(pipe, given.device)
    batch = precise(scenes(SIZE), torch.float32)
    batch = {name: value.repeat(-(-given.batch // 2), 1, 1, 1)[: given.batch] for name, value in batch.items()}
    batch = {name: value.to(given.device) for name, value in batch.items()}
    if side.overrides is None:
        step = released(given.checkout, batch, given.device)
        while turn.waits():
            turn.done(step())
    else:
        ours(side, batch, given.device, turn)
    resident = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipe.send(torch.cuda.max_memory_allocated() if given.device == "cuda" else resident)


class Turn:
    """Waits until it is this worker's turn, then says how long its step took."""

    def __init__(self, pipe: Connection, device: str) -> None:
        self.pipe, self.device, self.start = pipe, device, 0.0

    def waits(self) -> bool:
        """Whether another step is wanted."""
        wanted = bool(self.pipe.recv())
        self.start = self._now()
        return wanted

    def done(self, loss: Tensor) -> None:
        """Tell."""
        seconds = self._now() - self.start
        self.pipe.send((seconds, loss.item()))

    def _now(self) -> float:
        if self.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


def released(checkout: Path, batch: dict[str, Tensor], device: str) -> Callable[[], Tensor]:
    """The loop's body in core/train.py for the matting stage, on a batch as its loader gives it."""
    to_gpu = Tensor.cuda
    with tempfile.TemporaryDirectory() as folder:
        release = Release(checkout, Path(folder))  # which makes a move to the GPU none
    if device == "cuda":
        Tensor.cuda = to_gpu
    evaluate, net = release.evaluate, release.net
    if device == "cuda":
        net = torch.nn.DataParallel(net).cuda()
    net.train()
    optimizer = torch.optim.Adam([weight for weight in net.parameters() if weight.requires_grad], lr=1e-6)
    ori, fg, bg = (normalised(batch[name]) for name in ("image", "foreground", "background"))
    mask, usr = (255 * batch["alpha"]).round(), torch.tensor((0.0, 128.0, 255.0), device=device)[batch["semantic"]]

    def step() -> Tensor:
        if device == "cuda":
            torch.cuda.empty_cache()
        optimizer.zero_grad()
        semantic, local, fused = net(ori)
        loss = (
            evaluate.get_crossentropy_loss(usr, semantic)
            + evaluate.get_alpha_loss(local, mask, usr)
            + evaluate.get_laplacian_loss(local, mask, usr)
            + evaluate.get_alpha_loss_whole_img(fused, mask)
            + evaluate.get_laplacian_loss_whole_img(fused, mask)
            + evaluate.get_composition_loss_whole_img(ori, mask, fg, bg, fused)
        )
        loss.backward()
        optimizer.step()
        return loss

    return step


class Steps(Callback):
    """Times the batches of Lightning's loop."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if not self.turn.waits():
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not trainer.should_stop:
            self.turn.done(outputs["loss"])


def ours(side: Side, batch: dict[str, Any], device: str, turn: Turn) -> None:
    """The matting stage of the configuration, at the paper's size."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", ["~experiment", *side.overrides])
    model: Any = OmegaConf.to_container(config.model, resolve=True)
    parts = {key: instantiate(config.stage.matting[key]) for key in ("loss", "optimizer", "schedule")}
    module = MattingModule(model, {"name": "resize"}, **parts)
    module.net.load_state_dict(fill(AimNet(protocol="release")).state_dict())
    module.net.to(memory_format=torch.channels_last)
    if side.compiled:
        module.net.compile()
    batch |= {"name": [str(i) for i in range(len(batch["image"]))]}
    with tempfile.TemporaryDirectory() as folder:
        trainer = instantiate(
            config.trainer,
            accelerator=device,
            callbacks=[Steps(turn)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            max_epochs=1,
            default_root_dir=folder,
        )
        trainer.fit(module, Endless(batch))


class Endless:
    """A loader of the one batch."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __iter__(self) -> Any:
        while True:
            yield self.batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    parser.add_argument("--compile", action="store_true", help="also through torch.compile")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, metavar="N", help="2 on the CPU, on a GPU the release's 16")
    given = parser.parse_args()
    if not (given.checkout / "core" / "evaluate.py").is_file():
        raise SystemExit(f"{given.checkout} holds no core/evaluate.py; name a clone of github.com/JizhiziLi/AIM")
    given.batch = given.batch or (2 if given.device == "cpu" else 16)
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        del os.environ[name]  # of the C library: every side decides by itself

    equal = Worker(EQUAL, given)
    _, found = equal.step()
    equal.end()
    sides = SIDES | (COMPILED if given.compile else {})
    workers, losses, compiling = {}, {}, {}
    for name, side in sides.items():
        workers[name] = Worker(side, given)
        start = time.perf_counter()
        _, losses[name] = workers[name].step()
        if side.compiled:
            compiling[name] = time.perf_counter() - start
        for _ in range(WARM_UP - 1):
            workers[name].step()
    print(f"{'':44}   {'as fast as ' + RELEASE:24}   as fast as {KEEPING}")
    rounds = [{name: worker.step()[0] for name, worker in workers.items()} for _ in range(given.rounds)]
    for name, worker in workers.items():
        seconds = median(turn[name] for turn in rounds)
        line = f"{name:26} {1e3 * seconds:6.0f} ms, {given.batch / seconds:6.2f} pictures/s"
        for against in (RELEASE, KEEPING):
            ratios = [turn[against] / turn[name] for turn in rounds]
            line += f"   {median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        line += f"   {worker.end() / 2**20:6.0f} MiB"
        if name in compiling:
            line += f"   first step {compiling[name]:.0f} s"
        print(line, flush=True)
    expected = losses[RELEASE]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    apart = abs(found / expected - 1)
    print(f"loss {found:.8g} by protocol=release in float32, release {expected:.8g}: {apart:.0e} apart")


if __name__ == "__main__":
    main()
