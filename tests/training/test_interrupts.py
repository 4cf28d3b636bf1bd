"""Signals between steps."""

import os
import signal
import threading

import pytest

from tacoskip.training.interrupts import Interrupts


def test_second_signal_interrupts_at_once() -> None:
    messages = list[str]()
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts(messages.append) as interrupts:
        assert interrupts.received == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.received == signal.SIGTERM
        assert len(messages) == 1 and messages[0].startswith("stopping")
        with pytest.raises(KeyboardInterrupt) as interrupt:
            os.kill(os.getpid(), signal.SIGTERM)
    assert interrupt.value.args == (signal.SIGTERM,)
    assert signal.getsignal(signal.SIGTERM) == before


def test_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts(print) as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.received == 0 and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_keep_their_handlers() -> None:
    handler, failed = signal.getsignal(signal.SIGTERM), list[BaseException]()

    def enter() -> None:
        try:
            with Interrupts(print):
                assert signal.getsignal(signal.SIGTERM) == handler
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert failed == []
