"""One run of an ablation, in a process of its own: `python -m tacoskip.ablation.worker RUN PARENT`.

RUN/request.json holds the config. The run trains as with `tacoskip train`, and resumes from its
last checkpoint if it was interrupted. It leaves RUN/result.json: the figures of the last
evaluation, with a judge the word errors of a voice, and the costs of the network. A failure's
reason is the last line on standard error, "error: ...".
"""

import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

from tacoskip.ablation.plan import LADDER, RESULT, write_json
from tacoskip.blocks.cost import best_ms, initial_correlation, macs, parameters
from tacoskip.config import Config, cbhgs_of, from_dict
from tacoskip.evaluation import voices
from tacoskip.evaluation.error_rates import over_mean_length, word_errors
from tacoskip.kernels.accelerate import accelerate, plain
from tacoskip.loading import load
from tacoskip.models.cbhg import CBHG
from tacoskip.models.recognizer import Recognizer
from tacoskip.models.tacotron import Tacotron
from tacoskip.run_folder import checkpoints
from tacoskip.training import Progress, train

REQUEST = "request.json"
JUDGED = 60  # test sentences that a judge transcribes
PARENT_SECONDS = 0.5


def work(run: Path) -> None:
    """Train the config in RUN/request.json and write RUN/result.json."""
    config = from_dict(json.loads((run / REQUEST).read_text("utf-8")), source=str(run / REQUEST))
    last: dict[str, float] = {}

    def on_progress(progress: Progress) -> None:
        last.update(progress.scalars)
        if progress.message:
            print(progress.message, flush=True)

    summary = train(config, on_progress)
    model = load(checkpoints(run)[-1], device="cpu").model
    assert isinstance(model, Tacotron | Recognizer)
    cost = cost_of(model) | {"peak_memory_mb": _peak_memory_mb()}
    cost["initial_correlation"], start = start_of(config)
    cost |= {name: last[name] for name in last if name == "frames_per_second"}
    figures, clips = dict(summary["last"]), dict(summary["clips"])
    if config.train.judge:
        words, clips["wer_by_asr"] = ladder_of(run, config)
        figures |= words
    result = {
        "figures": figures,
        "clips": clips,
        "start": start,
        "cost": cost,
        "minutes": summary["minutes"],
        "steps": summary["step"],
    }
    write_json(run / RESULT, result)


@torch.no_grad()
def cost_of(model: Tacotron | Recognizer) -> dict[str, float]:
    """Return a network's parameters, MACs per mel frame, and latency in ms of its CBHGs.

    The input is `model.example()`: 40 symbols and 200 frames, for a recognizer 400 frames. The
    decoder is left out of the latency: it has no stack, and its time would hide theirs.
    """
    example = model.eval().example()
    macs_per_call = macs(plain(model), *example)  # the counter knows torch's operations only
    accelerate(model)
    if isinstance(model, Recognizer):
        mel = example[0]
        latency = best_ms(lambda: model(*example))
    else:
        symbols, mel = example[0], example[2]
        masks = [torch.ones(x.shape[:2], dtype=torch.bool) for x in (symbols, mel)]
        latency = best_ms(
            lambda: (model.encoder(symbols, masks[0]), model.postnet(mel, masks[1])), repeats=20
        )
    return {
        "parameters": parameters(model),
        "macs_per_frame": macs_per_call / mel.shape[1],
        "latency_ms": latency,
    }


def ladder_of(run: Path, config: Config) -> tuple[dict[str, float], list[float]]:
    """Return the word errors of each rung of `voices.RUNGS` by the judge, and of each test clip's
    free-running speech, over the mean number of words.
    """
    measured = voices.evaluate(
        checkpoints(run)[-1], "test", JUDGED, judge=config.train.judge, device=config.train.device
    )
    words = {
        name: float(measured["ladder"][rung]["wer"]["mean"])
        for name, rung in zip(LADDER, voices.RUNGS, strict=True)
    }
    pairs = [(one["reference"], one[voices.RUNGS[-1]]) for one in measured["transcripts"]]
    return words, over_mean_length([word_errors(*pair) for pair in pairs])


class WithLinears(nn.Module):
    """The stack of a CBHG, with the linear layers around it."""

    def __init__(self, cbhg: CBHG):
        super().__init__()
        self.cbhg = cbhg

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        narrowed: Tensor = self.cbhg.narrow(self.cbhg.stack(self.cbhg.widen(x), mask))
        return narrowed


def start_of(config: Config) -> tuple[float, str]:
    """Return the mean of `initial_correlation` over the config's stacks, and how they start."""
    torch.manual_seed(config.seed)
    settings = cbhgs_of(config)
    cbhgs = [CBHG(one.channels, one) for one in settings]
    correlations = [
        initial_correlation(WithLinears(cbhg), one.channels)
        for cbhg, one in zip(cbhgs, settings, strict=True)
    ]
    return fmean(correlations), cbhgs[0].stack.start


def _peak_memory_mb() -> float:
    """Return the peak memory of this process: of the GPU if it was used, else of the CPU."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def exit_with_parent(parent: int) -> None:
    """End this process when its parent has ended: another worker may start the same run."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    """Execute the run that is the first argument; both output streams end in RUN/log.txt.

    The second argument is the process id of the parent, which may have ended by now.
    """
    exit_with_parent(int(sys.argv[2]))
    # Slurm warns all processes of a job; its launcher saves the run.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        work(Path(sys.argv[1]))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        traceback.print_exc()
        print(f"error: {' '.join(f'{type(error).__name__}: {error}'.split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
