"""Put weights into a model, or say why they do not fit."""

from collections.abc import Mapping

from torch import Tensor, nn


def fit_weights(
    model: nn.Module, tensors: Mapping[str, Tensor], source: str, assign: bool = False
) -> None:
    """Load every tensor of a model by name; ValueError names what is missing or misshapen.

    `assign`: take the tensors themselves, for a model built on the meta device.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    problems = [f"{name} is missing" for name in wanted if name not in given]
    problems += [f"{name} is not in this architecture" for name in given if name not in wanted]
    problems += [
        f"{name} is {given[name]}, not {shape}"
        for name, shape in wanted.items()
        if given.get(name, shape) != shape
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ValueError(
            f"{source} holds the weights of another architecture: {'; '.join(problems[:3])}{more}"
        )
    model.load_state_dict(dict(tensors), strict=True, assign=assign)
