"""SmolLM 3: Llama without positions in some layers, which may have a window instead."""

from typing import Any

from gptlab.interop.explicit import in_turns
from gptlab.interop.families.llama import Llama
from gptlab.interop.layers import attention_of, read_kinds, write_kinds
from gptlab.interop.settings import Settings
from gptlab.model.gpt import Model
from gptlab.parts.positions.none import NoPositions


class SmolLM3(Llama):
    architecture = "SmolLM3ForCausalLM"
    tied = True

    def read(self, config: Settings) -> Model:
        model = super().read(config)
        every = config.get("no_rope_layer_interval", int, 4)
        default = [int((i + 1) % every != 0) for i in range(model.n_layers)]
        rotated = config.get("no_rope_layers", list, default)  # 1 for layers with positions
        window = config.get("sliding_window", int, None)
        if not config.get("use_sliding_window", bool, False):
            window = None
        kinds = read_kinds(config, [window is not None and not each for each in rotated])
        config.ignore("max_window_layers")
        attention = attention_of(model)
        layers = [
            attention.but(
                positions=None if has_positions else NoPositions(),
                window=window if local else None,
            )
            for has_positions, local in zip(rotated, kinds, strict=True)
        ]
        return model.but(attention=in_turns(layers))

    def write(self, model: Model) -> dict[str, Any]:
        layers = [attention_of(model, i) for i in range(model.n_layers)]
        kinds = write_kinds(model)
        return (
            super().write(model)
            | kinds
            | {
                "no_rope_layers": [int(not isinstance(x.positions, NoPositions)) for x in layers],
                "use_sliding_window": kinds["sliding_window"] is not None,
            }
        )
