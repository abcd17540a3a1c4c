"""The whole life of a little Llama-like model, after CohleM's lilLM."""

from gptlab.data.sources.python import Python
from gptlab.model.gpt import Model
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.head.tied import Tied
from gptlab.parts.initialization.gpt2 import GPT2
from gptlab.parts.mlp.swiglu import SwiGLU
from gptlab.parts.norm.rms_norm import RMSNorm
from gptlab.parts.positions.rotary import Rotary
from gptlab.parts.residual.pre_norm import PreNorm
from gptlab.tokenizer.bpe import BPE
from gptlab.train.optimizers.adamw import AdamW
from gptlab.train.recipe import Recipe, Train
from gptlab.train.schedules.cosine import Cosine


def lil() -> Recipe:
    """A little Llama of 39 million parameters: vocabulary 8,192, 16 query heads on 8, context 512.

    Made for 8 billion tokens of web text on one or two GPUs.

        gptlab train lil data.path=FOLDER
    """
    return _lil("lil", d_model=512, n_layers=12, lr=1e-3)


def lil_300m() -> Recipe:
    """The larger little Llama, 285 million parameters: 24 layers, 1,024 wide.

    gptlab train lil_300m data.path=FOLDER
    """
    return _lil("lil_300m", d_model=1024, n_layers=24, lr=5e-4)


def _lil(name: str, d_model: int, n_layers: int, lr: float) -> Recipe:
    return Recipe(
        name=name,
        model=Model(
            vocab_size=8192,
            context_length=512,
            d_model=d_model,
            n_layers=n_layers,
            positions=Rotary(),
            norm=RMSNorm(),
            attention=GroupedQuery(n_heads=16, n_kv_heads=8),
            mlp=SwiGLU(),
            residual=PreNorm(),
            head=Tied(),
            initialization=GPT2(),
        ),
        tokenizer=BPE(vocab_size=8192),
        data=Python(val_fraction=0.01),
        optimizer=AdamW(lr=lr),
        schedule=Cosine(warmup=0.02),
        train=Train(
            steps=61_036, batch_tokens=131_072, evaluate_every=1_000, checkpoint_every=1_000
        ),
    )
