"""A trained recognizer: a wave, a file of hours or many files in, transcripts out.

N samples, T mel frames, L encoder frames, V tokens of the vocabulary, C channels.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tacoskip.audio import FrontEnd, stream_audio
from tacoskip.audio.io import broken_samples, check_rate
from tacoskip.config import Config
from tacoskip.models.recognizer import Recognizer
from tacoskip.models.speller import CTC_WEIGHT
from tacoskip.recognition.beam import BeamDecoder, BeamSettings, rescore
from tacoskip.recognition.decode import Token, align_tokens, greedy
from tacoskip.recognition.long_audio import Recording, Segmenter, Window
from tacoskip.recognition.transcript import Transcript, words_of
from tacoskip.run_folder.exported import OnnxRecognizer
from tacoskip.text.subwords import Vocabulary

BATCH_SECONDS = 80.0  # of the windows that go through the network together
RESCORED_TEXTS = 8  # that the attention decoder chooses from


class SpeechRecognizer:
    """A network with its settings and vocabulary.

    Until `search` is called it decodes the likeliest token of each frame or, with an attention
    decoder (asr.decoder=attention), the best of RESCORED_TEXTS texts.
    """

    def __init__(
        self, model: Recognizer | OnnxRecognizer, config: Config, vocabulary: Vocabulary
    ) -> None:
        self.model = model.eval()
        self.config = config
        self.vocabulary = vocabulary
        self.front_end = FrontEnd(config.audio)
        self.device = model.mel_mean.device
        self.sample_rate = config.audio.sample_rate
        self.frame_samples = model.subsampling * config.audio.hop_length  # of an encoder frame
        self.frame_seconds = self.frame_samples / self.sample_rate
        self.decode: Callable[[Tensor], list[Token]] = greedy
        self.decoding = "greedy"
        if model.speller is not None:
            self.search(BeamSettings(size=RESCORED_TEXTS))

    def search(self, beam: BeamSettings) -> None:
        """Decode by beam search from now on.

        Raises ValueError for a language model that cannot be used.
        """
        self.decoding = f"beam {beam.size}"
        if self.model.speller is None:
            self.decode = BeamDecoder(self.vocabulary, beam)
        else:
            decoder = BeamDecoder(self.vocabulary, beam, nbest=min(RESCORED_TEXTS, beam.size))
            n = len(self.vocabulary)
            self.decode = lambda rows: rescore(
                decoder, self._spelling_scores, CTC_WEIGHT, rows[:, :n], rows[:, n:]
            )
            self.decoding += ", rescored"
        if beam.lm:
            self.decoding += f", {Path(beam.lm).name} x {beam.lm_weight:g}"

    def posteriors(self, waves: Sequence[NDArray[np.float32]]) -> list[Tensor]:
        """Return log probabilities (L, V) of each wave (N,), on the CPU, computed in one batch."""
        return [rows[:, : len(self.vocabulary)] for rows in self._rows(waves)]

    @torch.inference_mode()
    def _rows(self, waves: Sequence[NDArray[np.float32]]) -> list[Tensor]:
        """Posteriors (L, V); with an attention decoder (L, V + C), the encoder's memory beside."""
        mels = [self.front_end.features(torch.from_numpy(wave))[1] for wave in waves]
        lengths = torch.tensor([len(mel) for mel in mels])
        mel = pad_sequence(mels, batch_first=True)
        output = self.model(mel.to(self.device), lengths.to(self.device))
        rows = output.log_probs
        if rows.isnan().any():
            raise ValueError("expected finite posteriors, got NaN; the weights are damaged")
        if self.model.speller is not None:
            rows = torch.cat([rows, output.memory.float()], 2)
        counts = output.lengths.tolist()
        return [row[:count].cpu() for row, count in zip(rows, counts, strict=True)]

    @torch.inference_mode()
    def _spelling_scores(self, memory: Tensor, texts: list[list[int]]) -> Tensor:
        assert self.model.speller is not None
        return self.model.speller.score(memory.to(self.device), texts).cpu()

    def transcribe(
        self, audio: str | Path | ArrayLike, sample_rate: int | None = None
    ) -> Transcript:
        """Transcribe a file, or a wave (N,) at `sample_rate` (by default the recognizer's).

        Raises ValueError, in one line, for a file that cannot be read, a rate that no recording
        has, and a wave without samples, of integers or with NaN.
        """
        if isinstance(audio, str | Path):
            (found,) = self.transcribe_files([audio])
        else:
            wave = np.asarray(audio.detach().cpu() if isinstance(audio, Tensor) else audio)
            if wave.ndim != 1 or not wave.size or wave.dtype.kind != "f":
                got = f"{wave.dtype} of shape {wave.shape}"
                raise ValueError(f"expected a wave (N,) with floating point samples, got {got}")
            wave = wave.astype(np.float32)
            if broken := broken_samples(wave[:, None]):
                raise ValueError(f"expected finite samples, got {broken} NaN, infinite or beyond")
            if sample_rate is not None and sample_rate != self.sample_rate:
                check_rate("wave", sample_rate)
                import soxr

                wave = soxr.resample(wave, sample_rate, self.sample_rate)
            (found,) = self.transcribe_waves([wave])
        if found.error:
            raise ValueError(found.error)
        return found

    def transcribe_files(self, paths: Iterable[str | Path]) -> Iterator[Transcript]:
        """Yield the transcript of each file, in their order, as soon as it is complete.

        Windows of several files go through the network together; memory does not grow with their
        length. A file that cannot be read has an `error` and stops none of the others.
        """
        return self._transcripts(
            (str(path), stream_audio(path, self.sample_rate)) for path in paths
        )

    def transcribe_waves(self, waves: Iterable[NDArray[np.float32]]) -> Iterator[Transcript]:
        """Yield the transcript of each wave (N,) at the recognizer's rate, several in a batch."""
        return self._transcripts(("wave", [wave]) for wave in waves)

    def align(self, audio: str | Path, text: str) -> Transcript:
        """Return a known text with the times of its words in a file (forced alignment).

        The words' confidences tell how well the text fits. Raises ValueError for a file that cannot
        be read or is too short for the text, and for a text without letters.
        """
        recording = self._recording(str(audio), stream_audio(audio, self.sample_rate))
        rows = [
            self.posteriors([window.wave])[0][window.keep : window.end]
            for window in recording.windows
        ]
        tokens = align_tokens(torch.cat(rows), self.vocabulary.encode(text))
        recording.words = words_of(tokens, self.vocabulary.symbols, self.frame_seconds)
        return recording.transcript()

    def _recording(self, source: str, blocks: Iterable[NDArray[np.float32]]) -> Recording:
        symbols = self.vocabulary.symbols
        silent = [i for i, text in enumerate(symbols) if i == 0 or text == " "]
        segmenter = Segmenter(self.frame_seconds, silent, len(symbols))
        return Recording(source, blocks, self.sample_rate, self.frame_samples, segmenter)

    def _transcripts(
        self, sources: Iterable[tuple[str, Iterable[NDArray[np.float32]]]]
    ) -> Iterator[Transcript]:
        queue: deque[Recording] = deque()
        batch: list[tuple[Recording, Window]] = []
        for source, blocks in sources:
            recording = self._recording(source, blocks)
            queue.append(recording)
            try:
                for window in recording.windows:
                    batch.append((recording, window))
                    recording.pending += 1
                    samples = sum(len(window.wave) for _, window in batch)
                    if samples >= BATCH_SECONDS * self.sample_rate:
                        self._recognize(batch)
                        batch.clear()
            except OSError as error:
                recording.error = f"{source}: {error.strerror}"
            except ValueError as error:
                recording.error = str(error)
            recording.is_read = True
            while queue and queue[0].is_read and not queue[0].pending:
                yield self._finish(queue.popleft())
        self._recognize(batch)
        for recording in queue:
            yield self._finish(recording)

    def _recognize(self, batch: list[tuple[Recording, Window]]) -> None:
        """Run windows through the network and decode the segments that they complete."""
        found = self._rows([window.wave for _, window in batch]) if batch else []
        for (recording, window), rows in zip(batch, found, strict=True):
            self._decode(recording, recording.segmenter.push(rows[window.keep : window.end]))
            recording.pending -= 1

    def _decode(self, recording: Recording, segments: Iterable[tuple[int, Tensor]]) -> None:
        symbols, second = self.vocabulary.symbols, self.frame_seconds
        for first, rows in segments:
            recording.words += words_of(self.decode(rows), symbols, second, first * second)

    def _finish(self, recording: Recording) -> Transcript:
        if not recording.error:
            self._decode(recording, recording.segmenter.flush())
        return recording.transcript()
