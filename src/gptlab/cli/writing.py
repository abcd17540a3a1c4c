"""`gptlab generate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gptlab.cli._verb import verb


@verb
def generate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    prompt: Annotated[str, typer.Option(help="What the text begins with.")] = "",
    max_tokens: Annotated[int, typer.Option(help="How many tokens to write.")] = 200,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Choose among this many tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Choose among this much probability.")] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Leave out what is this much less likely than the best.")
    ] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed writes the same text.")] = None,
    samples: Annotated[int, typer.Option("--samples", "-n", help="How many texts.")] = 1,
    checkpoint: Annotated[str, typer.Option(help="last, best, or a step.")] = "last",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Let a trained model write."""
    from gptlab.generate import load

    model = load(run, checkpoint, device)
    options: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "stop": tuple(stop or ()),
        "seed": seed,
    }
    if samples == 1:
        pieces = model.stream(prompt, **options)
        first = next(pieces, "")  # a mistake is found before anything is printed
        print(prompt, first, sep="", end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
        return
    for number, text in enumerate(model.generate(prompt, n=samples, **options), 1):
        print(f"--- sample {number}\n{prompt}{text}\n")
