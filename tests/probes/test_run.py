"""A training run with its probes."""

import json
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tacoskip.config import load_config
from tacoskip.data.prepare import prepare
from tacoskip.run_folder import checkpoints, load_checkpoint
from tacoskip.training import train


def test_probed_run_trains_the_same(tiny_corpus: Path, tmp_path: Path) -> None:
    weights, places = {}, {}
    for name, options in {
        "often": ["block=nonlocal", "cbhg.depth=2", "train.log_every=1"],
        "seldom": ["block=nonlocal", "cbhg.depth=2", "train.log_every=100"],
        "dense": ["block=dense", "block_options.growth=4", "train.log_every=1"],
    }.items():
        run = tmp_path / name
        settings = load_config(
            "smoke",
            [
                *(f"data.root={tiny_corpus}", f"data.dir={tmp_path / 'data'}", f"run={run}"),
                *("train.device=cpu", "train.max_steps=3", "train.sentences=[]"),
                *("data.validation=3", "data.test=2", *options),
            ],
        )
        prepare(settings)
        train(settings)
        weights[name] = load_checkpoint(checkpoints(run)[-1]).training
        places[name] = json.loads((run / "probes.json").read_text())["stacks"]
    for part in ("weights", "random"):
        often, seldom = weights["often"][part], weights["seldom"][part]
        torch.testing.assert_close(often, seldom, atol=0, rtol=0)
    assert "gradient" not in places["seldom"]["encoder"]
    encoder = places["often"]["encoder"]
    assert len(encoder["gradient"]) == 2
    assert encoder["lesion"] == places["seldom"]["encoder"]["lesion"]
    assert places["dense"]["postnet"]["reuse"][0][0][0] > 0

    tags = {
        name: EventAccumulator(str(tmp_path / name), size_guidance={"images": 0}).Reload().Tags()
        for name in ("often", "dense")
    }
    for tag in ("gradient/encoder/unit_00", "norm/postnet/unit_00", "lesion/encoder/unit_01"):
        assert f"within/{tag}" in tags["often"]["scalars"]
    for tag in ("depth/encoder", "attention/encoder"):
        assert tag in tags["often"]["images"]
    for tag in ("reuse/postnet", "lesions/postnet"):
        assert tag in tags["dense"]["images"]

    before = (run / "probes.json").read_bytes()
    train(settings)  # a run that is done is not analysed again
    assert (run / "probes.json").read_bytes() == before
