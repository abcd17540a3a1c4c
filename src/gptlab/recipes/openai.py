"""GPT-2 in its four sizes (Radford et al., 2019): the baseline of everything here."""

from gptlab.data.sources.python import Python
from gptlab.model.gpt import Model
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.head.tied import Tied
from gptlab.parts.initialization.gpt2 import GPT2
from gptlab.parts.mlp.gelu import Gelu
from gptlab.parts.norm.layer_norm import LayerNorm
from gptlab.parts.positions.learned import Learned
from gptlab.parts.residual.pre_norm import PreNorm
from gptlab.tokenizer.bpe import BPE
from gptlab.train.optimizers.adamw import AdamW
from gptlab.train.recipe import Recipe, Train
from gptlab.train.schedules.cosine import Cosine


def gpt2() -> Recipe:
    """GPT-2 small, 124,439,808 parameters: learned positions, LayerNorm, GELU, biases, tied head.

    Trained on 10 billion tokens in batches of half a million, as is usual today; without the 0.1
    dropout of 2019 (`model.dropout=0.1`), since no text is read twice.

        gptlab train gpt2 data.path=FOLDER
    """
    return _gpt2("gpt2", n_layers=12, n_heads=12, d_model=768, lr=6e-4)


def gpt2_medium() -> Recipe:
    """GPT-2 medium, 355 million parameters.

    gptlab train gpt2_medium data.path=FOLDER
    """
    return _gpt2("gpt2_medium", n_layers=24, n_heads=16, d_model=1024, lr=3e-4)


def gpt2_large() -> Recipe:
    """GPT-2 large, 774 million parameters.

    gptlab train gpt2_large data.path=FOLDER
    """
    return _gpt2("gpt2_large", n_layers=36, n_heads=20, d_model=1280, lr=2.5e-4)


def gpt2_xl() -> Recipe:
    """GPT-2 XL, 1.56 billion parameters.

    gptlab train gpt2_xl data.path=FOLDER
    """
    return _gpt2("gpt2_xl", n_layers=48, n_heads=25, d_model=1600, lr=2e-4)


def _gpt2(name: str, n_layers: int, n_heads: int, d_model: int, lr: float) -> Recipe:
    return Recipe(
        name=name,
        model=Model(
            vocab_size=50_257,
            context_length=1024,
            d_model=d_model,
            n_layers=n_layers,
            positions=Learned(),
            norm=LayerNorm(),
            attention=GroupedQuery(n_heads=n_heads, bias=True),
            mlp=Gelu(bias=True),
            residual=PreNorm(),
            head=Tied(),
            initialization=GPT2(),
        ),
        tokenizer=BPE(vocab_size=50_257),
        data=Python(val_fraction=0.01),
        optimizer=AdamW(lr=lr),
        schedule=Cosine(warmup=0.04),
        train=Train(steps=19_073, batch_tokens=524_288),
    )
