"""Rotary positions as a `config.json` has them, in the form of today and in the older ones."""

from typing import Any

from gptlab.interop.settings import Settings
from gptlab.parts.positions import Positions
from gptlab.parts.positions.rotary import Rotary
from gptlab.parts.scaling import Scaling
from gptlab.parts.scaling.dynamic_ntk import DynamicNTK
from gptlab.parts.scaling.linear import Linear
from gptlab.parts.scaling.llama3 import Llama3
from gptlab.parts.scaling.longrope import LongRoPE
from gptlab.parts.scaling.yarn import YaRN, magnitude


def read_rotary(config: Settings, base: float = 10_000.0, fraction: float | None = None) -> Rotary:
    """Read rotary positions; `base` and `fraction` are the family's own.

    fraction: None where a family rotates whole heads, whatever its config says.
    """
    base = config.get("rope_theta", float, base)
    if fraction is not None:
        fraction = config.get("partial_rotary_factor", float, fraction)
    older = config.get("rope_scaling", dict, {})
    given = older | config.get("rope_parameters", dict, {})
    return rotary_of(config, given, base, fraction)


def rotary_of(
    config: Settings, given: dict[str, Any], base: float, fraction: float | None = None
) -> Rotary:
    """Read one group of rotary parameters; the file may have several."""
    rope = Settings(given, f"{config.place}: rope_parameters")
    kind = rope.get("rope_type", str, None) or rope.get("type", str, "default")
    rope.ignore("rope_type", "type")
    if kind not in SCALINGS:
        raise ValueError(
            f"{rope.place}: rope_type={kind[:80]} has no part in gptlab; known are "
            f"{', '.join(SCALINGS)}"
        )
    if fraction is None:
        rope.only("partial_rotary_factor", [1.0], 1.0)
    rotary = Rotary(
        base=rope.get("rope_theta", float, base),
        fraction=rope.get("partial_rotary_factor", float, fraction or 1.0),
        scaling=SCALINGS[kind](rope, config),
    )
    rope.refuse_unread()
    return rotary


def context_length(config: Settings) -> int:
    """Read how long texts may be: `dynamic` scaling makes more of max_position_embeddings."""
    length = config.need("max_position_embeddings", int)
    rope = config.get("rope_parameters", dict, {}) or config.get("rope_scaling", dict, {})
    is_dynamic = "dynamic" in (rope.get("rope_type"), rope.get("type"))
    return int(length * rope.get("factor", 1.0)) if is_dynamic else length


def write_rotary(positions: Positions) -> dict[str, Any]:
    """Write rotary parameters, in the form of today."""
    if not isinstance(positions, Rotary):
        return {"rope_type": "default", "rope_theta": Rotary().base}
    written: dict[str, Any] = {"rope_theta": positions.base}
    if positions.fraction != 1:
        written["partial_rotary_factor"] = positions.fraction
    return written | _write_scaling(positions.scaling)


def write_context_length(context_length: int, positions: Positions) -> int:
    """Write max_position_embeddings, which `dynamic` scaling starts from."""
    scaling = positions.scaling if isinstance(positions, Rotary) else None
    return scaling.original_length if isinstance(scaling, DynamicNTK) else context_length


def _default(rope: Settings, config: Settings) -> Scaling | None:
    rope.ignore("factor")
    return None


def _linear(rope: Settings, config: Settings) -> Scaling:
    return Linear(factor=rope.need("factor", float))


def _dynamic(rope: Settings, config: Settings) -> Scaling:
    rope.ignore("original_max_position_embeddings")
    return DynamicNTK(
        original_length=config.need("max_position_embeddings", int),
        factor=rope.need("factor", float),
    )


def _llama3(rope: Settings, config: Settings) -> Scaling:
    return Llama3(
        factor=rope.need("factor", float),
        original_length=_original_length(rope, config),
        low_freq_factor=rope.need("low_freq_factor", float),
        high_freq_factor=rope.need("high_freq_factor", float),
    )


def _yarn(rope: Settings, config: Settings) -> Scaling:
    length = config.need("max_position_embeddings", int)
    original = _original_length(rope, config)
    factor = rope.get("factor", float, length / original)
    attention = rope.get("attention_factor", float, None)
    above = rope.get("mscale", float, 0.0, may_be_0=True)
    below = rope.get("mscale_all_dim", float, 0.0, may_be_0=True)
    if attention is None and above and below:
        attention = magnitude(factor, above) / magnitude(factor, below)
    return YaRN(
        factor=factor,
        original_length=original,
        beta_fast=rope.get("beta_fast", float, 32.0),
        beta_slow=rope.get("beta_slow", float, 1.0),
        magnitude=attention,
        truncate=rope.get("truncate", bool, True),
    )


def _longrope(rope: Settings, config: Settings) -> Scaling:
    length = config.need("max_position_embeddings", int)
    original = _original_length(rope, config)
    short, long = rope.need("short_factor", list), rope.need("long_factor", list)
    growth = rope.get("factor", float, length / original)
    attention = rope.get("attention_factor", float, None)
    scaling = LongRoPE(
        original_length=original,
        factors=tuple(long if length > original else short),
        magnitude=attention,
    )
    if attention is None and growth != length / original:
        return scaling.but(magnitude=scaling.attention_factor(int(original * growth)))
    return scaling


def _original_length(rope: Settings, config: Settings) -> int:
    """Read how long texts were before the extension: beside the parameters first, as there."""
    length = config.need("max_position_embeddings", int)
    length = rope.get("original_max_position_embeddings", int, length)
    return config.get("original_max_position_embeddings", int, length)


SCALINGS = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "su": _longrope,  # what Phi-3 called it first
}


def _write_scaling(scaling: Scaling | None) -> dict[str, Any]:
    """Write a scaling; one that has no form there becomes `default`."""
    match scaling:
        case Linear(factor=factor):
            return {"rope_type": "linear", "factor": factor}
        case DynamicNTK(factor=factor):
            return {"rope_type": "dynamic", "factor": factor}
        case Llama3():
            return {
                "rope_type": "llama3",
                "factor": scaling.factor,
                "original_max_position_embeddings": scaling.original_length,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
            }
        case YaRN():
            written = {
                "rope_type": "yarn",
                "factor": scaling.factor,
                "original_max_position_embeddings": scaling.original_length,
                "beta_fast": scaling.beta_fast,
                "beta_slow": scaling.beta_slow,
                "truncate": scaling.truncate,
            }
            return written | _present("attention_factor", scaling.magnitude)
        case LongRoPE():
            factors = list(scaling.factors)
            written = {
                "rope_type": "longrope",
                "original_max_position_embeddings": scaling.original_length,
                "short_factor": factors,
                "long_factor": factors,
            }
            return written | _present("attention_factor", scaling.magnitude)
    return {"rope_type": "default"}


def _present(name: str, value: float | None) -> dict[str, float]:
    return {} if value is None else {name: value}
