import pickle
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torchmetrics.metric

from aimmat.metrics import SemanticMetrics
from aimmat.schema import Category, ImageType

SO, STM, NS = (word.number for word in ImageType)
ANIMAL, TOY = Category.ANIMAL.number, Category.TOY.number


def maps(*rows):
    """A batch of pictures of one row each."""
    return torch.tensor(rows)[:, None, None]


def index(*numbers):
    return torch.tensor(numbers)


TRUTH = maps([0, 0, 1, 2], [1, 1, 1, 1], [0, 1, 1, 0])
PRED = maps([0, 1, 1, 2], [1, 1, 2, 2], [0, 0, 1, 0])
TYPES, CATEGORIES = index(SO, NS, SO), index(TOY, ANIMAL, TOY)


def counted(chosen=slice(None)):
    metric = SemanticMetrics()
    metric.update(PRED[chosen], TRUTH[chosen], TYPES[chosen], CATEGORIES[chosen])
    return metric


def test_pixels_are_counted_by_hand():
    scores = {key: value.item() for key, value in counted().compute().items()}
    # background: 3 of 4 found, 1 more claimed; transition: 4 of 7, 1 more; foreground: 1 of 1, 2 more
    whole = {"background": 3 / 5, "transition": 4 / 8, "foreground": 1 / 3}
    assert {f"iou_{name}": value for name, value in whole.items()}.items() <= scores.items()
    assert scores["iou"] == pytest.approx(sum(whole.values()) / 3)
    assert scores["accuracy"] == 8 / 12
    # NS and animal are the second picture, where no background is: IoU 2 / 4 of the transition, 0 / 2 of the foreground
    assert scores["iou/type/NS"] == scores["iou/cat/animal"] == (1 / 2 + 0) / 2
    assert scores["accuracy/type/NS"] == 1 / 2
    assert scores["accuracy/type/SO"] == scores["accuracy/cat/toy"] == 6 / 8
    assert scores["accuracy/type/avg"] == (6 / 8 + 1 / 2) / 2


def test_groups_and_classes_without_pixels_are_absent():
    scores = counted(slice(1, 2)).compute()
    assert "iou_background" not in scores  # neither there nor predicted
    assert scores["iou_foreground"] == 0  # predicted where none is
    assert not any("SO" in key or "STM" in key or "toy" in key for key in scores)
    assert SemanticMetrics.higher_is_better
    empty = SemanticMetrics()
    empty.update(PRED[:0], TRUTH[:0], TYPES[:0], CATEGORIES[:0])
    assert empty.compute() == {}


def test_batches_may_be_cut_anywhere_and_a_reset_forgets():
    metric = counted(slice(0, 2))
    first = metric.compute()
    metric.update(PRED[2:], TRUTH[2:], TYPES[2:], CATEGORIES[2:])
    assert metric.compute() == counted().compute() != first
    assert pickle.loads(pickle.dumps(metric)).compute() == metric.compute()
    metric.reset()
    metric.update(PRED[:2], TRUTH[:2], TYPES[:2], CATEGORIES[:2])
    assert metric.compute() == first


def test_two_processes_with_an_uneven_last_batch_agree_with_one(tmp_path):
    command = [sys.executable, __file__, str(tmp_path / "rendezvous")]
    processes = [subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE) for rank in (0, 1)]
    for rank, process in enumerate(processes):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
        assert torch.load(tmp_path / f"rendezvous.{rank}", weights_only=True) == counted().compute()


def test_counts_stay_exact_when_a_model_changes_precision():
    holder = torch.nn.ModuleDict({"metric": SemanticMetrics()}).half().to(torch.bfloat16)
    assert holder["metric"].pixels.dtype == torch.int64


def test_a_plot_shows_iou_and_accuracy_by_type(monkeypatch):
    shown = []
    monkeypatch.setattr(torchmetrics.metric, "plot_single_or_multi_val", lambda val, **_: shown.append(val) or (0, 0))
    metric = counted()
    assert metric.plot() == (0, 0)
    assert list(shown[0]) == [
        *("iou", "iou/type/SO", "iou/type/NS", "iou/type/avg"),
        *("accuracy", "accuracy/type/SO", "accuracy/type/NS", "accuracy/type/avg"),
    ]
    metric.plot([metric.compute(), counted(slice(1, 2)).compute()])
    assert [set(result) for result in shown[1]] == [
        {f"{name}{group}" for name in ("iou", "accuracy") for group in ("", "/type/NS", "/type/avg")}
    ] * 2


@pytest.mark.parametrize(
    ("pred", "truth", "image_type", "category", "error", "words"),
    [
        (PRED.float(), TRUTH, TYPES, CATEGORIES, TypeError, r"pred must hold .* got torch.float32; logits become"),
        (
            PRED,
            TRUTH.byte(),
            TYPES,
            CATEGORIES,
            TypeError,
            "semantic must hold .* got torch.uint8",
        ),
        (PRED, TRUTH[:2], TYPES, CATEGORIES, ValueError, r"one shape .* got \(3, 1, 1, 4\) and \(2, 1, 1, 4\)"),
        (PRED[:, 0], TRUTH[:, 0], TYPES, CATEGORIES, ValueError, r"\(B, 1, H, W\), got \(3, 1, 4\)"),
        (PRED, TRUTH, TYPES[:1], CATEGORIES, ValueError, r"one number for each picture, \(3,\), got \(1,\) and \(3,\)"),
        (PRED, TRUTH * 128, TYPES, CATEGORIES, ValueError, "0 background, 1 transition or 2 foreground, got 0 to 256"),
        (PRED - 1, TRUTH, TYPES, CATEGORIES, ValueError, "got -1 to 2"),
        (PRED, TRUTH, TYPES + 3, CATEGORIES, ValueError, r"ImageType.number from 0 to 2, got \[3, 5, 3\]"),
    ],
)
def test_wrong_arguments_get_a_sentence_and_count_nothing(pred, truth, image_type, category, error, words):
    metric = SemanticMetrics()
    with pytest.raises(error, match=words):
        metric.update(pred, truth, image_type, category)
    assert not metric.pixels.any()


def count_in_one_of_two_processes(rendezvous: str, rank: int) -> None:
    """The first process counts two pictures, the second the one that is left."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    metric = counted((slice(0, 2), slice(2, 3))[rank])
    torch.save(metric.compute(), Path(f"{rendezvous}.{rank}"))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    count_in_one_of_two_processes(sys.argv[1], int(sys.argv[2]))
