"""`gptlab import`: a folder of Hugging Face's becomes a run folder.

The run has one checkpoint, of step 0, and settings for going on with it: a learning rate for models
that have learned already, the Python source of the interpreter as text until another is named.
"""

import re
from pathlib import Path

from torch import Generator

import gptlab
from gptlab.data.sources.python import Python
from gptlab.interop.folder import Folder
from gptlab.interop.reading import read_settings, read_weights
from gptlab.model.gpt import GPT, Model
from gptlab.runs import checkpoint
from gptlab.runs.folder import MAX_NAME, RunFolder, check_free, free_name
from gptlab.tokenizer import FILE, Encoder, Tokenizer
from gptlab.tokenizer.byte import Byte
from gptlab.tokenizer.pretrained import Pretrained, read_folder
from gptlab.train.environment import git_commit
from gptlab.train.optimizers.adamw import AdamW
from gptlab.train.recipe import Recipe, Train
from gptlab.train.schedules.cosine import Cosine
from gptlab.train.session import Say

BATCH_TOKENS = 8_192


def import_folder(source: Path, root: Path, name: str | None, say: Say) -> RunFolder:
    """Make a run folder in `root` of a model in a local folder.

    Raises ValueError, before anything is written, for whatever does not fit.
    """
    if name is None:
        name = free_name(root, plain_name(source))
    check_free(root, name)
    folder = Folder(source)
    family, model = read_settings(folder)
    tokenizer, encoder = read_tokenizer(folder, model, say)
    recipe = fine_tuning(name, model, tokenizer).with_vocab_size(encoder.vocab_size)
    say(f"reading the weights of {family.model_type}")
    gpt = read_weights(folder, family, model)
    check_weights(gpt, source)
    facts = {
        "recipe": f"{family.model_type} of {source.resolve().name}",
        "parameters": sum(p.numel() for p in gpt.parameters()),
        "gptlab": gptlab.__version__,
        "git_commit": git_commit(),
        "tokenizer_sha256": encoder.fingerprint(),
    }

    def fill(run: RunFolder) -> None:
        encoder.save(run.tokenizer)
        run.write_environment(facts)
        save_start(run, recipe, gpt)
        run.write_status("stopped", 0, "imported")

    return RunFolder.create(root, name, recipe.to_yaml(), fill)


def check_weights(gpt: GPT, source: Path) -> None:
    """Raise ValueError, naming a tensor, for weights that no model computes with."""
    for name, x in gpt.state_dict().items():
        if not x.isfinite().all():
            raise ValueError(
                f"{source}: its weights are broken: {name} is not finite in float32; get them again"
            )


def plain_name(source: Path) -> str:
    """Make the name of a run of a folder's."""
    return re.sub("[^A-Za-z0-9._-]+", "-", source.resolve().name)[:MAX_NAME].strip(".") or "model"


def read_tokenizer(folder: Folder, model: Model, say: Say) -> tuple[Tokenizer, Encoder]:
    """Read a folder's tokenizer; without one, bytes are tokens, where the vocabulary has room."""
    if (folder.path / FILE).exists() or (folder.path / "vocab.json").exists():
        return Pretrained(), read_folder(folder.path)
    encoder = Byte().train([])
    if (model.vocab_size or 0) < encoder.vocab_size:
        raise ValueError(
            f"{folder.path} has no tokenizer, neither {FILE} nor vocab.json and merges.txt, and "
            f"vocab_size={model.vocab_size} is too small for bytes ({encoder.vocab_size}); put "
            "its tokenizer there"
        )
    say(f"{folder.path} has no tokenizer: every byte is a token, which its weights know nothing of")
    return Byte(), encoder


def fine_tuning(name: str, model: Model, tokenizer: Tokenizer) -> Recipe:
    """Make the settings to go on with: a small learning rate, few steps, frequent evaluation."""
    T = model.context_length
    return Recipe(
        name=name,
        model=model,
        tokenizer=tokenizer,
        data=Python(val_fraction=0.02),
        optimizer=AdamW(lr=2e-5, weight_decay=0.01),
        schedule=Cosine(warmup=0.05),
        train=Train(
            steps=500,
            batch_tokens=max(1, BATCH_TOKENS // T) * T,
            evaluate_every=100,
            checkpoint_every=100,
        ),
    )


def save_start(run: RunFolder, recipe: Recipe, gpt: GPT) -> None:
    """Write the checkpoint of step 0: weights, and an optimizer that remembers nothing."""
    generator = Generator().manual_seed(recipe.seed)
    tensors = {
        "model": gpt.state_dict(),
        "optimizer": {},
        "random": {"cpu": generator.get_state()},
    }
    state = {
        "step": 0,
        "seconds": 0.0,
        "losses": {},
        "grad_norm": 0.0,
        "recipe": recipe.model_dump(mode="json"),
    }
    checkpoint.save(run.checkpoints, 0, tensors, state)
