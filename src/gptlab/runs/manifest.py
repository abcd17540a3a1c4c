"""The manifest of a checkpoint: what tells a whole one from a damaged one.

`MANIFEST.json` lists every file's size and sha256. It is written last, and accepted only byte for
byte as it would be written: a flipped bit anywhere in a checkpoint is either in a file whose
sha256 then differs, or in the manifest, which then says something that is not so.
"""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gptlab import files

FORMAT = 1
MANIFEST = "MANIFEST.json"
STATE = "state.json"
TENSORS = ".safetensors"
MAX_JSON_BYTES = 4_000_000


class Content(BaseModel):
    """What a file must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        return cls(size=files.size(path), sha256=files.digest(path))

    def compare_size(self, path: Path) -> None:
        if files.size(path) != self.size:
            raise ValueError(
                f"{path.name} has {files.size(path):,} bytes, {MANIFEST} says {self.size:,}"
            )

    def compare_sha256(self, path: Path) -> None:
        if files.digest(path) != self.sha256:
            raise ValueError(f"{path.name} is not what was written (its sha256 differs)")


class Manifest(BaseModel):
    """What a checkpoint must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: int
    step: Annotated[int, Field(ge=0)]
    files: dict[Annotated[str, Field(pattern=r"^(state\.json|[a-z_]+\.safetensors)$")], Content]

    def write(self) -> bytes:
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what `write` wrote, and nothing but exactly that."""
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = "".join(f"{step}: " for step in problem["loc"])
            raise ValueError(f"{MANIFEST}: {place}{problem['msg']}") from None
        if manifest.format != FORMAT:
            raise ValueError(f"{MANIFEST} has format {manifest.format}, this gptlab reads {FORMAT}")
        if STATE not in manifest.files:
            raise ValueError(f"{MANIFEST} does not list {STATE}")
        if manifest.write() != data:
            raise ValueError(f"{MANIFEST} is not what was written")
        return manifest

    def groups(self, only: Collection[str] | None = None) -> list[str]:
        """Name the groups of tensors, all or `only` these."""
        names = [name.removesuffix(TENSORS) for name in self.files if name != STATE]
        return [name for name in names if only is None or name in only]


def folder_name(step: int) -> str:
    return f"step-{step:08d}"


def verify(path: Path, only: Collection[str] | None = None) -> Manifest:
    """Compare a checkpoint with its manifest. Raises ValueError saying what is wrong.

    `only`: leave out the sha256 of the other groups of tensors.
    """
    if path.is_symlink() or not path.is_dir():
        raise ValueError(f"{path} is not a checkpoint's folder")
    try:
        manifest = Manifest.parse(files.read(path / MANIFEST, MAX_JSON_BYTES))
        if path.name != folder_name(manifest.step):
            raise ValueError(f"it is of step {manifest.step}, not what its folder is named")
        _compare_names(path, manifest)
        for name, content in manifest.files.items():
            content.compare_size(path / name)
        for name in [STATE, *(f"{group}{TENSORS}" for group in manifest.groups(only))]:
            manifest.files[name].compare_sha256(path / name)
    except (ValueError, OSError) as error:
        raise damaged(path, error) from None
    absent = set(only or ()) - set(manifest.groups())
    if absent:
        raise ValueError(f"checkpoint {path} has no tensors named {', '.join(sorted(absent))}")
    return manifest


def is_valid(path: Path) -> bool:
    """Tell whether there is a whole checkpoint."""
    try:
        verify(path)
    except ValueError:
        return False
    return True


def damaged(path: Path, error: Exception) -> ValueError:
    """Phrase what is wrong with a checkpoint."""
    what = str(error)
    if isinstance(error, OSError):
        file = Path(error.filename).name if isinstance(error.filename, str) else "a file"
        what = f"{file} cannot be read ({files.reason(error)})"
    return ValueError(f"checkpoint {path} is damaged: {what}")


def _compare_names(path: Path, manifest: Manifest) -> None:
    """Refuse missing and unknown files; hidden ones (.DS_Store) are an operating system's own."""
    present = {name for name in os.listdir(path) if not name.startswith(".")}
    expected = {MANIFEST, *manifest.files}
    problems = [f"{name} is missing" for name in sorted(expected - present)]
    problems += [f"{name} is not in {MANIFEST}" for name in sorted(present - expected)]
    if problems:
        raise ValueError(", ".join(problems))
