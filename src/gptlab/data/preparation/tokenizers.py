"""Tokenizers by name: a folder with a tokenizer.json, a run's folder, or `byte`."""

from pathlib import Path

from gptlab.config import variant_names
from gptlab.plain_yaml import read_yaml_file
from gptlab.tokenizer import FILE, Encoder, Tokenizer


def open_tokenizer(given: str) -> tuple[Tokenizer, Encoder]:
    """Open a tokenizer, with the settings that load it. Raises ValueError for anything else."""
    if given == "byte":
        byte = Tokenizer.parse("byte")
        return byte, byte.train([])
    folder = Path(given)
    if (folder / "config.yaml").is_file():
        tree = read_yaml_file(folder / "config.yaml")
        tokenizer = Tokenizer.parse(tree["tokenizer"])
        return tokenizer, tokenizer.load(folder / "tokenizer")
    if not (folder / FILE).is_file():
        raise ValueError(
            f"--tokenizer={given}: neither `byte` nor a folder with {FILE}, nor a run's folder"
        )
    return _recognised(folder)


def _recognised(folder: Path) -> tuple[Tokenizer, Encoder]:
    """Find the settings under which a tokenizer.json is what was saved."""
    variants = [Tokenizer.parse(name) for name in variant_names(Tokenizer)]
    others = [bpe.but(pattern="gpt4") for bpe in variants if bpe.variant == "bpe"]
    for tokenizer in variants + others:
        try:
            return tokenizer, tokenizer.load(folder)
        except ValueError:
            continue
    raise ValueError(f"--tokenizer={folder}: {FILE} is not what gptlab writes")
