"""The environment of a run: what it ran on and with, written beside its results."""

import subprocess
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

import gptlab
from gptlab import machine
from gptlab.data.corpus import Corpus
from gptlab.tokenizer import Encoder

BESIDE_TRAINING = (
    "__main__.py",
    "cli",
    "show",
    "bench",
    "compare",
    "probes",
    "interop",
    "recipes",
)


def describe_environment(
    corpus: Corpus, encoder: Encoder, device: torch.device, precision: str, kernels: list[str]
) -> dict[str, Any]:
    """Collect versions, the machine, the code's commit, and hashes of code, data and tokenizer."""
    return {
        "gptlab": gptlab.__version__,
        "git_commit": git_commit(),
        "code_sha256": code_sha256(),
        "data_sha256": corpus.fingerprint,
        "tokenizer_sha256": encoder.fingerprint(),
        "text_bytes": corpus.n_bytes,
        "val_bytes": corpus.val_bytes,
        "device": device.type,
        "precision": precision,
        "kernels": kernels,
        "machine": machine.describe(),
    }


@cache
def code_sha256() -> str:
    """Hash the source that a run's numbers depend on: all of gptlab that training imports."""
    root = Path(gptlab.__file__).parent
    digest = sha256()
    for file in sorted(root.rglob("*.py")):
        place = file.relative_to(root)
        if place.parts[0] not in BESIDE_TRAINING:
            digest.update(f"{place.as_posix()} {sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def git_commit() -> str | None:
    """Name the commit of gptlab's source, with `+changes` if it was edited; None outside git."""
    folder = Path(gptlab.__file__).parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not git("ls-files", "config.py"):  # installed inside somebody else's repository
            return None
        commit = git("rev-parse", "HEAD")
        return f"{commit}+changes" if git("status", "--porcelain", "--", ".") else commit
    except (OSError, subprocess.CalledProcessError):
        return None
