"""Opening a session: of a recipe, in a new run folder, or of a run folder, where it stopped."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptlab import machine
from gptlab.config import differences
from gptlab.data.batches import Batches, Checked
from gptlab.data.corpus import Corpus, check_lengths
from gptlab.data.mixing import mixed
from gptlab.generate import LanguageModel, load
from gptlab.model.gpt import GPT
from gptlab.model.weights import fit_weights
from gptlab.runs import checkpoint
from gptlab.runs.folder import RunFolder, check_free
from gptlab.streams import stream_seed
from gptlab.tokenizer import Encoder, Tokenizer
from gptlab.train.compiling import WhileCompiled, compile_blocks, should_compile
from gptlab.train.device import set_up
from gptlab.train.environment import describe_environment
from gptlab.train.graph import Recording
from gptlab.train.kernels import INDUCTOR, choose_kernels, use_kernels
from gptlab.train.loop import update
from gptlab.train.precision import choose_precision
from gptlab.train.recipe import Recipe
from gptlab.train.room import check_memory
from gptlab.train.session import Say, Session

TRAINING_ONLY = re.compile(r"^multi_token\.|\.load_bias\.")  # parameters, by name
WHERE_IT_RUNS = ("gptlab", "code_sha256", "device", "precision", "kernels", "machine")
FREE_ON_RESUME = (  # what may differ between a run and its continuation: it goes on all the same
    "train.device",
    "train.kernels",
    "train.cuda_graphs",
    "train.micro_batch_tokens",
    "train.compile",
    "train.steps",
    "train.tokens",
    "train.max_seconds",
    "train.evaluate_every",
    "train.checkpoint_every",
    "train.log_every",
    "train.keep_last",
    "train.sample_tokens",
    "train.sample_prompt",
    "train.tensorboard",
    "train.wandb",
    "data.path",  # the text may have moved; its hash must not have changed
)


def begin(recipe: Recipe, root: Path, say: Say, origin: str) -> Session:
    """Assemble a new run: read the text, train the tokenizer, build the model, make the folder."""
    recipe = recipe.but(tokenizer=recipe.data.tokenizer(recipe.tokenizer))
    recipe.check()  # what cannot work is said before any work
    check_free(root, recipe.name)
    device, precision, kernels = _choose(recipe, say)
    check_memory(recipe.resolved(), device, precision, say)
    source = source_of(recipe)
    say("reading the text")
    if source is None:
        encoder, corpus = recipe.data.prepare(recipe.tokenizer)
    else:
        recipe = recipe.but(tokenizer=Tokenizer.parse(source.config["tokenizer"]))
        encoder = source.tokenizer
        corpus = recipe.data.tokenize(encoder)
    recipe = recipe.with_vocab_size(encoder.vocab_size)
    check_sample_prompt(recipe, encoder)
    model, batches = initial_model(recipe, source, device), _batches(recipe, corpus)
    use_kernels(model, kernels, recipe.train.cuda_graphs)
    facts = {"recipe": origin, "parameters": sum(p.numel() for p in model.parameters())}
    facts |= describe_environment(corpus, encoder, device, precision, kernels)

    def fill(run: RunFolder) -> None:
        encoder.save(run.tokenizer)
        run.write_environment(facts)

    run = RunFolder.create(root, recipe.name, recipe.to_yaml(), fill)
    session = _assemble(recipe, run, model, encoder, corpus, batches, precision)
    return _compiled(_recorded(session, say), kernels, say)


def reopen(run: RunFolder, assignments: Sequence[str], say: Say) -> Session:
    """Assemble a run again, at its last good checkpoint, or at its start if it has none."""
    written = Recipe.parse(run.config_tree())
    recipe = written.override(assignments)
    newest = checkpoint.newest(run.checkpoints, say)
    saved = None if newest is None else checkpoint.load(newest)
    refuse_changes(Recipe.parse(saved.state["recipe"]) if saved else written, recipe, run)
    device, precision, kernels = _choose(recipe, say)
    check_memory(recipe.resolved(), device, precision, say)
    say("reading the text")
    encoder = recipe.tokenizer.load(run.tokenizer)
    run.check_tokenizer(encoder.fingerprint())
    corpus = recipe.data.tokenize(encoder)
    now = describe_environment(corpus, encoder, device, precision, kernels)
    then = run.environment()
    _compare_environments(then, now, run, say)
    check_sample_prompt(recipe, encoder)
    source = None if saved else source_of(recipe)  # with a checkpoint, it may be gone by now
    model, batches = initial_model(recipe, source, device), _batches(recipe, corpus)
    use_kernels(model, kernels, recipe.train.cuda_graphs)
    session = _assemble(recipe, run, model, encoder, corpus, batches, precision)
    if saved:
        session.restore(saved)
    else:
        say(f"{run.path} has no checkpoint yet: starting from its first step")
    dropped = run.truncate_metrics(session.step)
    if dropped:
        say(f"dropped {dropped} damaged lines of {run.path / 'metrics.jsonl'}")
    if recipe != written:
        run.write_config(recipe.to_yaml())
    if not session.is_over() and (known := continued(then, now, session.step)) != then:
        run.write_environment(known)
    return _compiled(_recorded(session, say), kernels, say)


def continued(then: dict[str, Any], now: dict[str, Any], step: int) -> dict[str, Any]:
    """Say of a run that goes on at a step where it was begun, and each change of that since.

    At step 0 there was nothing before: an imported run had read no text until now.
    """
    begun = {name: fact for name, fact in then.items() if name != "continued"}
    if step == 0:
        return begun | now
    changes = [change for change in then.get("continued", []) if change["step"] < step]
    last = begun
    for change in changes:
        last = last | change
    changed = {x: now[x] for x in WHERE_IT_RUNS if x in last and last[x] != now[x]}
    changes += [{"step": step, **changed}] if changed else []
    return now | begun | ({"continued": changes} if changes else {})


def _choose(recipe: Recipe, say: Say) -> tuple[torch.device, str, list[str]]:
    """Choose the device, the precision and the kernels that this machine has for a run."""
    settings = recipe.train
    device = torch.device(machine.choose_device(settings.device, "train.device"))
    if settings.cuda_graphs and device.type != "cuda":
        raise ValueError(
            f"train.cuda_graphs=true needs an NVIDIA GPU, and this run is on {device.type}: use "
            "train.cuda_graphs=false"
        )
    set_up(device)
    kernels = choose_kernels(settings.kernels, device)
    if should_compile(recipe, device, say):
        kernels.append(INDUCTOR)
    return device, choose_precision(settings.precision, device, say), kernels


def _recorded(session: Session, say: Say) -> Session:
    """Have steps recorded, if that is asked for and can be."""
    if not session.recipe.train.cuda_graphs:
        return session
    if session.can_read_late():
        session.optimizers.make_recordable()
        session.update = Recording(update, say)
    else:
        say(
            "train.cuda_graphs=true, but only steps of optimizer=adamw can be recorded, without a "
            "load_bias_step: going on without"
        )
    return session


def _compiled(session: Session, kernels: Sequence[str], say: Say) -> Session:
    """Have blocks compiled, if that was chosen."""
    if INDUCTOR in kernels:
        compiled = compile_blocks(session.model)
        session.update = WhileCompiled(session.update or update, compiled, say)
    return session


def refuse_changes(before: Recipe, after: Recipe, run: RunFolder) -> None:
    """Raise ValueError for a change, by hand or on the command line, that makes it another run."""
    if before.data.without_paths() == after.data.without_paths():
        before = before.but(data=after.data)
    refused = [d for d in differences(before, after) if d[0] not in FREE_ON_RESUME]
    if refused:
        path, was, is_now = refused[0]
        raise ValueError(
            f"{path}={is_now} cannot be changed on resuming {run.path} (it is {was}); start a "
            f"new run with train.init_from={run.path} instead"
        )


def source_of(recipe: Recipe) -> LanguageModel | None:
    """Open the run whose weights and tokenizer this recipe starts from, if it names one."""
    path = recipe.train.init_from
    return None if path is None else load(path, device="cpu")


def initial_model(recipe: Recipe, source: LanguageModel | None, device: torch.device) -> GPT:
    """Build the model with the weights that its training starts from."""
    model = recipe.build()
    if source is not None:
        weights = for_training(source.model.state_dict(), model.state_dict())
        fit_weights(model, weights, f"train.init_from={recipe.train.init_from}")
        recipe.model.initialization.hold(model)
    return model.to(device)


def for_training(weights: dict[str, Tensor], fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fit what acts in training alone, further heads and the bias against uneven loads.

    It is left out where this run has none, and starts anew where the source had none.
    """
    left_out = {name for name in weights if name not in fresh and TRAINING_ONLY.search(name)}
    kept = {name: value for name, value in weights.items() if name not in left_out}
    added = {name: value for name, value in fresh.items() if TRAINING_ONLY.search(name)}
    return added | kept


def _assemble(
    recipe: Recipe,
    run: RunFolder,
    model: GPT,
    encoder: Encoder,
    corpus: Corpus,
    batches: Batches,
    precision: str,
) -> Session:
    optimizers = recipe.optimizer.build(model)
    torch.manual_seed(stream_seed(recipe.seed, "dropout"))  # from here on, dropout alone draws
    return Session(recipe, run, model, encoder, corpus, batches, optimizers, precision)


def _batches(recipe: Recipe, corpus: Corpus) -> Batches:
    check_lengths(corpus, recipe.data, recipe.model.context_length)
    T = recipe.model.context_length
    rows = [
        recipe.batching.build(text.tokens, text.starts, T, recipe.seed) for text in corpus.texts
    ]
    rows = [
        each if text.n_ids is None else Checked(each, text.name, text.n_ids)
        for each, text in zip(rows, corpus.texts, strict=True)
    ]
    weights = [text.weight for text in corpus.texts]
    return Batches(mixed(rows, weights, recipe.seed), recipe.batch_size())


def check_sample_prompt(recipe: Recipe, encoder: Encoder) -> None:
    """Raise ValueError for a prompt that cannot be read, before any training."""
    if recipe.train.sample_prompt is None:
        return
    try:
        length = len(encoder.encode(recipe.train.sample_prompt))
    except ValueError as error:
        raise ValueError(f"train.sample_prompt: {error}") from None
    if length > recipe.model.context_length:
        raise ValueError(
            f"train.sample_prompt has {length} tokens, more than "
            f"model.context_length={recipe.model.context_length}"
        )


def _compare_environments(
    then: dict[str, Any], now: dict[str, Any], run: RunFolder, say: Say
) -> None:
    was, is_now = then.get("data_sha256"), now["data_sha256"]
    if was not in (None, is_now):
        raise ValueError(
            f"the text of {run.path} has changed since it was started (data_sha256 was "
            f"{str(was)[:12]}, is {is_now[:12]}); restore it, or give its place with data.path=..."
        )
    for key in ("gptlab", "device", "precision", "kernels"):
        if key in then and then[key] != now[key]:
            say(f"resuming with {key} {now[key]}, was {then[key]}: not bit for bit the same run")
