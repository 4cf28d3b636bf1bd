"""Signals between steps: the first waits, the second does not, what was ignored stays so."""

import os
import signal
import threading

import pytest

from tacoskip.training.interrupts import Interrupts


def test_the_first_signal_waits_and_the_second_does_not() -> None:
    said = list[str]()
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts(said.append) as interrupts:
        assert interrupts.received == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.received == signal.SIGTERM
        assert len(said) == 1 and said[0].startswith("stopping")
        with pytest.raises(KeyboardInterrupt) as interrupt:
            os.kill(os.getpid(), signal.SIGTERM)
    assert interrupt.value.args == (signal.SIGTERM,)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts(print) as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.received == 0 and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_left_alone() -> None:
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
