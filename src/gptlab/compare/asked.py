"""What was typed after `gptlab compare`, and the study that it means."""

from dataclasses import dataclass
from typing import Any

from gptlab.compare.reading import is_study, one_of, read_study, variants_of
from gptlab.compare.scales import renewed
from gptlab.compare.study import Study, budgets
from gptlab.recipes import open_recipe
from gptlab.runs.folder import MAX_NAME


@dataclass(frozen=True)
class Asked:
    """The words of the command line, as they are; of a study's file, what they change in it."""

    target: str
    settings: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    seeds: str | None = None
    match: str | None = None
    tune: str | None = None
    metrics: tuple[str, ...] = ()
    factorial: bool = False
    leave_one_out: bool = False
    scales: str | None = None
    name: str | None = None

    def study(self) -> Study:
        """Make the study. Raises ValueError for what cannot be read."""
        if is_study(self.target):
            study = read_study(self.target)
            if self.variants:
                raise ValueError(f"--variant: {self.target} names the variants; add them there")
            settings = study.settings + self.settings
            before, after = study.base.override(study.settings), study.base.override(settings)
            changed = {"settings": settings, "scales": renewed(study.scales, before, after)}
            return Study.parse(study.model_dump(mode="json") | changed | self._given())
        base = open_recipe(self.target)
        if not self.variants:
            raise ValueError("nothing to compare: name a --variant, as rope:model.positions=rotary")
        variants = variants_of(self.variants)
        name = f"{base.name}-{'-'.join(variants)}"[:MAX_NAME].rstrip("-.")
        return Study.parse(
            {
                "name": name,
                "base": base.model_dump(mode="json"),
                "settings": self.settings,
                "variants": variants,
                **self._given(),
            }
        )

    def _given(self) -> dict[str, Any]:
        if self.factorial and self.leave_one_out:
            raise ValueError("--factorial and --leave-one-out are two designs: choose one")
        design = {"factorial": self.factorial, "leave_one_out": self.leave_one_out}
        given = {
            "name": self.name,
            "seeds": self.seeds,
            "match": self.match and one_of(self.match, budgets(), "--match"),
            "tune": self.tune,
            "metrics": self.metrics or None,
            "scales": self.scales,
            "design": next((name for name, chosen in design.items() if chosen), None),
        }
        return {name: value for name, value in given.items() if value is not None}
