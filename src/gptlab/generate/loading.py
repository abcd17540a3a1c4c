"""Opening a trained run."""

import warnings
from itertools import chain
from pathlib import Path

import torch

from gptlab import machine
from gptlab.config import Config
from gptlab.generate import quantization
from gptlab.generate.language_model import LanguageModel
from gptlab.model.gpt import GPT, Model
from gptlab.model.weights import fit_weights
from gptlab.runs import checkpoint as checkpoints
from gptlab.runs.folder import RunFolder
from gptlab.tokenizer import Tokenizer


class Saved(Config):
    """What is needed of a run's config.yaml."""

    model: Model
    tokenizer: Tokenizer


def load(
    path: str | Path, checkpoint: str = "last", device: str = "auto", quantize: str = "none"
) -> LanguageModel:
    """Open a run folder as a model that writes text.

    checkpoint: `last`, `best` (the lowest validation loss of those that exist) or a step's number.
    device: `auto` takes a GPU by CUDA if there is one, else the CPU; or cpu, cuda, mps.
    quantize: `none`, `bf16` or `int8`, the form of the weights of products, on a CPU only; `auto`
    takes bf16 for large models where that is faster.
    Warns of damaged checkpoints that `last` passes over. Raises ValueError for a folder without a
    run, a tokenizer that is not the run's, a checkpoint that is missing, damaged or of another
    architecture, a device that this machine does not have, and `quantize` elsewhere.
    """
    place = machine.choose_device(device, "--device")
    run = RunFolder.open(path)
    tree = run.config_tree()
    config = Saved.parse({name: tree[name] for name in Saved.model_fields if name in tree})
    tokenizer = config.tokenizer.load(run.tokenizer)
    run.check_tokenizer(tokenizer.fingerprint())
    model = _read(config.model, find_checkpoint(run, checkpoint)).to(place).eval()
    quantization.quantize(model, quantization.choose(quantize, model))
    return LanguageModel(model, tokenizer, tree)


def _read(model: Model, checkpoint: Path) -> GPT:
    saved = checkpoints.load(checkpoint, only=("model",))
    with torch.device("meta"):  # shapes only: every value comes from the checkpoint
        gpt = GPT(model)
    fit_weights(gpt, saved.tensors["model"], str(saved.path), assign=True)
    left = [x.shape for x in chain(gpt.parameters(), gpt.buffers()) if x.is_meta]
    assert not left, f"tensors without values: {left}"
    return gpt


def find_checkpoint(run: RunFolder, which: str) -> Path:
    """Find the checkpoint named `last`, `best` or by its step."""
    steps = dict(checkpoints.every(run.checkpoints))
    if not steps:
        raise ValueError(f"{run.path} has no checkpoint yet: train it until its first one")
    if which == "last":
        newest = checkpoints.newest(run.checkpoints, warnings.warn)
        if newest is None:
            raise ValueError(f"{run.path}: its checkpoints are all damaged ({len(steps)} of them)")
        return newest
    if which == "best":
        best = run.best_step(steps)
        if best is None:
            raise ValueError(
                f"{run.path} has no checkpoint with a validation loss: use --checkpoint=last"
            )
        return steps[best]
    if which.isdecimal() and int(which) in steps:
        return steps[int(which)]
    known = ", ".join(map(str, steps))
    raise ValueError(f"--checkpoint={which} must be last, best or a step that is there: {known}")
