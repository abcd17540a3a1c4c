"""`gptlab export`: a run becomes a folder that `transformers` loads, without code of ours."""

import os
from pathlib import Path

from gptlab import files
from gptlab.config import Config
from gptlab.generate import load
from gptlab.interop.families import Family
from gptlab.interop.matching import choose_family
from gptlab.interop.tokens import describe_tokenizer
from gptlab.interop.writing import write_config, write_json, write_weights
from gptlab.model.gpt import Model


class Exported(Config):
    """What is needed of a run's config.yaml."""

    model: Model


def export_run(run: Path, target: Path, checkpoint: str = "last") -> Family:
    """Write a new folder with a run's model and tokenizer; all of it or, if that fails, nothing.

    Raises ValueError if the folder exists, or if model or tokenizer have no form there.
    """
    if os.path.lexists(target):
        raise ValueError(f"{target} exists already; choose a new folder")
    if os.path.lexists(target.parent) and not target.parent.is_dir():
        raise ValueError(f"{target} cannot be made: {target.parent} is not a folder")
    trained = load(run, checkpoint, device="cpu", quantize="none")
    model = Exported.parse({"model": trained.config["model"]}).model
    family, config = choose_family(model)
    tokens = describe_tokenizer(trained.tokenizer)
    temporary = target.with_name(files.temporary_name(target.name))
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        files.make_folder(temporary)
    except OSError as error:
        raise files.WriteError(f"{target} cannot be made: {files.reason(error)}") from None
    try:
        write_config(temporary, family, config | tokens.ids)
        write_weights(temporary, trained.model, model, family, config)
        for name, tree in tokens.files.items():
            write_json(temporary / name, tree)
        for file in temporary.iterdir():
            files.sync(file)
        files.rename(temporary, target)
        files.sync_folder(target.parent)
    except BaseException:
        files.remove(temporary)
        raise
    return family
