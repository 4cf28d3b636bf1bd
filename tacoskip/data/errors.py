"""Errors of this package: the work failed, or one clip is left out."""


class CorpusError(RuntimeError):
    """A corpus cannot be used as it is; the message is one line and says what to do."""


class LayoutError(CorpusError, ValueError):
    """The folder that was named is no such corpus: the request was wrong."""


class Rejected(Exception):
    """A clip that is left out: `reason` is a code, `detail` a phrase."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail
