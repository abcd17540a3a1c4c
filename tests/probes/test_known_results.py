"""What is known of architectures comes out: the probes measure what they say.

One seed and one learning rate each; docs/probes.md has several of both.
"""

import pytest

from gptlab.model.accounting import cache_bytes
from gptlab.probes.grid import with_rate
from gptlab.probes.learning import Training, Trial, learn
from gptlab.probes.sizing import model_for
from gptlab.probes.tasks import Task
from gptlab.recipes import find_recipe

pytestmark = pytest.mark.slow
RECIPE = find_recipe("shakespeare")
ROTARY = "model.positions=rotary"
LINEAR = ("model.positions=none", "model.attention=linear", "model.attention.n_heads=1")


def trial(task: Task, *settings: str, steps: int) -> Trial:
    model = model_for(task, RECIPE, list(settings), own_size=False)
    optimizer = with_rate(RECIPE.optimizer, 3e-3)
    return learn(model, optimizer, task, seed=0, training=Training(steps))


def test_attention_recalls_where_linear_attention_of_no_smaller_state_does_not():
    task = Task.parse("mqar")
    attention, linear = (
        cache_bytes(model_for(task, RECIPE, list(settings), own_size=False), 4).full_context
        for settings in ((ROTARY,), LINEAR)
    )
    assert linear >= attention
    assert trial(task, ROTARY, steps=800).accuracy["8 pairs"] > 0.9
    assert trial(task, *LINEAR, steps=800).accuracy["8 pairs"] < 0.2


def test_two_layers_find_what_came_next_and_one_does_not():
    task = Task.parse("induction")
    assert trial(task, ROTARY, steps=400).way > 0.9
    assert trial(task, ROTARY, "model.n_layers=1", steps=400).way < 0.2


def test_learned_positions_fail_beyond_their_training_and_alibi_and_windows_do_not():
    task = Task.parse("length")
    short, _, long = (condition.name for condition in task.conditions())
    window = (ROTARY, "model.attention.window=16")
    learned = trial(task, steps=600).accuracy
    assert learned[short] > 0.75
    assert learned[long] < 0.3
    for settings in (["model.positions=alibi"], window):
        near = trial(task, *settings, steps=600).accuracy
        assert near[short] > 0.75
        assert near[long] > 0.8 * near[short]


def test_a_window_shorter_than_the_distance_cannot_copy():
    task = Task.parse({"type": "selective_copy", "gaps": [0, 32]})
    everything = trial(task, ROTARY, steps=400).accuracy
    windows = trial(task, ROTARY, "model.attention.window=16", steps=400).accuracy
    assert everything["gap of 0"] > 0.9
    assert everything["gap of 32"] > 0.9
    assert windows["gap of 0"] > 0.8
    assert windows["gap of 32"] < 0.2


@pytest.mark.parametrize(("layers", "window"), [(1, 9), (2, 5), (4, 3)])
def test_windows_read_as_far_as_layers_times_window_less_one_and_no_further(
    layers: int, window: int
):
    task = Task.parse({"type": "needle", "length": 19, "depths": [60, 50]})
    near, far = (condition.name for condition in task.conditions())
    assert [name.partition(", ")[2] for name in (near, far)] == ["8 back", "9 back"]
    settings = (ROTARY, f"model.n_layers={layers}", f"model.attention.window={window}")
    found = trial(task, *settings, steps=100).accuracy
    assert found[near] > 0.9
    assert found[far] < 0.25


def test_two_layers_learn_the_statistics_of_a_row_and_one_does_not():
    task = Task.parse("ngrams")
    assert trial(task, ROTARY, steps=340).way > 0.7
    assert trial(task, ROTARY, "model.n_layers=1", steps=150).way < 0.5
