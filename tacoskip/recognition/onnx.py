"""A recognizer exported to ONNX, in place of the `Recognizer` of a `SpeechRecognizer`.

network.onnx     mel (B, T, M), lengths (B,) -> log_probs (B, L, V), steps (B,)
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from tacoskip.models.recognizer import RecognizerOutput
from tacoskip.run_folder.exported import ExportManifest, OnnxGraph


class OnnxRecognizer(nn.Module):
    """The graph of a recognizer behind `Recognizer.forward`; it has no `memory` and no speller."""

    mel_mean: Tensor
    speller = None

    def __init__(self, folder: Path, manifest: ExportManifest) -> None:
        super().__init__()
        self.subsampling = manifest.config["asr"]["subsampling"]
        self.graph = OnnxGraph(folder / manifest.graphs["network"])
        self.register_buffer("mel_mean", torch.zeros(1))  # tells the device

    def forward(self, mel: Tensor, mel_lengths: Tensor) -> RecognizerOutput:
        """Log mels (B, T, M), mel_lengths (B,) -> log probabilities."""
        found = self.graph({"mel": mel.numpy(), "lengths": mel_lengths.numpy()})
        log_probs = torch.from_numpy(found["log_probs"])
        return RecognizerOutput(log_probs, torch.empty(0), torch.from_numpy(found["steps"]))
