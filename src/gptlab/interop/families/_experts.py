"""What families with a mixture of experts share."""

from typing import Any

from gptlab.interop.explicit import like
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Table, Theirs
from gptlab.model.gpt import Model
from gptlab.parts.mlp.mixture_of_experts import MixtureOfExperts

GATE_UP = Theirs("model.layers.#.mlp.experts.gate_up_proj", fused=True, stacked=True)
STACKED: Table = {  # as `transformers` has experts in memory, and writes them if it is asked to
    "blocks.#.mlp.router.matrix": "model.layers.#.mlp.gate",
    "blocks.#.mlp.experts.*.gate.weight": GATE_UP,
    "blocks.#.mlp.experts.*.up.weight": GATE_UP,
    "blocks.#.mlp.experts.*.down.weight": Theirs(
        "model.layers.#.mlp.experts.down_proj", stacked=True
    ),
}
ONE_BY_ONE: Table = {
    "blocks.#.mlp.router.matrix": "model.layers.#.mlp.gate",
    "blocks.#.mlp.experts.*.gate": "model.layers.#.mlp.experts.*.gate_proj",
    "blocks.#.mlp.experts.*.up": "model.layers.#.mlp.experts.*.up_proj",
    "blocks.#.mlp.experts.*.down": "model.layers.#.mlp.experts.*.down_proj",
}


def ignore_balancing(config: Settings) -> None:
    """Take note of what acts in training alone: how experts are balanced there is our own."""
    config.ignore("router_aux_loss_coef", "output_router_logits", "router_jitter_noise")


def mixture_of(model: Model) -> MixtureOfExperts:
    """Give the mixture of a model, or what is nearest to it."""
    return like(model.mlp, MixtureOfExperts)


def width_of(mlp: Any, d_model: int) -> int:
    """Give the inner width of a dense MLP, or the usual one."""
    return getattr(mlp, "d_ff", None) or 4 * d_model
