from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from gptlab.generate import threads
from gptlab.generate.threads import with_threads_for


@pytest.fixture(autouse=True)
def two_threads():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(n_threads)


@pytest.mark.parametrize(("n_products", "expected"), [(threads.FEW - 1, 1), (threads.FEW, 2)])
def test_small_steps_have_one_thread(n_products, expected):
    assert with_threads_for(n_products, torch.get_num_threads) == expected
    assert torch.get_num_threads() == 2


def test_a_step_that_fails_gives_the_threads_back():
    with pytest.raises(ZeroDivisionError):
        with_threads_for(1, lambda: 1 / 0)
    assert torch.get_num_threads() == 2


def test_another_thread_leaves_the_number_of_threads_alone(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda n: pytest.fail(f"set to {n}"))
    with ThreadPoolExecutor() as pool:
        assert pool.submit(with_threads_for, 1, lambda: "done").result() == "done"
