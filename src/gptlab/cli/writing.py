"""`gptlab generate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gptlab.cli._verb import say, verb

VALIDATED = 8_192  # tokens that show what quantization costs: some seconds of a large model

if TYPE_CHECKING:
    from gptlab.generate import LanguageModel


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
    quantize: Annotated[
        str, typer.Option(help="Weights as int8 or bf16 (CPU); auto: bf16 where that pays.")
    ] = "none",
    speculate: Annotated[
        int | None, typer.Option(help="Guess so many tokens at once; needs --temperature=0.")
    ] = None,
) -> None:
    """Let a trained model write."""
    from gptlab.generate import load

    model = load(run, checkpoint, device)
    if quantize != "none":
        _quantize(model, quantize)
    options: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "stop": tuple(stop or ()),
        "seed": seed,
        "speculate": speculate,
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


def _quantize(model: "LanguageModel", to: str) -> None:
    """Make weights smaller, and say what that costs on the run's own validation text."""
    from gptlab.evaluate.validation import bits_per_byte, val_places, validation_loss
    from gptlab.generate import quantization
    from gptlab.train.recipe import Recipe

    gpt = model.model
    to, size = quantization.choose(to, gpt), quantization.n_parameters(gpt)
    if to == "none":
        return
    if size < quantization.PAYS_FROM:
        say(
            f"{to} gains nothing at {size / 1e6:.1f} million parameters; it does from about "
            f"{quantization.PAYS_FROM / 1e6:.0f} on"
        )
    try:
        recipe = Recipe.parse(model.config)
        corpus = recipe.data.tokenize(model.tokenizer)
    except (ValueError, OSError) as error:
        quantization.quantize(gpt, to)
        say(f"{to}: its loss is not known, the run's text cannot be read ({error})")
        return
    val, n_bytes = corpus.val[:VALIDATED], corpus.val_bytes
    n_bytes = n_bytes * (len(val) - 1) / (len(corpus.val) - 1)  # of the part that is scored

    places = val_places(corpus, recipe.batching, gpt.embedding.weight.device)

    def bits() -> float:
        loss = validation_loss(gpt, val, places=places)
        assert loss is not None
        return bits_per_byte(loss, len(val) - 1, n_bytes)

    full = bits()
    quantization.quantize(gpt, to)
    say(
        f"{to}: {bits():.4f} bits per byte instead of {full:.4f}, on the first {len(val):,} tokens "
        "of the run's validation text"
    )
