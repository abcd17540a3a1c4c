from collections.abc import Callable

import pytest

from gptlab.model.gpt import Model

Tiny = Callable[..., Model]


def local(window: int) -> dict:
    return {"type": "grouped_query", "window": window}


def test_layers_take_turns_from_the_first_on(tiny: Tiny):
    attention = {"type": "alternating", "of": [local(3), local(5), "grouped_query"]}
    gpt = tiny(attention=attention, n_layers=7).build()
    windows = [getattr(mixer, "window", "absent") for mixer in gpt.mixers()]
    assert windows == [3, 5, None, 3, 5, None, 3]


@pytest.mark.parametrize("n_layers", [1, 4, 6])
def test_the_last_layer_may_be_another_whatever_its_turn(tiny: Tiny, n_layers: int):
    attention = {"type": "alternating", "of": [local(3), local(5)], "last": "grouped_query"}
    gpt = tiny(attention=attention, n_layers=n_layers).build()
    windows = [getattr(mixer, "window", "absent") for mixer in gpt.mixers()]
    assert windows == [*([3, 5] * 3)[: n_layers - 1], None]


def test_each_layer_has_the_cache_its_own_attention_needs(tiny: Tiny):
    attention = {"type": "alternating", "of": [local(3), "grouped_query"]}
    caches = tiny(attention=attention, n_layers=4).build().new_caches(20)
    assert [cache.size for cache in caches] == [3, 20, 3, 20]


def test_it_needs_something_to_alternate(tiny: Tiny):
    with pytest.raises(ValueError, match=r"^attention\.of: "):
        tiny(attention={"type": "alternating", "of": []})
    with pytest.raises(ValueError, match=r"^attention\.of: Field required"):
        tiny(attention="alternating")
