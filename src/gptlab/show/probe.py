"""`gptlab probe`: probes while they go, and what came of them."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path

from gptlab.config import find_variant, variant_names
from gptlab.model.gpt import Model
from gptlab.probes.grid import Plan, Progress, Result, probe
from gptlab.probes.learning import Trial
from gptlab.probes.reading import Finding, Findings, open_text
from gptlab.probes.sizing import model_for
from gptlab.probes.tasks import Task
from gptlab.recipes import open_recipe
from gptlab.show._print import print_table
from gptlab.show._probe_plot import save_findings, save_results
from gptlab.show._tokenizer_plot import check_plot
from gptlab.train.display import Display, duration
from gptlab.train.optimizers import Optimizer

ALL = "all"
FOR_RUNS = ("length", "induction")
FOR_RECIPES = ("mqar", "induction", "length")
HEADINGS = (
    "task",
    "asked of",
    "accuracy",
    "chance",
    "ceiling",
    "solved",
    "steps to 90%",
    "seconds",
)


@dataclass(frozen=True)
class Output:
    """Whether to print JSON, and where a picture goes."""

    json: bool = False
    plot: Path | None = None

    def check(self) -> None:
        """Raise ValueError for a picture that cannot be drawn, before anything is done."""
        if self.plot:
            check_plot(self.plot)


def probe_recipe(
    target: str,
    names: Sequence[str],
    settings: Sequence[str],
    plan: Plan,
    own_size: bool,
    output: Output,
) -> None:
    """Let a recipe's parts learn tasks; print and draw what came of it."""
    output.check()
    recipe = open_recipe(target)
    tasks, changes = find_tasks(names or FOR_RECIPES, settings)
    models = [model_for(task, recipe, changes, own_size) for task in tasks]
    optimizer = recipe.override(changes).optimizer
    for task, model in zip(tasks, models, strict=True):
        task.conditions()
        model.build()
    results = _learn_all(tasks, models, optimizer, plan)
    title = " ".join([target, *changes])
    if output.json:
        print(dumps({"recipe": title, "tasks": [asdict(each) for each in results]}, indent=2))
    else:
        print_results(title, results)
    if output.plot:
        save_results(title, results, output.plot)
        print(f"the picture is in {output.plot}", file=sys.stderr)


def _learn_all(
    tasks: Sequence[Task], models: Sequence[Model], optimizer: Optimizer, plan: Plan
) -> list[Result]:
    """Let each model learn its task, and say how long it all takes at most."""
    results: list[Result] = []
    done, most = 0, plan.training.steps * (len(plan.rates) + plan.seeds - 1)
    with Display(1) as display:
        tell = _told(display)
        for task, model in zip(tasks, models, strict=True):
            later = most * (len(tasks) - len(results) - 1)

            def hear(progress: Progress, done: int = done, later: int = later) -> None:
                tell(progress.among(done, later))

            results.append(probe(model, optimizer, task, plan, hear))
            done += sum(trial.curve[-1][0] for trial in results[-1].trials)
    return results


def probe_run(folder: str, names: Sequence[str], settings: Sequence[str], output: Output) -> None:
    """Ask a trained run; print and draw what was found."""
    output.check()
    tasks, changes = find_tasks(names or FOR_RUNS, settings)
    if changes:
        raise ValueError(
            f"{changes[0]}: a trained run is as it is; give {folder}/config.yaml to probe its "
            "recipe with this setting"
        )
    text = open_text(folder)
    found = []
    with Display(1) as display:
        for task in tasks:
            tell, name = _told(display), task.variant
            found.append(
                task.read(
                    text, lambda done, all, tell=tell, name=name: tell(Progress(done, all, name))
                )
            )
    if output.json:
        print(dumps({"run": folder, "tasks": [asdict(each) for each in found]}, indent=2))
    else:
        for each in found:
            print_findings(folder, each)
    if output.plot:
        save_findings(folder, found, output.plot)
        print(f"the picture is in {output.plot}", file=sys.stderr)


def find_tasks(names: Sequence[str], settings: Sequence[str]) -> tuple[list[Task], list[str]]:
    """Make tasks by their names, or `all`; give the settings that begin with none of these, too."""
    tasks, own = [], []
    names = variant_names(Task) if list(names) == [ALL] else names
    for name in names:
        find_variant(Task, name)
        mine = [each for each in settings if each.removeprefix("--").startswith(f"{name}.")]
        tasks.append(_with_settings(name, mine))
        own += mine
    rest = [each for each in settings if each not in own]
    for each in rest:
        head = each.removeprefix("--").partition(".")[0]
        if head in variant_names(Task):
            raise ValueError(f"{each}: {head} is not among the tasks; add it to --task")
    return tasks, rest


def _with_settings(name: str, settings: Sequence[str]) -> Task:
    task = Task.parse(name)
    try:
        return task.override([each.removeprefix("--").partition(".")[2] for each in settings])
    except ValueError as error:
        raise ValueError(f"{name}.{error}") from None


def _told(display: Display) -> Callable[[Progress], None]:
    began = time.monotonic()

    def tell(progress: Progress) -> None:
        passed = time.monotonic() - began
        left = passed / progress.steps * (progress.most - progress.steps)
        display.total_steps = progress.most
        display.update(progress.steps, progress.what, f"at most {duration(left)} left")

    return tell


def print_results(title: str, results: Sequence[Result]) -> None:
    """Print what came of learning: a row for each condition."""
    rows = []
    for result in results:
        for number, condition in enumerate(result.conditions):
            first = number == 0
            rows.append(
                [
                    result.task if first else "",
                    condition.name + ("" if condition.trained else ", never trained"),
                    f"{result.accuracy(condition):.3f}",
                    f"{condition.chance:.3f}",
                    f"{condition.ceiling:.3f}",
                    f"{result.solved} of {len(result.best)}" if first else "",
                    f"{result.steps or 'never'}" if first else "",
                    f"{result.seconds:.0f}" if first else "",
                ]
            )
    print_table(f"{title}: medians over seeds, at the best learning rate", HEADINGS, rows)
    for result in results:
        tried = ", ".join(f"{each.lr:g} {_outcome(each)}" for each in result.tried)
        edge = "; the best is at the edge: try more with --lr" if result.edge else ""
        print(f"{result.task}: learning rates {tried}; {result.lr:g} is taken{edge}")
        print(
            f"  {result.parameters:,} parameters; layers remember {result.state:,} numbers of a row"
        )


def _outcome(trial: Trial) -> str:
    if trial.diverged:
        return "diverges"
    return (
        f"solves it in {trial.solved_at}"
        if trial.solved_at
        else f"comes {trial.way:.0%} of the way"
    )


def print_findings(folder: str, found: Findings) -> None:
    """Print what a run was found to do."""
    rows = [
        [each.condition, _number(each), "" if each.chance is None else f"{each.chance:.3f}"]
        for each in found.findings
    ]
    print_table(f"{folder}: {found.task}", ["", found.measure, "chance"], rows)


def _number(finding: Finding) -> str:
    if finding.value is None:
        return f"none: {finding.why_not}"
    error = "" if finding.error is None else f" ± {finding.error:.3f}"
    return f"{finding.value:.3f}{error}"
