"""`gptlab runs`: the table of runs, read from their folders alone."""

import json as json_module
from pathlib import Path
from typing import Any

from gptlab.runs.folder import RunFolder
from gptlab.show._print import print_table
from gptlab.train.display import duration


def show_runs(root: Path, json: bool = False) -> None:
    """Print a line per run below `root`; one that cannot be read says why."""
    rows = [summary(path) for path in run_paths(root)]
    if json:
        print(json_module.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        print(f"no runs in {root} yet; start one with: gptlab train")
        return
    columns = [
        "run",
        "recipe",
        "parameters",
        "tokens",
        "val_loss",
        "bits_per_byte",
        "time",
        "state",
    ]
    title = f"Runs in {root}; losses are the best of each run"
    print_table(title, columns, [[_text(row, column) for column in columns] for row in rows])


def run_paths(root: Path) -> list[Path]:
    """Find the run folders below a folder, by name."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if (path / "config.yaml").is_file())


def summary(path: Path) -> dict[str, Any]:
    """Collect what the table says of a run; `val_loss` and `bits_per_byte` are the best ones."""
    run = RunFolder.open(path)
    try:
        environment, state = run.environment(), run.state()
    except ValueError as error:
        return {"run": run.name, "state": f"unreadable: {error}"}
    lines, _ = run.metrics()
    best = min(run.evaluations(), key=lambda line: line["val_loss"], default={})
    last = lines[-1] if lines else {}
    return {
        "run": run.name,
        "recipe": environment.get("recipe"),
        "parameters": environment.get("parameters"),
        "step": last.get("step", 0),
        "tokens": last.get("tokens", 0),
        "val_loss": best.get("val_loss"),
        "bits_per_byte": best.get("bits_per_byte"),
        "seconds": last.get("seconds", 0.0),
        "state": state,
    }


def _text(row: dict[str, Any], column: str) -> str:
    value = row.get("seconds" if column == "time" else column)
    if value is None:
        return "-"
    if column == "time":
        return duration(value)
    if column in ("val_loss", "bits_per_byte"):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
