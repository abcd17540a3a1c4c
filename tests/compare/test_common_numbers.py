"""With one seed, all arms read the same, start from the same, and are judged by the same."""

from collections.abc import Sequence
from hashlib import sha256

import pytest
import torch
from studies import Conduct, MakeStudy
from torch import Tensor

from gptlab.compare.conduct import How
from gptlab.model.gpt import GPT
from gptlab.train import loop
from gptlab.train.session import Portion, Session

VARIANTS = {
    "rope": ("model.positions=rotary",),
    "swiglu": ("model.mlp=swiglu",),
    "muon": ("optimizer=muon",),
}


class Watch:
    """What each run reads in training, starts from, and is validated on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.batches: list[list[str]] = []
        self.starts: list[dict[str, Tensor]] = []
        self.judged_by: list[set[str]] = []
        train, portions, validate = loop.train, Session.portions, loop.validation_loss

        def begin(session: Session, *rest: object) -> str:
            self.batches.append([])
            self.judged_by.append(set())
            self.starts.append({k: v.clone() for k, v in session.model.state_dict().items()})
            return train(session, *rest)  # pyright: ignore[reportArgumentType]

        def read(session: Session) -> list[Portion]:
            found = portions(session)
            content = b"".join(p.x_BT.numpy().tobytes() + p.y_BT.numpy().tobytes() for p in found)
            self.batches[-1].append(sha256(content).hexdigest())
            return found

        def judge(model: GPT, tokens: Sequence[int], **more: object) -> float | None:
            self.judged_by[-1].add(sha256(tokens[:].tobytes()).hexdigest())  # pyright: ignore
            return validate(model, tokens, **more)  # pyright: ignore

        monkeypatch.setattr("gptlab.train.run.train", begin)
        monkeypatch.setattr(Session, "portions", read)
        monkeypatch.setattr(loop, "validation_loss", judge)


def test_arms_share_what_chance_decides(
    study: MakeStudy, run: Conduct, how: How, monkeypatch: pytest.MonkeyPatch
):
    seen = Watch(monkeypatch)
    run(study(variants=VARIANTS, match="params", seeds=(0, 1)))
    n_arms = 1 + len(VARIANTS)
    of_0, of_1 = seen.batches[:n_arms], seen.batches[n_arms:]
    assert len(of_0[0]) == 6
    assert of_0 == [of_0[0]] * n_arms
    assert of_1 == [of_1[0]] * n_arms
    assert not set(of_0[0]) & set(of_1[0])
    assert len(set.union(*seen.judged_by)) == 1
    base, rope, swiglu, muon = seen.starts[:n_arms]
    for other in (rope, muon):
        for name in base.keys() & other.keys():
            assert torch.equal(base[name], other[name]), name
    assert base.keys() - rope.keys() == {"positions.table.weight"}
    shared = [name for name in base if name in swiglu and base[name].shape == swiglu[name].shape]
    assert sum(base[name].std() > 0 for name in shared) >= 5
    for name in shared:
        assert torch.equal(base[name], swiglu[name]), name
    assert not torch.equal(base["embedding.weight"], seen.starts[n_arms]["embedding.weight"])
