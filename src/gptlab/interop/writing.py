"""From our model to the files of a folder of Hugging Face's."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptlab import files
from gptlab.interop.families import Family
from gptlab.interop.folder import CONFIG, INDEX, WEIGHTS
from gptlab.interop.layout import as_in
from gptlab.interop.reading import read_model
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Link, connect
from gptlab.model.accounting import build_on_meta
from gptlab.model.gpt import GPT, Model

SHARD_BYTES = 5_000_000_000


def write_config(target: Path, family: Family, config: dict[str, Any]) -> None:
    """Write config.json."""
    tree = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "dtype": "float32",
        "bos_token_id": None,  # without a word there are default ones
        "eos_token_id": None,
        "pad_token_id": None,
        **config,
    }
    write_json(target / CONFIG, tree)


def write_weights(
    target: Path, gpt: GPT, model: Model, family: Family, config: dict[str, Any]
) -> None:
    """Write the tensors, in several files where they are many."""
    theirs = read_model(family, Settings(config, family.model_type))
    links = connect(family.table(theirs), build_on_meta(theirs).state_dict())
    weights, shards = gpt.state_dict(), _shards(links)
    names = [
        WEIGHTS if len(shards) == 1 else f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        for i in range(1, len(shards) + 1)
    ]
    for file, shard in zip(names, shards, strict=True):
        group = {name: _tensor(links[name], weights, model, theirs) for name in shard}
        files.write_tensors(target / file, group, {"format": "pt"})
    if len(shards) > 1:
        places = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
        total = sum(map(_n_bytes, links.values()))
        write_json(target / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def write_json(file: Path, tree: dict[str, Any]) -> None:
    """Write an object as JSON, a setting a line."""
    files.write(file, json.dumps(tree, indent=2, ensure_ascii=False).encode() + b"\n")


def _tensor(links: list[Link], weights: dict[str, Tensor], ours: Model, theirs: Model) -> Tensor:
    """Put a tensor of theirs together of ours; those that lie alike are not copied."""
    parts = [as_in(theirs, ours, link.ours, weights[link.ours]) for link in links]
    if links[0].lies_alike:
        return parts[0]
    whole = torch.empty(links[0].shape)
    for link, part in zip(links, parts, strict=True):
        link.write(part, whole)
    return whole


def _shards(links: dict[str, list[Link]]) -> list[list[str]]:
    """Deal the names out to files of at most SHARD_BYTES."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, parts in links.items():
        size += _n_bytes(parts)
        if size > SHARD_BYTES and shards[-1]:
            shards.append([])
            size = _n_bytes(parts)
        shards[-1].append(name)
    return shards


def _n_bytes(parts: list[Link]) -> int:
    return 4 * torch.Size(parts[0].shape).numel()
