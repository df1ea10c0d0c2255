"""What a night's training table was made of. Apart from the code that makes it, so that a verdict can hold it."""

import msgspec


class Labels(msgspec.Struct, frozen=True):
    """What a night's training table holds, and what of the outcomes feed is not in it."""

    night: str
    outcomes: int
    """Readable rows of the feed."""
    later: int
    """Those of them that are dated after the night: they count from their own date on."""
    rejected: int
    """Rows and files of the feed that could not be read, and rows that a later one of their file contradicts."""
    labelled: int
    """Outcomes with a record that they are about."""
    original: int
    rows: int
    """Rows of the training table."""
    unjoined: str = ""
    """Why no outcome can be joined with a record; empty where they can be."""
    origin: str = ""
    """Where the original rows come from."""
    files: int = 0
    """Files of the feed, readable or not."""
    unread: int = 0
    """Files and folders of the feed of which nothing could be read; they are among the rejected."""
    ignored: tuple[str, ...] = ()
    """Hidden files of the feed, and those that a program has open: left out knowingly."""
    gone: tuple[str, ...] = ()
    """Files of the night before that the feed does not hold any more."""
    newest: str = ""
    """The night that saw the feed's newest file first; empty while there was none."""

    @property
    def note(self) -> str:
        """One line for people."""
        read = (
            self.unjoined or f"{self.outcomes} outcomes read ({self.later} of a later date), {self.rejected} rejected"
        )
        return f"night {self.night}: {read}; {self.labelled} labelled records + {self.original} rows of {self.origin}"

    @property
    def unread_share(self) -> float:
        """The share of the feed that was rejected: of its files or of its rows, whichever is larger."""
        rows = self.rejected - self.unread
        return max(rows / max(self.outcomes + rows, 1), self.unread / max(self.files, 1))
