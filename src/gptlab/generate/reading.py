"""Reading: the visible tokens of every text, and how far the model has read them.

N texts of which n are left, T tokens read at once, V vocabulary.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gptlab.generate.recording import NotRepeatable, Recording, record
from gptlab.generate.rows import keep_rows, put_rows, tensors
from gptlab.generate.threads import with_threads_for
from gptlab.kernels.places import Places
from gptlab.model.gpt import GPT

WORTH_RECORDING = 20  # times: recording a step takes as long as it saves in so many
MANY = 10**8  # products: recording larger readings saves little, and keeps all that they compute
BLOCK = 512  # positions by which the caches of a single text grow, all of which are read
SMALLEST_BLOCK = 64


class Reader:
    """`rows`: the texts that are still continued, by their number among all."""

    def __init__(
        self, model: GPT, prompts: Sequence[Sequence[int]], max_tokens: int, use_cache: bool
    ):
        self.model, self.use_cache = model, use_cache
        self.rows, self.n_all = [*range(len(prompts))], len(prompts)
        self.lengths = [len(prompt) for prompt in prompts]
        self.is_new = [True] * len(prompts)  # to be read from its first token on
        self.longest = min(model.context_length, max(self.lengths) + max_tokens)
        self.n_left = max_tokens
        self.capacity = self._room_for(max(self.lengths))
        self.caches: list[Any] | None = None
        self.recorded: dict[str, Recording] = {}
        self.outdated: dict[str, Recording] = {}  # those of smaller caches
        self.is_repeatable = True
        self.constants = [*model.parameters(), *model.buffers()]
        self.n_weights = sum(x.numel() for x in self.constants)
        tokens_nT = torch.zeros(len(prompts), self.longest, dtype=torch.long)
        for row_T, prompt in zip(tokens_nT, prompts, strict=True):
            row_T[: len(prompt)] = torch.tensor(prompt)
        device = model.embedding.weight.device
        self.tokens_nT = tokens_nT.to(device)
        are_even = len(set(self.lengths)) == 1
        self.positions_n1 = torch.tensor(self.lengths[: 1 if are_even else None], device=device)
        self.positions_n1 = self.positions_n1[:, None] - 1  # of the newest tokens
        self.newest_n1 = self.tokens_nT[:, :1].clone()

    def next_logits(self) -> Tensor:
        """Read what is new; compute logits_NV of the token that follows each visible text."""
        logits_nV = self._read_new() if any(self.is_new) else self._step()
        if len(self.rows) == self.n_all:
            return logits_nV
        logits_NV = logits_nV.new_zeros(self.n_all, logits_nV.shape[1])
        logits_NV[self.rows] = logits_nV
        return logits_NV

    @property
    def n_free(self) -> int:
        """How many guesses there is room for behind the newest token, once a text is read."""
        return 0 if any(self.is_new) else self.capacity - max(self.lengths)

    def logits_of(self, guessed: Sequence[int]) -> Tensor:
        """Read what is new of a single text and guesses behind it; give logits_TV of each next."""
        if not guessed:
            return self.next_logits()
        ids_1T = torch.cat([self.newest_n1, self.newest_n1.new_tensor([guessed])], dim=1)
        start = self.lengths[0] - 1
        places = Places.counted(start, start + ids_1T.shape[1], ids_1T.device)
        return self.model(ids_1T, places, self.caches)[0]

    def append(self, ids_N: Tensor) -> None:
        """Add a token to every text, making room first where there is none."""
        ids_n = ids_N.to(self.tokens_nT.device)
        if len(self.rows) < self.n_all:
            ids_n = ids_n[self.rows]
        self.n_left -= 1
        full = [i for i, n in enumerate(self.lengths) if n == self.model.context_length]
        for i in full:
            self._shorten(i)
        if len(set(self.lengths)) == 1:
            self.tokens_nT.select(1, self.lengths[0]).copy_(ids_n)
        else:
            self.tokens_nT.scatter_(1, self.positions_n1 + 1, ids_n[:, None])
        self.newest_n1.copy_(ids_n.unsqueeze(1))
        self.positions_n1 += 1
        self.lengths = [n + 1 for n in self.lengths]
        if max(self.lengths) > self.capacity:
            self._make_room()

    def keep(self, rows: list[int]) -> None:
        """Forget all texts but some of those that are left."""
        kept = [self.rows.index(row) for row in rows]
        self.rows, self.recorded, self.outdated = rows, {}, {}
        self.lengths = [self.lengths[i] for i in kept]
        self.is_new = [self.is_new[i] for i in kept]
        self.tokens_nT, self.newest_n1 = self.tokens_nT[kept], self.newest_n1[kept]
        if len(self.positions_n1) > 1:
            self.positions_n1 = self.positions_n1[kept]
        keep_rows(self.caches or (), kept)

    def _shorten(self, i: int) -> None:
        """Keep the last half of a text that is as long as the context."""
        kept = max(1, self.model.context_length // 2) - 1  # with a new one, half of the context
        n = self.lengths[i]
        self.tokens_nT[i, :kept] = self.tokens_nT[i, n - kept : n].clone()
        self.lengths[i], self.is_new[i] = kept, True
        self.positions_n1[i if len(self.positions_n1) > 1 else 0] = kept - 1

    def _read_new(self) -> Tensor:
        """Read new texts as a whole, those of one length together, and go on with the others."""
        logits_nV = None if all(self.is_new) else self._step().clone()
        for length in sorted(
            {n for n, is_new in zip(self.lengths, self.is_new, strict=True) if is_new}
        ):
            rows = [i for i, n in enumerate(self.lengths) if self.is_new[i] and n == length]
            if len(rows) == len(self.rows):
                logits_nV = self._read_all(length)
                break
            read_nV = self._read(rows, length)
            if logits_nV is None:
                logits_nV = read_nV.new_zeros(len(self.rows), read_nV.shape[1])
            logits_nV[rows] = read_nV
        assert logits_nV is not None
        self.is_new = [not self.use_cache] * len(self.rows)
        return logits_nV

    def _read_all(self, length: int) -> Tensor:
        """Read all texts, for the first time or, as often as they fill the context, once more."""
        read = partial(self._read, [*range(len(self.rows))], length)
        n_products = self.n_weights * len(self.rows) * length
        if self.caches is None or n_products > MANY:
            return read()
        n_times = self.n_left // (self.model.context_length - length + 1)
        return self._do(f"text of {length}", read, n_times)

    def _read(self, rows: list[int], length: int) -> Tensor:
        """Read whole texts of one length; give the logits that follow them."""
        caches = self.model.new_caches(self.capacity) if self.use_cache else None
        x_nTD = self.model.read(self.tokens_nT[rows, :length], caches=caches)
        if caches is not None:
            if self.caches is None:
                self.caches = self.model.new_caches(self.capacity)
            put_rows(self.caches, rows, caches, len(self.rows))
        return self.model.head(x_nTD[:, -1:], self.model.embedding.weight)[:, 0]

    def _step(self) -> Tensor:
        """Read the newest token of every text; of a text to be read anew it means nothing."""
        n_products = self.n_weights * len(self.rows)
        n_times = self.n_left
        if self.capacity < self.longest:  # caches grow, and that needs another recording
            n_times = min(n_times, self.capacity - max(self.lengths) + 1)
        return with_threads_for(n_products, lambda: self._do("token", self._step_in_place, n_times))

    def _do(self, name: str, step: Callable[[], Tensor], n_times: int) -> Tensor:
        """Do a step as it was recorded, or record it if it will come often enough."""
        if name in self.recorded:
            return self.recorded[name]()
        if not self.is_repeatable or n_times < WORTH_RECORDING:
            self.outdated.pop(name, None)
            return step()
        assert self.caches is not None
        before = [dict(vars(cache)) for cache in self.caches if cache is not None]
        try:
            self.recorded[name] = record(step, self.constants, self.outdated.pop(name, None))
        except NotRepeatable:
            self.is_repeatable = False
            for cache, values in zip(filter(None, self.caches), before, strict=True):
                vars(cache).update(values)
            return step()
        return self.recorded[name].result

    def _step_in_place(self) -> Tensor:
        """Leave what caches hold where it was in memory."""
        assert self.caches is not None
        before = list(tensors(self.caches))
        x_n1D = self.model.read(self.newest_n1, Places(self.positions_n1), self.caches)
        for cache, name, tensor in before:
            if (new := getattr(cache, name)) is not tensor:
                tensor.copy_(new)
                setattr(cache, name, tensor)
        return self.model.head(x_n1D, self.model.embedding.weight)[:, 0]

    def _room_for(self, length: int) -> int:
        block = max(BLOCK // self.n_all, SMALLEST_BLOCK)
        return min(-(-length // block) * block, self.longest)

    def _make_room(self) -> None:
        self.capacity = self._room_for(max(self.lengths))
        self.outdated, self.recorded = self.recorded, {}
        for cache in self.caches or ():
            if hasattr(cache, "resize"):
                cache.resize(self.capacity, self.longest)
