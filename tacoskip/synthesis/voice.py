"""Speaking: a trained run in, text in, waveform out.

A text is split into sentences, all sentences of all texts go through the network in batches of
similar length, and the waves are joined again. S symbols, T mel frames, L decoder steps, M mels, F
linear bins, N samples.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacoskip.audio import FrontEnd, GriffinLimStream
from tacoskip.audio.io import write_whole
from tacoskip.blocks import prune
from tacoskip.config import Config
from tacoskip.evaluation.metrics import alignment_warnings
from tacoskip.exported import ExportedRecognizer, ExportedTacotron, is_exported, read_manifest
from tacoskip.models.recognizer import Recognizer
from tacoskip.models.tacotron import Tacotron, TacotronOutput
from tacoskip.recognition.recognizer import SpeechRecognizer
from tacoskip.run_folder import RunError, build_trained, find_checkpoint, load_checkpoint
from tacoskip.text import Tokenizer, split_sentences
from tacoskip.text.subwords import vocabulary_from

SENTENCE_CHARACTERS = 200
SENTENCE_BATCH = 32
PAUSE_SECONDS = 0.12
# A sentence may take this many times the corpus' mean frames a symbol, and a second more, before it
# is cut.
PATIENCE = 2.5
# Attention this long on the last symbol ends a sentence whose stop token failed. While recordings
# last it lies there 0.08 s on average and 0.34 s at most (732 clips, docs/notes/phonemes.md).
REST_SECONDS = 0.5


@dataclass
class Speech:
    """One spoken text: wave (N,) float32, mel (T, M) log10 magnitude, alignment (L, S) over all its
    sentences.

    stopped: every sentence ended by itself. warnings: what went wrong, in plain words.
    """

    text: str
    wave: NDArray[np.float32]
    sample_rate: int
    mel: NDArray[np.float32]
    alignment: NDArray[np.float32]
    stopped: bool
    warnings: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return len(self.wave) / self.sample_rate


@dataclass
class _Sentence:
    """One sentence through the network, still without a wave: mel (T, M), linear (T, F), alignment
    (L, S).
    """

    mel: Tensor
    linear: Tensor
    alignment: Tensor
    stopped: bool


class Voice:
    """A network with all it needs to speak: settings, symbols, speakers.

    frames_per_symbol is the corpus' mean, from which the limit of a sentence's length grows.
    """

    def __init__(
        self,
        model: Tacotron | ExportedTacotron,
        config: Config,
        speakers: list[str],
        frames_per_symbol: float,
    ) -> None:
        self.model = model
        self.config = config
        self.speakers = speakers
        self.frames_per_symbol = frames_per_symbol
        self.device = model.mel_mean.device
        self.tokenizer = Tokenizer(config.text)
        self.front_end = FrontEnd(config.audio)

    @property
    def sample_rate(self) -> int:
        return self.config.audio.sample_rate

    def synthesize(
        self, text: str | list[str], speaker: str | None = None, seed: int = 0
    ) -> "Speech | list[Speech]":
        """Speak one text (returns a Speech) or several in one batch (returns a list).

        The same text, speaker and seed give the same samples. Raises ValueError for an unknown
        speaker or a text with nothing to speak; a character the voice has no symbol for is named in
        a DroppedCharacters warning.
        """
        texts = [text] if isinstance(text, str) else list(text)
        sentences = [self._encode(one) for one in texts]
        spoken = iter(self._speak([ids for group in sentences for ids in group], speaker))
        speeches = [
            self._join(one, [next(spoken) for _ in group], seed)
            for one, group in zip(texts, sentences, strict=True)
        ]
        return speeches[0] if isinstance(text, str) else speeches

    def stream(
        self, text: str, speaker: str | None = None, seed: int = 0, chunk_seconds: float = 0.5
    ) -> Iterator[NDArray[np.float32]]:
        """Speak sentence by sentence: yields waves (N,) as they are ready, phase carried from chunk
        to chunk.
        """
        step = max(1, round(chunk_seconds * self.config.audio.frames_per_second))
        pause = np.zeros(round(PAUSE_SECONDS * self.sample_rate), dtype=np.float32)
        for number, ids in enumerate(self._encode(text)):
            if number:
                yield pause
            (sentence,) = self._speak([ids], speaker)
            for found in alignment_warnings(sentence.alignment.numpy(), sentence.stopped):
                warnings.warn(f"sentence {number + 1}: {found}", stacklevel=2)
            stream = GriffinLimStream(self.config.audio, self.config.griffin_lim, seed=seed)
            for start in range(0, len(sentence.linear), step):
                yield stream.push(sentence.linear[start : start + step])
            yield stream.flush()

    def _encode(self, text: str) -> list[list[int]]:
        """Symbols of each sentence; a text with nothing to speak is an error naming it whole."""
        self.tokenizer.dropped(text)  # raises; each sentence warns of its own dropped characters
        sentences = split_sentences(text, SENTENCE_CHARACTERS)
        # Marks between sentences have nothing to speak; alone, espeak may know a name for a sign.
        spoken = [s for s in sentences if any(c.isalnum() for c in s)]
        return self.tokenizer.encode_many(spoken or [text])

    def _speaker_index(self, speaker: str | None) -> int:
        if speaker is None:
            return 0
        if speaker not in self.speakers:
            near = get_close_matches(speaker, self.speakers, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(
                f"unknown speaker '{speaker}'{hint} (known: {', '.join(self.speakers)})"
            )
        return self.speakers.index(speaker)

    def _speak(self, sentences: list[list[int]], speaker: str | None) -> list[_Sentence]:
        """Run the network over sentences in batches of similar length; the order is kept."""
        index = self._speaker_index(speaker)
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
        done: dict[int, _Sentence] = {}
        self.model.eval()
        for start in range(0, len(order), SENTENCE_BATCH):
            chosen = order[start : start + SENTENCE_BATCH]
            output, lengths = self._infer([sentences[i] for i in chosen], index)
            mel, linear = self.model.restore(output.mel, output.linear)
            for row, i in enumerate(chosen):
                frames = int(output.mel_lengths[row])
                steps = -(-frames // self.model.reduction)
                done[i] = _Sentence(
                    mel[row, :frames].cpu(),
                    linear[row, :frames].cpu(),
                    output.alignments[row, :steps, : lengths[row]].cpu(),
                    bool(output.stopped[row]),
                )
        return [done[i] for i in range(len(sentences))]

    def _infer(self, sentences: list[list[int]], speaker: int) -> tuple[TacotronOutput, list[int]]:
        lengths = [len(ids) for ids in sentences]
        symbols = torch.zeros(len(sentences), max(lengths), dtype=torch.long)
        for row, ids in enumerate(sentences):
            symbols[row, : len(ids)] = torch.tensor(ids)
        sizes = torch.tensor(lengths)
        second = self.config.audio.frames_per_second
        limit = (second + sizes * self.frames_per_symbol * PATIENCE).long()
        speakers = torch.full((len(sentences),), speaker)
        output = self.model.infer(
            symbols.to(self.device),
            sizes.to(self.device),
            speakers.to(self.device),
            limit.to(self.device),
            round(REST_SECONDS * second),
        )
        return output, lengths

    def _join(self, text: str, sentences: list[_Sentence], seed: int) -> Speech:
        """Invert the sentences and put them one after another, a short pause between."""
        lengths = torch.tensor([len(s.linear) for s in sentences])
        linear = torch.nn.utils.rnn.pad_sequence(
            [s.linear for s in sentences], batch_first=True, padding_value=self.front_end.floor
        )
        waves = self.front_end.to_wave(linear, lengths, self.config.griffin_lim, seed=seed)
        pause = torch.zeros(round(PAUSE_SECONDS * self.sample_rate))
        pieces = [piece for wave in waves for piece in (wave.cpu(), pause)][:-1]
        found = []
        for number, sentence in enumerate(sentences, 1):
            where = f"sentence {number}: " if len(sentences) > 1 else ""
            for trouble in alignment_warnings(sentence.alignment.numpy(), sentence.stopped):
                found.append(where + trouble)
        return Speech(
            text=text,
            wave=torch.cat(pieces).numpy(),
            sample_rate=self.sample_rate,
            mel=torch.cat([s.mel for s in sentences]).numpy(),
            alignment=torch.block_diag(*(s.alignment for s in sentences)).numpy(),
            stopped=all(s.stopped for s in sentences),
            warnings=found,
        )


def load(run: str | Path, device: str = "auto") -> Voice | SpeechRecognizer:
    """Load a voice or a recognizer from a run folder, a checkpoint file or a folder of `export`.

    device: auto | cpu | cuda; what was exported runs on the CPU. Raises RunError (a ValueError) for
    a run that is not there, has no checkpoint, or whose checkpoint is damaged or wants to run code.
    """
    if is_exported(run):
        return _load_exported(Path(run))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    path = find_checkpoint(run)
    checkpoint = load_checkpoint(path, device)
    model, config = build_trained(checkpoint, path)
    prune(model)
    if isinstance(model, Recognizer):
        try:
            return SpeechRecognizer(
                model.to(device), config, vocabulary_from(checkpoint.vocabulary)
            )
        except ValueError as error:
            raise RunError(f"{path}: damaged ({error})") from None
    return Voice(model.to(device), config, checkpoint.speakers, checkpoint.frames_per_symbol)


def _load_exported(folder: Path) -> Voice | SpeechRecognizer:
    manifest, config = read_manifest(folder)
    if config.task == "asr":
        recognizer = ExportedRecognizer(folder, manifest, config.asr.subsampling)
        return SpeechRecognizer(recognizer, config, vocabulary_from(manifest.vocabulary))
    tacotron = ExportedTacotron(folder, manifest)
    return Voice(tacotron, config, manifest.speakers, manifest.frames_per_symbol)


def load_voice(run: str | Path, device: str = "auto") -> Voice:
    """Load a run that must be a voice; raises RunError as `load` does."""
    voice = load(run, device)
    if not isinstance(voice, Voice):
        raise RunError(f"{run}: expected a voice, got a recognizer (task=asr); try: transcribe")
    return voice


def load_recognizer(run: str | Path, device: str = "auto") -> SpeechRecognizer:
    """Load a run that must be a recognizer; raises RunError as `load` does."""
    recognizer = load(run, device)
    if not isinstance(recognizer, SpeechRecognizer):
        raise RunError(f"{run}: expected a recognizer, got a voice (task=tts); try: synthesize")
    return recognizer


def plot_speech(speech: Speech, path: str | Path) -> None:
    """Write a picture of a speech: its mel spectrogram above its alignment."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1)
    image = top.imshow(
        speech.mel.T,
        origin="lower",
        aspect="auto",
        extent=(0, speech.seconds, 0, speech.mel.shape[1]),
    )
    title = speech.text if len(speech.text) <= 90 else speech.text[:87] + "..."
    top.set(title=title, xlabel="seconds", ylabel="mel band")
    figure.colorbar(image, ax=top, label="log10 magnitude")
    image = bottom.imshow(
        speech.alignment.T, origin="lower", aspect="auto", interpolation="nearest", vmin=0
    )
    bottom.set(xlabel="decoder step", ylabel="symbol")
    figure.colorbar(image, ax=bottom, label="attention weight")
    picture = BytesIO()
    figure.savefig(picture, dpi=110, format="png")
    write_whole(Path(path), picture.getvalue())
