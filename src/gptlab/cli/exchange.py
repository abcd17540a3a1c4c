"""`gptlab import`, `gptlab export`: models of Hugging Face."""

from pathlib import Path
from typing import Annotated

import typer

from gptlab.cli._verb import say, verb


@verb
def import_(
    folder: Annotated[
        Path,
        typer.Argument(help="A local folder with config.json, safetensors and tokenizer.json."),
    ],
    name: Annotated[
        str | None, typer.Option(help="What to call the run (default: as the folder).")
    ] = None,
) -> None:
    """Turn a Hugging Face model into a run folder runs/NAME; nothing in it is executed."""
    from gptlab.interop.importing import import_folder

    run = import_folder(folder, Path("runs"), name, say=say)
    print(f"{run.path}")
    say(
        f"let it write with: gptlab generate {run.path} --prompt TEXT\nor train it further with: "
        f"gptlab train {run.path} train.init_from={run.path} data.path=FILE"
    )


@verb
def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    folder: Annotated[Path, typer.Argument(help="The new folder to write.")],
    checkpoint: Annotated[str, typer.Option(help="last, best, or a step.")] = "last",
) -> None:
    """Turn a run into a folder that transformers' AutoModelForCausalLM loads."""
    from gptlab.interop.exporting import export_run

    family = export_run(run, folder, checkpoint)
    print(f"{folder}: {family.model_type}, {family.architecture}")
