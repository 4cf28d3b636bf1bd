"""A picture of a speech."""

from pathlib import Path

import numpy as np

from tacoskip.files import save_figure
from tacoskip.synthesis.speech import Speech
from tacoskip.text.symbols import END

NAMED_SYMBOLS = 120  # more than these do not fit on the axis of a picture
DRAWN_SYMBOLS = 2000


def plot_speech(speech: Speech, path: str | Path) -> None:
    """Write a png of a speech: its mel spectrogram above its alignment to the symbols."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    named = len(speech.symbols) <= NAMED_SYMBOLS
    height = 3.5 + (max(3.0, 0.13 * len(speech.symbols)) if named else 3.0)
    figure = Figure(figsize=(9, height), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, height_ratios=[3.2, height - 3.2])
    title = speech.text if len(speech.text) <= 90 else speech.text[:87] + "..."
    seconds = sum(one.end - one.start for one in speech.sentences)  # the mel has no pauses
    extent = 0, seconds, 0, speech.mel.shape[1]
    image = top.imshow(speech.mel.T, origin="lower", aspect="auto", extent=extent)
    top.set(title=title, xlabel="seconds of speech", ylabel="mel band")
    figure.colorbar(image, ax=top, label="log10 magnitude")
    bottom.set(title="attention to the text", xlabel="decoder step", ylabel="symbol")
    if len(speech.symbols) > DRAWN_SYMBOLS:  # the matrix grows with their square
        sizes = np.cumsum([0, *(one.shape[1] for one in speech.alignments)])
        pairs = zip(speech.alignments, sizes, strict=False)
        bottom.plot(np.concatenate([one.argmax(axis=1) + start for one, start in pairs]))
        save_figure(figure, path)
        return
    image = bottom.imshow(
        speech.alignment.T, origin="lower", aspect="auto", interpolation="nearest", vmin=0
    )
    if named and speech.symbols:
        names = [{" ": "space", END: "end"}.get(symbol, symbol) for symbol in speech.symbols]
        bottom.set_yticks(range(len(names)), names, fontsize=7)
    figure.colorbar(image, ax=bottom, label="attention weight")
    save_figure(figure, path)
