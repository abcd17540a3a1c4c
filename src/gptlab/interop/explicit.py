"""Models with everything said: what is null in a config and follows from the rest is filled in.

Two models with the same explicit form compute the same. What acts in training alone, or on rounding
alone, is left out, and so is the layout of rotary positions: weights can be brought from one to the
other. (Not those of latent attention, whose one family has both layouts.)
"""

from collections.abc import Sequence
from typing import Any, TypeVar

from gptlab.config import Config
from gptlab.model.gpt import Model
from gptlab.parts.attention import Attention
from gptlab.parts.attention.alternating import Alternating
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.attention.latent import Latent
from gptlab.parts.initialization.gpt2 import GPT2
from gptlab.parts.mlp import MLP
from gptlab.parts.mlp._gated import GatedSettings
from gptlab.parts.mlp._plain import PlainSettings
from gptlab.parts.mlp.mixture_of_experts import MixtureOfExperts
from gptlab.parts.norm.rms_norm import RMSNorm
from gptlab.parts.positions.rotary import Rotary
from gptlab.parts.residual.pre_norm import PreNorm
from gptlab.parts.residual.scaled import Scaled
from gptlab.parts.scaling._extension import Extension

C = TypeVar("C", bound=Config)
LOAD_BIAS_STEP = 1e-3  # DeepSeek-V3's, which no config.json tells
ONE_TIMES = Scaled(scale=1.0, learned=None)


def explicit(model: Model) -> Model:
    """Say everything about a model."""
    model = positions_that_are_taken(model)
    layers = [_attention(each, model) for each in per_layer(model)]
    scale = (model.head.scale or 1.0) * model.initialization.logit_factor(model.d_model)
    changes: dict[str, Any] = {
        "dropout": 0.0,
        "embedding_scale": model.embedding_scale or 1.0,
        "positions": _positions(model.positions, model),
        "attention": in_turns(layers),
        "mlp": _mlp(model.mlp, model.d_model),
        "head": model.head.but(scale=scale, z_loss=None),
        "residual": PreNorm() if model.residual == ONE_TIMES else model.residual,
        "initialization": GPT2(),
    }
    return _without_rounding(model.but(**changes))


def positions_that_are_taken(model: Model) -> Model:
    """Give the first layer's positions to the model if every layer has some of its own."""
    layers = per_layer(model)
    own = [getattr(layer, "positions", None) for layer in layers]
    if None in own:
        return model
    of_others = [
        layer.but(positions=None if positions == own[0] else positions)
        for layer, positions in zip(layers, own, strict=True)
    ]
    return model.but(positions=own[0], attention=in_turns(of_others))


def per_layer(model: Model) -> list[Attention]:
    """Give the attention of every layer."""
    attention = model.attention
    if isinstance(attention, Alternating):
        layers = [attention.of[layer % len(attention.of)] for layer in range(model.n_layers)]
        return layers if attention.last is None else [*layers[:-1], attention.last]
    return [attention] * model.n_layers


def in_turns(layers: Sequence[Attention]) -> Attention:
    """Give the attention that takes the fewest turns to make these layers."""
    period = next(
        n
        for n in range(1, len(layers) + 1)
        if all(layer == layers[i % n] for i, layer in enumerate(layers))
    )
    return layers[0] if period == 1 else Alternating(of=tuple(layers[:period]))


def like(part: Config, kind: type[C]) -> C:
    """Give a part of this kind: the part itself, or one with the settings that they share."""
    if isinstance(part, kind):
        return part
    shared = type(part).model_fields.keys() & kind.model_fields.keys()
    return kind.model_validate({name: getattr(part, name) for name in shared})


def _attention(attention: Attention, model: Model) -> Attention:
    if not isinstance(attention, GroupedQuery | Latent):
        return attention
    own = attention.positions and _positions(attention.positions, model)
    own = None if own == _positions(model.positions, model) else own
    if isinstance(attention, Latent):
        C, N, R, V = attention.widths(model.d_model)
        scale = attention.scale or (N + R) ** -0.5
        return attention.but(d_latent=C, d_nope=N, d_rope=R, d_value=V, scale=scale, positions=own)
    d_head = attention.d_head or model.d_model // attention.n_heads
    return attention.but(
        n_kv_heads=attention.n_kv_heads or attention.n_heads,
        d_head=d_head,
        scale=attention.scale or d_head**-0.5,
        positions=own,
    )


def _positions(positions: Any, model: Model) -> Any:
    if not isinstance(positions, Rotary):
        return positions
    scaling = positions.scaling
    if isinstance(scaling, Extension):
        scaling = scaling.but(original_length=int(scaling.length_before(model.context_length)))
    is_latent = any(isinstance(each, Latent) for each in per_layer(model))
    layout = positions.layout if is_latent else "half"
    return positions.but(layout=layout, scaling=scaling)


def _mlp(mlp: MLP, d_model: int) -> MLP:
    if isinstance(mlp, GatedSettings):
        return mlp.but(d_ff=mlp.width(d_model), multiple_of=1)
    if isinstance(mlp, PlainSettings):
        return mlp.but(d_ff=mlp.d_ff or 4 * d_model)
    if isinstance(mlp, MixtureOfExperts):
        usual = MixtureOfExperts()
        return mlp.but(
            expert=_mlp(mlp.expert, d_model),
            shared=mlp.shared and _mlp(mlp.shared, d_model),
            dense_layers=tuple(_mlp(dense, d_model) for dense in mlp.dense_layers),
            balance_loss=usual.balance_loss,
            sequence_balance_loss=usual.sequence_balance_loss,
            router_z_loss=usual.router_z_loss,
            load_bias_step=LOAD_BIAS_STEP if mlp.load_bias_step else 0.0,
        )
    return mlp


def _without_rounding(config: C) -> C:
    """Forget how norms round: it makes no difference in float32."""
    if isinstance(config, RMSNorm):
        return config.but(cast="gemma")
    changes: dict[str, Any] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Config):
            changes[name] = _without_rounding(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Config):
            changes[name] = tuple(_without_rounding(each) for each in value)
    return config.but(**changes) if changes else config
