"""RUN/README.md: what a trained run is, from its settings and figures."""

from pathlib import Path

from tacoskip.config import Config
from tacoskip.files import write_whole
from tacoskip.training.state import TrainingState

USES = {
    "tts": 'tacoskip synthesize {run} "Hello there."',
    "asr": "tacoskip transcribe {run} recording.wav",
}
METHODS = {"tts": 'synthesize("Hello there.")', "asr": "transcribe(audio, sample_rate)"}
KINDS = {"tts": "A voice (text to speech)", "asr": "A recognizer (speech to text)"}


def write_model_card(
    config: Config,
    state: TrainingState,
    clips: int,
    speakers: list[str],
    vocabulary: str,
    commit: str | None,
) -> None:
    """Write the card of a run. clips: in training. vocabulary: what the texts' symbols are."""
    changes = {"skip": config.skip, "topology": config.topology}
    block = config.block + "".join(f", {key} {value}" for key, value in changes.items() if value)
    rows = {
        "recipe": config.recipe,
        "block": block,
        "parameters": f"{sum(p.numel() for p in state.model.parameters()):,}",
        "corpus": f"{config.data.corpus}: {clips} clips for training, {_names(speakers)}",
        "text": vocabulary,
        "audio": f"{config.audio.sample_rate} Hz, {config.audio.n_mels} mel bands",
        "training": f"{state.step} steps, {state.minutes:.1f} minutes, seed {config.seed}",
        "code": f"tacoskip at commit {commit}" if commit else "tacoskip, commit unknown",
    }
    figures = [
        f"| {name} | {value:.3f} | {state.last.get(name, value):.3f} |"
        for name, value in state.best.items()
    ]
    text = f"""# {Path(config.run).name}

{KINDS[config.task]}, trained with tacoskip.

| | |
|---|---|
{chr(10).join(f"| {name} | {value} |" for name, value in rows.items() if value)}

## Figures on the validation clips

| figure | best checkpoint | last |
|---|---|---|
{chr(10).join(figures)}

`best.pt` is chosen by `{config.train.select}`. `metrics.json`, where it exists, holds what
`tacoskip evaluate` measured.

## Use

```sh
{USES[config.task].format(run=config.run)}
```

```python
import tacoskip
model = tacoskip.load("{config.run}")
model.{METHODS[config.task]}
```

`config.yaml` holds all settings, `environment.json` the versions and the machine; `tacoskip board`
shows the curves.
"""
    write_whole(Path(config.run) / "README.md", text)


def _names(speakers: list[str]) -> str:
    count = f"{len(speakers)} speaker" + "s" * (len(speakers) != 1)
    return f"{count} ({', '.join(speakers[:8])}{', ...' if len(speakers) > 8 else ''})"
