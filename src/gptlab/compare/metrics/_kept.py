"""Metrics that are computed of a run: once, and then kept in its folder.

A number is kept with all that it follows from: the metric's settings, the run, and the source that
computes it. Where one of these is another, it is computed anew. A run's own files stay as they are.
"""

import json
import math
from abc import abstractmethod
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import gptlab
from gptlab import files
from gptlab.compare.identity import LENGTH, identity_of
from gptlab.compare.metrics import MeasuredRun, Metric
from gptlab.runs.folder import MAX_JSON_BYTES, RunFolder

FOLDER = "measured"  # in a run's
COMPUTING = ("probes", "compare/metrics")  # what a run's own hash of the source leaves out
Hear = Callable[[int, int], None]


class Kept(Metric):
    """`follows_from`: hashes of what it is computed of, beside the run's settings and text."""

    is_computed = True

    @abstractmethod
    def compute(self, run: RunFolder, hear: Hear) -> float | None:
        """Compute it of a run that is done; `hear` is told how much of the work is behind it."""

    def follows_from(self, run: RunFolder) -> dict[str, str]:
        return {}

    def measure(self, measured: MeasuredRun, hear: Hear = lambda done, most: None) -> float | None:
        """Give what is kept, or compute it. Raises ValueError for what was changed by hand."""
        run, origin = measured.run, self._origin(measured.run)
        file = _file(run, origin)
        kept = files.read_object(file, MAX_JSON_BYTES)
        if kept is None:
            value = self.compute(run, hear)
            kept = origin | {"value": _finite(value)}
            file.parent.mkdir(exist_ok=True)
            content = json.dumps(kept | {"sha256": _hash(kept)}, indent=1)
            files.replace(file, content.encode() + b"\n")
        elif kept.pop("sha256", None) != _hash(kept) or kept != origin | {"value": kept["value"]}:
            raise ValueError(
                f"{file} was changed by hand: its number is not used; remove it, and it is "
                "computed again"
            )
        return kept["value"]

    def is_kept(self, run: RunFolder) -> bool:
        return _file(run, self._origin(run)).exists()

    def _origin(self, run: RunFolder) -> dict[str, Any]:
        return {
            "metric": self.but(margin=None).model_dump(mode="json"),
            "of": {"run": identity_of(run), "code": _code_sha256(), **self.follows_from(run)},
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _file(run: RunFolder, origin: dict[str, Any]) -> Path:
    return run.path / FOLDER / f"{origin['metric']['type']}-{_hash(origin)[:LENGTH]}.json"


def _hash(tree: dict[str, Any]) -> str:
    return sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


@cache
def _code_sha256() -> str:
    root = Path(gptlab.__file__).parent
    sources = [file for folder in COMPUTING for file in sorted((root / folder).rglob("*.py"))]
    return sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()
