"""Models whose residual stream is several streams that mix."""

from gptlab.parts.residual.hyper_connections import HyperConnections
from gptlab.parts.residual.manifold_hyper_connections import ManifoldHyperConnections
from gptlab.recipes._families import nano
from gptlab.recipes.meta import llama3_nano, transformer_pp
from gptlab.train.recipe import Recipe


def hyper() -> Recipe:
    """Transformer++ with four streams and dynamic hyper-connections (arXiv:2409.19606).

    gptlab train hyper data.path=FOLDER
    """
    plain = transformer_pp()
    return plain.but(name="hyper", model=plain.model.but(residual=HyperConnections()))


def hyper_nano() -> Recipe:
    """`llama3_nano` with four streams and dynamic hyper-connections.

    gptlab train hyper_nano
    """
    return nano("hyper_nano", llama3_nano().model, residual=HyperConnections())


def mhc() -> Recipe:
    """Transformer++ with four streams that keep their mean (mHC, arXiv:2512.24880).

    gptlab train mhc data.path=FOLDER
    """
    plain = transformer_pp()
    return plain.but(name="mhc", model=plain.model.but(residual=ManifoldHyperConnections()))


def mhc_nano() -> Recipe:
    """`llama3_nano` with four streams that keep their mean.

    gptlab train mhc_nano
    """
    return nano("mhc_nano", llama3_nano().model, residual=ManifoldHyperConnections())
