"""From a folder of Hugging Face's to our model: its settings, then its weights, one at a time."""

import re
from collections.abc import Collection, Iterator

from pydantic import ValidationError
from torch import Tensor

from gptlab.interop.explicit import positions_that_are_taken
from gptlab.interop.families import Family, find_family
from gptlab.interop.folder import CONFIG, Folder, shapes, tensors
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Link, connect
from gptlab.model.accounting import build_on_meta
from gptlab.model.gpt import GPT, Model


def read_settings(folder: Folder) -> tuple[Family, Model]:
    """Choose the family of a folder and make our model of its config."""
    config = Settings(folder.config(), str(folder.path / CONFIG))
    family = find_family(config)
    return family, read_model(family, config)


def read_model(family: Family, config: Settings) -> Model:
    """Make our model of a config. Raises ValueError for whatever in it is wrong or unknown."""
    quantization = config.get("quantization_config", dict, {})
    if quantization:
        method = str(quantization.get("quant_method"))[:80]
        raise ValueError(
            f"{config.place}: quantization_config: the weights are quantized ({method}), which "
            "gptlab does not read; convert them to bfloat16 first, as transformers can"
        )
    try:
        model = positions_that_are_taken(family.read(config))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = ".".join(str(step) for step in problem["loc"])
        raise ValueError(
            f"{config.place}: our {name} of it: {problem['msg']} (got {str(problem['input'])[:80]})"
        ) from None
    config.refuse_unread()
    return model


def read_weights(folder: Folder, family: Family, model: Model) -> GPT:
    """Build a model with the weights of a folder, in float32.

    Memory: the model, and one tensor of theirs at a time. Raises ValueError, before any is read,
    for one that is missing, unknown, of another shape or of another kind than numbers.
    """
    gpt = build_on_meta(model)
    found = all_shapes(folder)
    links = best_links(found, family, model, gpt)
    names = check_names(
        folder, found, family, links, tied="head.matrix.weight" not in gpt.state_dict()
    )
    gpt = gpt.to_empty(device="cpu")
    ours = gpt.state_dict()
    for name, tensor in every_tensor(folder):
        for link in links.get(names.get(name, ""), []):
            link.read(ours[link.ours], tensor)
        del tensor  # before the next one comes
    return gpt


def every_tensor(folder: Folder) -> Iterator[tuple[str, Tensor]]:
    """Give the tensors of all files, one after the other."""
    for shard in folder.shards():
        yield from tensors(shard)


def all_shapes(folder: Folder) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of all files."""
    found: dict[str, tuple[int, ...]] = {}
    for shard in folder.shards():
        for name, shape in shapes(shard).items():
            if name in found:
                raise ValueError(f"{shard}: {name} is in another file, too")
            found[name] = shape
    return found


def best_links(
    found: Collection[str], family: Family, model: Model, gpt: GPT
) -> dict[str, list[Link]]:
    """Connect by the table that knows most of the names in a folder."""
    tables = [family.table(model), *family.other_tables(model)]
    links = [connect(table, gpt.state_dict()) for table in tables]
    return max(links, key=lambda each: len(each.keys() & found))


def check_names(
    folder: Folder,
    found: dict[str, tuple[int, ...]],
    family: Family,
    links: dict[str, list[Link]],
    tied: bool,
) -> dict[str, str]:
    """Compare names and shapes with what is needed; tell what each one in the folder is called."""
    has_body = any(name.startswith(family.body) for name in found)
    called = {name: name if has_body else family.body + name for name in found}
    called |= {name: name for name in found if name in links}
    needless = [*family.buffers, *(["lm_head.weight"] if tied else [])]
    there = set(called.values())
    problems = [f"{name} is missing" for name in links if name not in there]
    for name, shape in found.items():
        if called[name] not in links:
            if not any(re.fullmatch(pattern, name) for pattern in needless):
                problems.append(f"{name} is not in a {family.model_type} model")
        elif shape != links[called[name]][0].shape:
            problems.append(f"{name} is {shape}, not {links[called[name]][0].shape}")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ValueError(
            f"{folder.path}: its weights do not fit its {CONFIG}: {'; '.join(problems[:3])}{more}"
        )
    return called
