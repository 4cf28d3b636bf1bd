"""Ablations of the tiny corpus, and run folders as `tacoskip ablate` and `tacoskip train` leave
them, without any training.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml

import tacoskip
from tacoskip.ablation import launchers, worker
from tacoskip.ablation.collect import Run, collect
from tacoskip.ablation.compare import Comparison
from tacoskip.ablation.request import parse_request, resolve
from tacoskip.data.prepare import prepare

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


@pytest.fixture
def pairs(tiny_corpus: Path, tmp_path: Path) -> list[str]:
    return [
        *("recipe=smoke", f"data.root={tiny_corpus}", f"data.dir={tmp_path / 'data'}"),
        *("data.validation=3", "data.test=2", "train.device=cpu", "train.max_steps=2"),
        f"run={tmp_path / 'ablation'}",
    ]


@pytest.fixture
def in_process(undrawn: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Execute runs in this process; returns the names of those executed."""
    ran: list[str] = []

    def run(launcher: str, runs: list[Path], *_: object) -> launchers.Iterator[launchers.Ended]:
        for path in runs:
            ran.append(f"{path.parent.name}/{path.name}")
            try:
                worker.work(path)
            except Exception as error:
                yield path, str(error)
            else:
                yield path, ""

    monkeypatch.setattr("tacoskip.ablation.ablate.launch", run)
    return ran


@pytest.fixture
def without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process end at once: losses of `plain` are far worse than all others, losses
    without the stack are worse from 3 steps on.
    """

    def result(run: Path) -> None:
        seed = int(run.name.removeprefix("seed-"))
        steps = json.loads((run / "request.json").read_text())["train"]["max_steps"]
        worse = {"plain": 9, "without-stack": 9 * (steps > 2)}
        loss = 1 + seed % 3 / 100 + worse.get(run.parent.name, 0)
        (run / "result.json").write_text(json.dumps({"figures": {"loss": loss}}))

    monkeypatch.setattr(worker, "work", result)


def ablate(pairs: list[str]) -> Comparison:
    request, base = resolve(parse_request(pairs))
    prepare(base)
    return tacoskip.ablate(request, log=lambda _: None)


def runs_of(folder: Path) -> list[Run]:
    return collect(folder)[1]
