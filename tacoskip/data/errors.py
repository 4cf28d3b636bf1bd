"""The one exception of this package that means: the work failed, not the request."""


class CorpusError(RuntimeError):
    """A corpus cannot be used as it is; the message is one line and says what to do."""


class LayoutError(CorpusError, ValueError):
    """The folder that was named is no such corpus: the request was wrong."""
