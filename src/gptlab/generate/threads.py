"""How many threads a step of generation is worth."""

import threading
from collections.abc import Callable
from typing import TypeVar

import torch

V = TypeVar("V")
FEW = 4_000_000  # products of numbers in a step, of which threads would mostly wait for each other


def with_threads_for(n_products: int, step: Callable[[], V]) -> V:
    """Do a step on a single thread if it is small, else on as many as there are.

    Only the main thread changes how many there are: others would find each other's numbers.
    """
    if n_products >= FEW or threading.current_thread() is not threading.main_thread():
        return step()
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return step()
    finally:
        torch.set_num_threads(n_threads)
