"""A folder from elsewhere: its JSON files, and its tensors one at a time by memory map.

Nothing in it runs, sizes are bounded, and no name in it leads out of it. (Files may be links: the
cache of `huggingface_hub` is made of them.)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from gptlab import files

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
MAX_JSON_BYTES = 100_000_000
READABLE = ("F64", "F32", "F16", "BF16")


class Folder:
    """A local folder as Hugging Face's tools write it."""

    def __init__(self, path: Path):
        if not path.is_dir():
            raise ValueError(f"{path} is not a folder")
        self.path = path

    def json(self, name: str) -> dict[str, Any] | None:
        """Read an object, None if there is no such file. Raises ValueError if it is damaged."""
        return files.read_object(self.path / name, MAX_JSON_BYTES)

    def config(self) -> dict[str, Any]:
        """Read config.json, which must be there."""
        config = self.json(CONFIG)
        if config is None:
            raise ValueError(f"{self.path} is not a Hugging Face model: it has no {CONFIG}")
        return config

    def shards(self) -> list[Path]:
        """Find the files that hold the tensors."""
        if (self.path / WEIGHTS).exists():
            return [self.path / WEIGHTS]
        index = self.json(INDEX)
        if index is None:
            self._refuse_pickles()
            raise ValueError(f"{self.path} holds no weights: neither {WEIGHTS} nor {INDEX}")
        match index:
            case {"weight_map": dict(names)} if all(isinstance(n, str) for n in names.values()):
                return [self._shard(name) for name in sorted(set(names.values()))]
        raise ValueError(f"{self.path / INDEX}: damaged: it maps no tensors to files")

    def _shard(self, name: str) -> Path:
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise ValueError(
                f"{self.path / INDEX}: {name!r} is not the name of a safetensors file beside it"
            )
        if not (self.path / name).is_file():
            raise ValueError(f"{self.path / name} is missing; {INDEX} names it")
        return self.path / name

    def _refuse_pickles(self) -> None:
        pickles = sorted(file.name for kind in PICKLES for file in self.path.glob(kind))
        if pickles:
            raise ValueError(
                f"{self.path / pickles[0]} is a pickle, which can run code when it is read; "
                "gptlab reads safetensors: convert it first, in a place where that is safe"
            )


def shapes(shard: Path) -> dict[str, tuple[int, ...]]:
    """Read names and shapes. Raises ValueError for a damaged file, or numbers of another kind."""
    found = {}
    with opened(shard) as file:
        for name in file.keys():  # noqa: SIM118 (it is no dictionary)
            piece = file.get_slice(name)
            if piece.get_dtype() not in READABLE:
                raise ValueError(
                    f"{shard}: {name} is stored as {piece.get_dtype()}; gptlab reads "
                    f"{', '.join(READABLE)}, so a quantized model must be converted first"
                )
            found[name] = tuple(piece.get_shape())
    return found


def tensors(shard: Path) -> Iterator[tuple[str, Tensor]]:
    """Give one tensor after the other, each as a view of the file."""
    with opened(shard) as file:
        for name in file.keys():  # noqa: SIM118
            yield name, file.get_tensor(name)


@contextmanager
def opened(shard: Path) -> Iterator[Any]:
    """Open a safetensors file by memory map."""
    try:
        with safe_open(shard, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{shard}: damaged: {error}") from None
    except OSError as error:
        raise ValueError(f"{shard}: cannot be read ({error.strerror or error})") from None
