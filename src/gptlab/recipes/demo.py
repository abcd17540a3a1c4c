"""What a newcomer runs first."""

from gptlab.data.sources.python import Python
from gptlab.model.gpt import Model
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.head.tied import Tied
from gptlab.parts.initialization.zero_output import ZeroOutput
from gptlab.parts.mlp.relu_squared import ReluSquared
from gptlab.parts.norm.rms_norm import RMSNorm
from gptlab.parts.positions.rotary import Rotary
from gptlab.parts.residual.pre_norm import PreNorm
from gptlab.tokenizer.bpe import BPE
from gptlab.train.optimizers.muon import Muon
from gptlab.train.recipe import Recipe, Train
from gptlab.train.schedules.wsd import WSD


def quickstart() -> Recipe:
    """A small GPT that learns to write Python in about a minute on two CPU cores.

    It reads the standard library of the interpreter that runs it, so nothing is downloaded.
    Rotary positions, RMSNorm, QK-norm, squared ReLU, zero-initialised outputs, Muon.

        gptlab train
    """
    return Recipe(
        name="quickstart",
        model=Model(
            context_length=128,
            d_model=192,
            n_layers=4,
            positions=Rotary(),
            norm=RMSNorm(),
            attention=GroupedQuery(n_heads=6, n_kv_heads=2, qk_norm=RMSNorm()),
            mlp=ReluSquared(),
            residual=PreNorm(),
            head=Tied(),
            initialization=ZeroOutput(),
        ),
        tokenizer=BPE(vocab_size=2048),
        data=Python(val_fraction=0.02),
        optimizer=Muon(lr=1e-2, adamw_lr=5e-3),
        schedule=WSD(decay=0.4),
        train=Train(
            steps=300,
            batch_tokens=4_096,
            evaluate_every=100,
            checkpoint_every=100,
        ),
    )
