"""What may be asked of a preparation."""

from dataclasses import dataclass
from pathlib import Path

from gptlab.data.formats import Errors

VAL_FRACTION = 0.01


@dataclass(frozen=True)
class Options:
    """What is asked for. `val_documents` takes the place of `val_fraction`."""

    source: str
    tokenizer: str
    out: Path
    val_fraction: float | None = None
    val_documents: int | None = None
    shard_size: int = 100_000_000
    workers: int | None = None
    limit_documents: int | None = None
    column: str = "text"
    separator: str | None = None
    errors: Errors = "strict"
    dedup: bool = False
    special_tokens: bool = False
    ray: str | None = None

    def check(self) -> None:
        """Raise ValueError for what makes no sense."""
        if not self.source:
            raise ValueError("SOURCE is empty: give a file, a folder, a glob or hf:NAME")
        if self.val_fraction is not None and self.val_documents is not None:
            raise ValueError("--val-fraction and --val-docs: give one of them")
        if self.val_fraction is not None and not 0 < self.val_fraction < 1:
            raise ValueError(f"--val-fraction={self.val_fraction} must be between 0 and 1")
        if self.separator == "":
            raise ValueError("--separator='' is empty: leave it out to take files as documents")
        counts = {
            "--val-docs": self.val_documents,
            "--shard-size": self.shard_size,
            "--workers": self.workers,
            "--limit-docs": self.limit_documents,
        }
        for name, count in counts.items():
            if count is not None and count < 1:
                raise ValueError(f"{name}={count} must be 1 or more")

    @property
    def fraction(self) -> float | None:
        """The fraction of the documents that are for validation, unless they are counted."""
        return None if self.val_documents is not None else self.val_fraction or VAL_FRACTION
