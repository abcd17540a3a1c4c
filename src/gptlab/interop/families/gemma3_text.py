"""Gemma 3, the text model: norms on queries and keys, and global layers with another base."""

from typing import Any

from gptlab.interop.explicit import in_turns
from gptlab.interop.families._gemma import GemmaLike
from gptlab.interop.layers import GLOBAL, LOCAL, a_layer, attention_of
from gptlab.interop.rotary import rotary_of, write_rotary
from gptlab.interop.settings import Settings
from gptlab.model.gpt import Model
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.positions.rotary import Rotary


class Gemma3(GemmaLike):
    architecture = "Gemma3ForCausalLM"
    global_every = 6

    def read(self, config: Settings) -> Model:
        model = super().read(config)
        layers = [attention_of(model, i).but(qk_norm=model.norm) for i in range(model.n_layers)]
        return model.but(attention=in_turns(layers))

    def positions(self, config: Settings) -> Rotary:
        """Those of local layers."""
        base = config.get("rope_local_base_freq", float, 10_000.0)
        return rotary_of(config, self.rope(config, LOCAL), base)

    def global_attention(self, config: Settings, attention: GroupedQuery) -> GroupedQuery:
        base = config.get("rope_theta", float, 1_000_000.0)
        given = config.get("rope_scaling", dict, {}) | self.rope(config, GLOBAL)
        return attention.but(positions=rotary_of(config, given, base))

    def rope(self, config: Settings, kind: str) -> dict[str, Any]:
        """Read the parameters of one kind of layers."""
        place = f"{config.place}: rope_parameters"
        return Settings(config.get("rope_parameters", dict, {}), place).get(kind, dict, {})

    def write(self, model: Model) -> dict[str, Any]:
        positions = a_layer(model, local=False).positions or model.positions
        return super().write(model) | {
            "rope_parameters": {
                LOCAL: write_rotary(model.positions),
                GLOBAL: write_rotary(positions),
            }
        }
