"""Every method learns two pictures by heart through its own config: the losses and stages that conf/model gives it."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch.utils.data import default_collate

from aimmat.data import SceneDataset, SyntheticScenes
from aimmat.functional import sad
from aimmat.functional.batches import compose as composite
from aimmat.inference import Resize
from aimmat.models import NETWORKS, build
from aimmat.train.plan import config_dir, stage_model

# For each network: switches that make it small, steps of each of its stages but the first, and their rate.
METHODS = {
    "aimnet": ({"width": 0.125}, 80, 5e-3),
    "hatt": ({"width": 0.0625}, 110, 5e-3),
    "gfm": ({"width": 0.25}, 40, 5e-3),
    "dim": ({"width": 0.25}, 160, 1e-3),
    "lf": ({"encoder": "densenet121", "width": 0.25}, 45, 6e-3),
    "u2net": ({"small": True, "width": 0.375}, 70, 1e-2),
    "shm": ({"width": 0.0625, "dropout": 0}, 90, 1e-2),
}


@pytest.mark.parametrize("name", METHODS)
def test_two_pictures_are_learnt_by_heart(name):
    switches, steps, rate = METHODS[name]
    overrides = [f"model={name}", *(f"model.{key}={value}" for key, value in switches.items())]
    with initialize_config_dir(str(config_dir()), version_base=None):
        config = compose("train", overrides)
    torch.manual_seed(0)
    samples = SceneDataset(SyntheticScenes(64, 2, fixed=True))
    batch = composite(default_collate([samples[0], samples[1]]), augment=False, trimap_kernel=9)
    weights, errors = None, []
    for stage in config.stages[1:]:  # the first learns masks
        settings = config.stage[stage]
        net = build(**stage_model(config, stage))
        if weights is not None:
            net.load_state_dict(weights)
        loss = instantiate(settings.loss)
        frozen = tuple(settings.get("frozen", ()))
        for key, value in net.named_parameters():
            value.requires_grad_(not key.startswith(frozen))
        learning = [value for part in (net, loss) for value in part.parameters() if value.requires_grad]
        optimizer = torch.optim.Adam(learning, rate, fused=True)
        errors.append(_error(net, batch))
        for _ in range(steps):
            optimizer.zero_grad()
            sum(loss(net(net.inputs(batch)), batch).values()).backward()
            optimizer.step()
        weights = net.state_dict()
    assert _error(net, batch) < 0.1 * errors[0]


def _error(net, batch):
    """SAD as the test has it; batch normalisation in training mode, whose statistics need more steps than these."""
    net.train()
    with torch.no_grad():
        alpha = Resize(scale=1)(net, net.inputs(batch)).alpha
    return float(sad(alpha, batch["alpha"]).sum())


def test_no_method_is_left_out():
    assert set(METHODS) == {name for name, net in NETWORKS.items() if net.trainable}
