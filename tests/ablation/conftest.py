"""Run folders as `tacoskip ablate` and `tacoskip train` leave them, without any training."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml

MakeRun = Callable[..., Path]
MakeAblation = Callable[..., Path]


def write_run(
    folder: Path,
    block: str = "highway",
    seed: int = 0,
    figures: Mapping[str, float] | None = None,
    config: Mapping[str, object] | None = None,
    steps: int = 40,
) -> Path:
    """Write a finished run folder of `tacoskip train`; config is laid over its settings."""
    from torch.utils.tensorboard import SummaryWriter

    folder.mkdir(parents=True)
    settings = {
        **{"recipe": "fsdd", "task": "tts", "run": str(folder), "seed": seed, "block": block},
        **{"cbhg": {"depth": 4}, "train": {"max_steps": steps, "max_minutes": 0.0}},
        **(config or {}),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    with SummaryWriter(str(folder)) as writer:
        writer.add_scalar("train/loss", 1.0, steps)
        for step in (steps // 2, steps):
            for name, value in (figures or {}).items():
                writer.add_scalar(f"validation/{name}", value + (steps - step) / 100, step)
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    return lambda name, **rest: write_run(tmp_path / "runs" / name, **rest)


@pytest.fixture
def make_ablation(tmp_path: Path) -> MakeAblation:
    """Write an ablation: {variant: [figures of seed 1, of seed 2, ...]}, None for a failed run."""

    def make(variants: dict[str, list[dict[str, float] | None]], **plan: object) -> Path:
        folder, runs = tmp_path / "ablation", []
        for number, (variant, results) in enumerate(variants.items()):
            for seed, figures in enumerate(results, 1):
                name = f"{variant}/seed-{seed}"
                entry = {"run": name, "variant": variant, "seed": seed}
                if figures is None:
                    runs.append(entry | {"state": "failed", "error": "loss is not finite"})
                    continue
                runs.append(entry | {"state": "done", "error": ""})
                write_run(folder / name, variant.removesuffix("@aa"), seed, figures)
                cost = {"parameters": 1000 + number, "latency_ms": 5.0 + number}
                result = {"figures": figures, "cost": cost}
                result |= {"minutes": 1.5, "steps": 40}
                (folder / name / "result.json").write_text(json.dumps(result))
        whole = {"recipe": "fsdd", "baseline": "highway", "figure": "", "blocks": list(variants)}
        whole |= {"match": "none", "overrides": [], "runs": runs, **plan}
        folder.mkdir(exist_ok=True)
        (folder / "ablation.json").write_text(json.dumps(whole))
        return folder

    return make
