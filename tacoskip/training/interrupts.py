"""SIGINT and SIGTERM end a run between two steps."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Within the block the first SIGINT or SIGTERM is kept in `received` and logged; the second
    raises KeyboardInterrupt at once.

    An ignored signal stays ignored. Does nothing outside the main thread, where Python delivers no
    signals.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self.log, self.received = log, 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt(number)
        self.received = number
        self.log("stopping: this step is finished and saved first; a second signal stops at once")
