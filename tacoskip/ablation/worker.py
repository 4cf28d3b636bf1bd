"""One run of an ablation, in a process of its own: `python -m tacoskip.ablation.worker RUN`.

RUN/request.json holds {"variant", "seed", "config"}. The run trains as `tacoskip train` does, and
leaves RUN/result.json: figures of the last evaluation, and what the network cost. A run that was
interrupted goes on from its last checkpoint. Exit codes as everywhere; the reason of a failure is
the last line on standard error, after "error: ".
"""

import json
import os
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from tacoskip.ablation.plan import RESULT
from tacoskip.blocks.cost import best_ms, macs, parameters
from tacoskip.config import from_dict
from tacoskip.kernels.accelerate import accelerate, plain
from tacoskip.loading import load
from tacoskip.models.recognizer import Recognizer
from tacoskip.models.tacotron import Tacotron
from tacoskip.run_folder import checkpoints
from tacoskip.training import Progress, train

REQUEST, PROGRESS = "request.json", "progress"
PARENT_SECONDS = 0.5


def work(run: Path) -> dict[str, Any]:
    """Train what RUN/request.json asks for; returns and writes the result."""
    request = json.loads((run / REQUEST).read_text(encoding="utf-8"))
    config = from_dict(request["config"], source=str(run / REQUEST))
    speeds: list[float] = []

    def tell(progress: Progress) -> None:
        (run / PROGRESS).write_text(f"{progress.share:.4f}", encoding="utf-8")
        if "frames_per_second" in progress.scalars:
            speeds.append(progress.scalars["frames_per_second"])
        if progress.message:
            print(progress.message, flush=True)

    summary = train(config, tell)
    model = load(checkpoints(run)[-1], device="cpu").model
    assert isinstance(model, Tacotron | Recognizer)
    result = {
        "variant": request["variant"],
        "seed": request["seed"],
        "figures": summary["last"],
        "cost": cost_of(model)
        | {"peak_memory_mb": _peak_memory_mb()}
        | ({"frames_per_second": speeds[-1]} if speeds else {}),
        "minutes": summary["minutes"],
        "steps": summary["step"],
    }
    partial = run / f"{RESULT}.partial"
    partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    partial.replace(run / RESULT)
    return result


@torch.no_grad()
def cost_of(model: Tacotron | Recognizer) -> dict[str, float]:
    """What a network costs: parameters, MACs of a mel frame, ms of encoder and post-net.

    Both are of `model.example()`: 40 symbols and 200 frames, for a recognizer 400 frames.
    latency_ms leaves the decoder out: no block stands in it, and its time would hide theirs.
    """
    example = model.example()
    macs_per_call = macs(plain(model), *example)  # what counts operations knows torch's only
    accelerate(model)
    if isinstance(model, Recognizer):
        mel, lengths = model.example()
        return {
            "parameters": parameters(model),
            "macs_per_frame": macs_per_call / mel.shape[1],
            "latency_ms": best_ms(lambda: model(mel, lengths)),
        }
    symbols, mel = example[0], example[2]

    def stacks() -> None:
        model.encoder(symbols, torch.ones_like(symbols, dtype=torch.bool))
        model.postnet(mel, torch.ones(mel.shape[:2], dtype=torch.bool))

    return {
        "parameters": parameters(model),
        "macs_per_frame": macs_per_call / mel.shape[1],
        "latency_ms": best_ms(stacks, repeats=20),
    }


def _peak_memory_mb() -> float:
    """Return the most memory this process has held: on the GPU where it trained there, else in
    all.
    """
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def end_with_parent() -> None:
    """End this process when the one that started it is gone: nobody waits for it any more, and
    somebody else may start the same run.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    """Run RUN, the only argument."""
    end_with_parent()
    try:
        work(Path(sys.argv[1]))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        # The whole story goes into RUN/log.txt, where both streams end.
        import traceback

        traceback.print_exc()
        print(f"error: {' '.join(f'{type(error).__name__}: {error}'.split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
