"""What is wrong with a data file, as the job tells it."""

import msgspec


class DataFault(msgspec.Struct, frozen=True):
    """One thing that is wrong: in which column (or ``file``, ``table``), in how many rows, and what."""

    column: str
    rows: int | None
    """``None`` where the fault is not one of single rows."""
    message: str

    def __str__(self) -> str:
        counted = "" if self.rows is None else f"{self.rows} row{'' if self.rows == 1 else 's'}: "
        return f"{self.column}: {counted}{self.message}"


class DataError(ValueError):
    """Raised when a data file cannot be read or breaks the data contract; ``faults`` lists all of them.

    ``consequence`` says what does not happen because of them.
    """

    def __init__(
        self, location: str, faults: list[DataFault], consequence: str = "nothing is trained or registered"
    ) -> None:
        self.faults = faults
        lines = "\n".join(f"  - {fault}" for fault in faults)
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__(f"the data file {location} has {count}; {consequence}:\n{lines}")
