"""A voice exported to ONNX, in place of the `Tacotron` of a `Voice`.

    encoder.onnx     symbols (B, S), lengths (B,), speakers (B,) -> memory, keys, the first state
    step.onnx        the last frame, memory, keys, the state -> R frames, stop logit, next state
    postnet.onnx     mel (B, L * R, M), lengths (B,) -> mel and linear, log10 magnitudes

The loop over decoder steps runs here. B batch, S symbols, L decoder steps, R frames a step, M mels.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tacoskip.models.decoder import StopTracker
from tacoskip.models.tacotron import TacotronOutput
from tacoskip.run_folder.exported import Arrays, ExportManifest, OnnxGraph

STATE = ("hidden", "context", "gru0", "gru1")  # then attention0 (the weights), attention1, ...
NEXT = "next_"  # prefix of the state among the outputs of a step


class OnnxTacotron(nn.Module):
    """The graphs of a voice behind the methods that `Voice` calls."""

    mel_mean: Tensor

    def __init__(self, folder: Path, manifest: ExportManifest) -> None:
        super().__init__()
        self.reduction, self.n_mels = manifest.reduction, manifest.config["audio"]["n_mels"]
        self.graphs = {name: OnnxGraph(folder / file) for name, file in manifest.graphs.items()}
        self.register_buffer("mel_mean", torch.zeros(1))  # tells the device

    def restore(self, mel: Tensor, linear: Tensor) -> tuple[Tensor, Tensor]:
        """Return both as they are: the post-net's graph gives log10 magnitudes."""
        return mel, linear

    def infer(
        self,
        symbols: Tensor,
        symbol_lengths: Tensor,
        speakers: Tensor,
        max_frames: Tensor,
        rest_frames: int,
    ) -> TacotronOutput:
        """Synthesize as `Tacotron.infer` does: the same arguments, the same rules to stop."""
        lengths = symbol_lengths.numpy()
        values = {"symbols": symbols.numpy(), "lengths": lengths, "speakers": speakers.numpy()}
        values |= self.graphs["encoder"](values)
        limits = np.maximum(-(-max_frames.numpy() // self.reduction), 1).tolist()
        ends = StopTracker(limits, (lengths - 1).tolist(), -(-rest_frames // self.reduction))
        mels, stops, alignments = self._decode(values, ends)
        frames = np.array(ends.steps) * self.reduction
        found = self.graphs["postnet"]({"mel": np.concatenate(mels, 1), "lengths": frames})
        arrays = (
            *(found["log_mel"], found["log_linear"]),
            *(np.stack(stops, 1), np.stack(alignments, 1)),
            *(frames, np.array(ends.stopped)),
        )
        return TacotronOutput(*map(torch.from_numpy, arrays))

    def _decode(self, values: Arrays, ends: StopTracker) -> tuple[list[np.ndarray], ...]:
        """Step until every item has ended: mels (B, R, M), stop logits (B,), weights (B, S)."""
        values["frame"] = np.zeros((len(values["lengths"]), self.n_mels), np.float32)
        mels, stops, alignments = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
        while not ends.all_stopped:
            found = self.graphs["step"](values)
            values |= {name.removeprefix(NEXT): value for name, value in found.items()}
            values["frame"] = found["mel"][:, -1]
            mels.append(found["mel"])
            stops.append(found["stop"])
            alignments.append(values["attention0"])
            ends.update([stops[-1].tolist()], [alignments[-1].argmax(1).tolist()])
        return mels, stops, alignments
