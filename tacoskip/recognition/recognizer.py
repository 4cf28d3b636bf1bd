"""A trained recognizer with all it needs to listen: to a wave, a file of hours, many files.

N samples, T mel frames, L encoder frames, U units.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tacoskip.audio import FrontEnd, stream_audio
from tacoskip.config import Config
from tacoskip.exported import ExportedRecognizer
from tacoskip.models.recognizer import Recognizer
from tacoskip.recognition.align import forced_units
from tacoskip.recognition.beam import BeamDecoder, BeamSettings, Rescorer
from tacoskip.recognition.decode import Unit, Word, confidence, greedy, words_of
from tacoskip.recognition.windows import Segmenter, Window, windows
from tacoskip.text.subwords import Vocabulary

# Windows that go through the network together.
BATCH_SECONDS = 80.0
# Texts that a speller chooses from.
SPELLED = 8


@dataclass
class Transcript:
    """What was heard in a recording of `seconds`: text, and its words with times.

    error: why the file could not be read, in one line; then nothing of it was kept.
    """

    source: str
    text: str
    seconds: float
    words: list[Word] = field(default_factory=list)
    error: str = ""

    @property
    def confidence(self) -> float:
        """Geometric mean of the words' confidences; 0 where nothing was heard."""
        return confidence(self.words)


class _Recording:
    """One recording on its way: what was read of it, what was heard in it."""

    def __init__(
        self, source: str, blocks: Iterable[NDArray[np.float32]], own: "SpeechRecognizer"
    ) -> None:
        self.source, self._blocks = source, blocks
        self.segmenter = Segmenter(own.frame_seconds, own.silent, len(own.vocabulary))
        self.windows = windows(self._counted(), own.sample_rate, own.frame_samples)
        self.words: list[Word] = []
        self.samples, self.waiting = 0, 0  # waiting: windows that are not heard yet
        self.read, self.error = False, ""

    def _counted(self) -> Iterator[NDArray[np.float32]]:
        for block in self._blocks:
            self.samples += len(block)
            yield block


class SpeechRecognizer:
    """A network, its settings and its units. Until `search` is called, it takes the best unit of
    each frame, or, with a speller, the best of SPELLED texts.
    """

    def __init__(
        self, model: Recognizer | ExportedRecognizer, config: Config, vocabulary: Vocabulary
    ) -> None:
        self.model = model.eval()
        self.config = config
        self.vocabulary = vocabulary
        self.front_end = FrontEnd(config.audio)
        self.device = model.mel_mean.device
        self.silent = [i for i, text in enumerate(self.vocabulary.symbols) if i == 0 or text == " "]
        self.decode: Callable[[Tensor], list[Unit]] = greedy
        self.decoding = "greedy"
        if model.speller is not None:
            self.search(BeamSettings(size=SPELLED))

    def search(self, beam: BeamSettings) -> None:
        """Decode by beam search from now on. Raises ValueError for a language model that is not
        there.
        """
        self.decoding = f"beam {beam.size}"
        speller = self.model.speller
        self.decode = decoder = BeamDecoder(
            self.vocabulary, beam, nbest=1 if speller is None else min(SPELLED, beam.size)
        )
        if speller is not None:
            rescorer = Rescorer(decoder, self._spelled, self.config.asr.ctc_weight)
            self.decode = partial(self._split, rescorer)
            self.decoding += ", respelled"
        if beam.lm:
            self.decoding += f", {Path(beam.lm).name} x {beam.lm_weight:g}"

    @property
    def sample_rate(self) -> int:
        return self.config.audio.sample_rate

    @property
    def frame_samples(self) -> int:
        """Samples from one encoder frame to the next."""
        return self.model.subsampling * self.config.audio.hop_length

    @property
    def frame_seconds(self) -> float:
        return self.frame_samples / self.sample_rate

    def posteriors(self, waves: Sequence[NDArray[np.float32]]) -> list[Tensor]:
        """Return log probabilities (L, U) of each wave (N,), on the CPU, computed in one batch."""
        return [rows[:, : len(self.vocabulary)] for rows in self._rows(waves)]

    @torch.inference_mode()
    def _rows(self, waves: Sequence[NDArray[np.float32]]) -> list[Tensor]:
        """Posteriors, beside them the memory that a speller reads: (L, U) or (L, U + C)."""
        mels = [self.front_end.features(torch.from_numpy(wave))[1] for wave in waves]
        lengths = torch.tensor([len(mel) for mel in mels])
        output = self.model(
            pad_sequence(mels, batch_first=True).to(self.device), lengths.to(self.device)
        )
        rows = output.log_probs
        if self.model.speller is not None:
            rows = torch.cat([rows, output.memory.float()], 2)
        counts = output.lengths.tolist()
        return [row[:count].cpu() for row, count in zip(rows, counts, strict=True)]

    def _split(self, rescorer: Rescorer, rows: Tensor) -> list[Unit]:
        n_units = len(self.vocabulary)
        return rescorer(rows[:, :n_units], rows[:, n_units:])

    @torch.inference_mode()
    def _spelled(self, memory: Tensor, texts: list[list[int]]) -> Tensor:
        assert self.model.speller is not None
        return self.model.speller.score(memory.to(self.device), texts).cpu()

    def transcribe(
        self, audio: str | Path | ArrayLike, sample_rate: int | None = None
    ) -> Transcript:
        """Write down what is said in a file, or in a wave (N,) at `sample_rate` (by default ours).

        Raises ValueError, in one line, for a file that cannot be read or a wave without samples.
        """
        if isinstance(audio, str | Path):
            (found,) = self.transcribe_files([audio])
        else:
            wave = np.asarray(audio, dtype=np.float32)
            if wave.ndim != 1 or not wave.size:
                raise ValueError(f"expected a wave (N,) with samples, got shape {wave.shape}")
            if sample_rate is not None and sample_rate != self.sample_rate:
                import soxr

                wave = soxr.resample(wave, sample_rate, self.sample_rate)
            (found,) = self.transcribe_waves([wave])
        if found.error:
            raise ValueError(found.error)
        return found

    def transcribe_files(self, paths: Iterable[str | Path]) -> Iterator[Transcript]:
        """Yield the transcript of each file, in their order, as soon as it is whole.

        Windows of several files go through the network together; memory does not grow with their
        length. A file that cannot be read has an `error` and stops none of the others.
        """
        return self._transcripts(
            (str(path), stream_audio(path, self.sample_rate)) for path in paths
        )

    def transcribe_waves(self, waves: Iterable[NDArray[np.float32]]) -> Iterator[Transcript]:
        """Yield the transcript of each wave (N,) at our rate, several of them in a batch."""
        return self._transcripts(("wave", [wave]) for wave in waves)

    def align(self, audio: str | Path, text: str) -> Transcript:
        """Say when each word of a known text is spoken in a file; their confidence tells how well
        it fits.

        Raises ValueError for a file that cannot be read or is too short for the text, and for a
        text without letters.
        """
        recording = _Recording(str(audio), stream_audio(audio, self.sample_rate), self)
        kept = [
            self.posteriors([window.wave])[0][window.keep : window.end]
            for window in recording.windows
        ]
        units = forced_units(torch.cat(kept), self.vocabulary.encode(text))
        recording.words = words_of(units, self.name, self.frame_seconds)
        return self._transcript(recording)

    def _transcripts(
        self, sources: Iterable[tuple[str, Iterable[NDArray[np.float32]]]]
    ) -> Iterator[Transcript]:
        queue: deque[_Recording] = deque()
        pending: list[tuple[_Recording, Window]] = []
        for source, blocks in sources:
            recording = _Recording(source, blocks, self)
            queue.append(recording)
            try:
                for window in recording.windows:
                    pending.append((recording, window))
                    recording.waiting += 1
                    held = sum(len(window.wave) for _, window in pending)
                    if held >= BATCH_SECONDS * self.sample_rate:
                        self._hear(pending)
                        pending.clear()
            except ValueError as error:
                recording.error = str(error)
            recording.read = True
            while queue and queue[0].read and not queue[0].waiting:
                yield self._transcript(queue.popleft())
        self._hear(pending)
        for recording in queue:
            yield self._transcript(recording)

    def _hear(self, pending: list[tuple[_Recording, Window]]) -> None:
        """Run windows through the network and decode the segments that they complete."""
        found = self._rows([window.wave for _, window in pending]) if pending else []
        for (recording, window), rows in zip(pending, found, strict=True):
            for segment in recording.segmenter.push(rows[window.keep : window.end]):
                self._decode(recording, *segment)
            recording.waiting -= 1

    def _decode(self, recording: _Recording, first: int, rows: Tensor) -> None:
        recording.words += words_of(
            self.decode(rows), self.name, self.frame_seconds, first * self.frame_seconds
        )

    def _transcript(self, recording: _Recording) -> Transcript:
        seconds = recording.samples / self.sample_rate
        if recording.error:
            return Transcript(recording.source, "", seconds, [], recording.error)
        for segment in recording.segmenter.flush():
            self._decode(recording, *segment)
        text = " ".join(word.text for word in recording.words)
        return Transcript(recording.source, text, seconds, recording.words)

    def name(self, unit: int) -> str:
        """The text of a unit."""
        return self.vocabulary.symbols[unit]
