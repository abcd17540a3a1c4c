"""What a study's folder says that it asks, and of which text: another one does not replace it."""

import json
from collections.abc import Sequence
from pathlib import Path

from gptlab import files
from gptlab.compare.arms import Arm
from gptlab.compare.reading import read_study
from gptlab.compare.study import Study
from gptlab.runs.folder import MAX_JSON_BYTES

STUDY, TEXT = "study.yaml", "text.json"


def keep(study: Study, arms: Sequence[Arm], folder: Path) -> None:
    """Write it down."""
    folder.mkdir(parents=True, exist_ok=True)
    files.replace(folder / STUDY, study.to_yaml().encode())
    files.replace(folder / TEXT, json.dumps(_texts(arms), indent=1).encode() + b"\n")


def _texts(arms: Sequence[Arm]) -> dict[str, str]:
    """Give the hash of the text at every size, as the base reads it: variants may have others."""
    return {arm.scale: arm.facts.data_sha256 for arm in arms if not arm.variants}


def refuse_another(study: Study, folder: Path) -> None:
    """Raise ValueError if the folder has the results of a study that asks something else."""
    if not (folder / STUDY).exists():
        return
    try:
        other = read_study(str(folder / STUDY))
    except ValueError as error:
        problem = str(error).splitlines()[0]
        raise _not_told(problem, folder) from None
    if not study.extends(other):
        raise _another("that asks something else", folder)


def refuse_another_text(arms: Sequence[Arm], folder: Path) -> None:
    """Raise ValueError if the folder has results of another text; where it lies does not matter."""
    try:
        kept = files.read_object(folder / TEXT, MAX_JSON_BYTES)
    except ValueError as error:
        raise _not_told(str(error), folder) from None
    if kept is not None and kept != _texts(arms):
        raise _another("of another text", folder)


def _not_told(problem: str, folder: Path) -> ValueError:
    return ValueError(
        f"{problem}; it tells what the results beside it answer: give this study a name of its "
        f"own, --name NAME, or remove {folder}"
    )


def _another(which: str, folder: Path) -> ValueError:
    return ValueError(
        f"{folder} has the results of a study {which}: give this one a name of its own, "
        f"--name NAME, or remove {folder}"
    )
