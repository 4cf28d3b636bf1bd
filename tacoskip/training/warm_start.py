"""`from=RUN`: a run that starts from the weights of another."""

from collections.abc import Sequence

import torch

from tacoskip.config import Config
from tacoskip.messages import without_secrets
from tacoskip.run_folder import Checkpoint, RunError, config_of, not_finite, open_run
from tacoskip.text import Tokenizer
from tacoskip.text.subwords import vocabulary_from
from tacoskip.training.state import TrainingState
from tacoskip.training.tasks import Task

# Tensors with a row for each symbol or speaker; rows are copied by name.
SYMBOL_ROWS = (
    "encoder.embedding.weight",
    *(f"{layer}.{kind}" for layer in ("output", "speller.output") for kind in ("weight", "bias")),
    "speller.embedding.weight",
)
SPEAKER_ROWS = ("speakers.weight",)
# Statistics of the features: those of the run's own corpus.
OWN = ("mel_mean", "mel_std", "linear_mean", "linear_std")
NAMED = 6  # tensors that the line names


def load_start(config: Config) -> Checkpoint:
    """Load the checkpoint of `from=RUN`. Raises RunError, in one line, where none can be used."""
    start = without_secrets(config.from_run)
    try:
        path, checkpoint = open_run(config.from_run)
        other = config_of(checkpoint, path).task
    except RunError as error:
        raise RunError(f"from={start}: {error}") from None
    if other != config.task:
        raise RunError(f"from={start}: expected task={config.task}, got task={other}")
    if not_finite(checkpoint.weights):
        raise RunError(f"from={start}: its weights are not finite")
    return checkpoint


@torch.no_grad()
def start_from(task: Task, state: TrainingState, checkpoint: Checkpoint) -> None:
    """Copy the weights that fit into the network; `started_from` says in one line what was done.

    A tensor that does not fit keeps its first values. Rows of symbols and speakers are copied by
    name, whatever the order.
    """
    tables = [
        (SYMBOL_ROWS, task.encoder.symbols, _symbols(checkpoint)),
        (SPEAKER_ROWS, task.speakers, checkpoint.speakers),
    ]
    weights, anew, copied = state.model.state_dict(), list[str](), 0
    for name, value in weights.items():
        saved = checkpoint.weights.get(name)
        rows = next((names for tensors, *names in tables if name in tensors), None)
        if name in OWN:
            continue
        if saved is None or saved.shape[bool(rows) :] != value.shape[bool(rows) :]:
            anew.append(name)
            continue
        copied += 1
        if rows is None:
            value.copy_(saved)
            continue
        other = {name: row for row, name in enumerate(rows[1])}
        own = [row for row, name in enumerate(rows[0]) if name in other]
        value[own] = saved[[other[rows[0][row]] for row in own]].to(value)
        if missing := len(rows[0]) - len(own):
            anew.append(f"{missing} rows of {name}")
    named = ", ".join(anew[:NAMED]) + (", ..." if len(anew) > NAMED else "")
    line = f"started from {task.config.from_run} at step {checkpoint.step}: {copied} tensors"
    state.started_from = line + (f"; {len(anew)} start anew: {named}" if anew else "")
    state.average.load(weights)


def _symbols(checkpoint: Checkpoint) -> Sequence[str]:
    config = config_of(checkpoint, "from")
    if config.task == "asr":
        return vocabulary_from(checkpoint.vocabulary).symbols
    return Tokenizer(config.text).symbols
