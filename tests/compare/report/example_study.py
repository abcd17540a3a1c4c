"""A study as it might have been: everything that a report can show, made up from a seed."""

import numpy as np

from gptlab.compare import noise
from gptlab.compare.results import (
    Budget,
    Cost,
    Curve,
    Finding,
    Match,
    Metric,
    Results,
    Run,
    Trial,
    Tuning,
    Variant,
)
from gptlab.compare.verdict import compare

BPB = Metric(
    name="bits_per_byte", title="validation bits per byte", margin=0.01, margin_source="declared"
)
SPEED = Metric(
    name="tokens_per_second",
    title="tokens per second",
    unit="tokens/s",
    better="higher",
    scale="ratio",
    margin=1.02,
)
EFFECTS = {
    "gpt2": 0.0,
    "rotary": -0.045,
    "swiglu": -0.028,
    "rms_norm": 0.001,
    "no_bias": 0.004,
    "window": 0.03,
    "huge_lr": 0.0,
    "other_data": -0.2,
}
SPEEDS = {"swiglu": 0.93, "rms_norm": 1.04, "window": 1.2}
STEPS = list(range(0, 1001, 50))
REASON = "data.sha256 differs and is not declared"


def example(seeds=(0, 1, 2, 3, 4), scales=("",), lost=True, names=tuple(EFFECTS)):
    """Make up the results of a study of these variants, the first of which is the base."""
    rng = np.random.default_rng(0)
    runs = []
    for size, scale in enumerate(scales):
        shared = {seed: rng.normal(0.0, 0.012) for seed in seeds}
        for name in names:
            for seed in seeds:
                final = 1.9 - 0.3 * size + EFFECTS[name] + shared[seed] + rng.normal(0.0, 0.004)
                is_lost = lost and name == "huge_lr" and seed != 1
                runs.append(_run(name, scale, seed, final, is_lost, rng))
    refused = {name: REASON for name in names if name == "other_data"}
    floor = noise.measure(
        "gpt2", "0123abcd", range(8), {BPB.name: rng.normal(1.9, 0.013, size=8).tolist()}, [BPB]
    )
    comparisons = [
        line
        for metric in (BPB, SPEED)
        for scale in scales
        for line in compare(
            metric, names[0], _arms(runs, metric, scale), refused, floor, 0.95, scale
        )
    ]
    return Results(
        name="From GPT-2 to Llama",
        question="Which of the changes carry the gain?",
        command="gptlab compare studies/gpt2_to_llama.py",
        base=names[0],
        scales=list(scales),
        seeds=list(seeds),
        tuning_seeds=[1000, 1001],
        metrics=[BPB, SPEED],
        variants=[_variant(name) for name in names],
        budget=Budget(
            axis="params",
            text="the same non-embedding parameters, within 1%",
            matches=[_match(name) for name in names],
        ),
        tuning=[_tuning(name, scales[0], rng) for name in names],
        runs=runs,
        costs=[_cost(name, scale, size) for size, scale in enumerate(scales) for name in names],
        comparisons=comparisons,
        findings=[_finding() for name in names if name == "other_data"],
        noise=dict.fromkeys(scales, floor),
        environment={"gptlab": "0.1.0", "cpu": "a processor", "cores": 8},
    )


def _arms(runs, metric, scale):
    arms = {}
    for run in runs:
        if run.scale == scale:
            arms.setdefault(run.variant, {})[run.seed] = run.metrics[metric.name]
    return arms


def _run(name, scale, seed, final, is_lost, rng):
    speed = float(20_000 * SPEEDS.get(name, 1.0) * np.exp(rng.normal(0.0, 0.01)))
    losses = [final + 2.2 * float(np.exp(-step / 180)) for step in STEPS]
    tokens = [step * 2_048 for step in STEPS]
    return Run(
        variant=name,
        scale=scale,
        seed=seed,
        role="report",
        folder=f"runs/{name}-{seed}",
        identity=f"{name}-{scale}-{seed}",
        state="diverged" if is_lost else "done",
        problem="the loss of step 412 is not finite" if is_lost else "",
        command=f"gptlab train gpt2 model.mlp={name} seed={seed}",
        metrics={BPB.name: None if is_lost else losses[-1], SPEED.name: speed},
        curve=Curve(
            steps=STEPS,
            tokens=tokens,
            flops=[7e6 * n for n in tokens],
            seconds=[n / speed for n in tokens],
            train_loss=[loss - 0.02 for loss in losses],
            val_loss=losses,
        ),
    )


def _variant(name):
    overrides = [] if name == "gpt2" else [f"model.mlp={name}"]
    wiring = "tokens\n  │ embedding 256 x 96\nlogits"
    return Variant(name=name, overrides=overrides, recipe=f"name: {name}\n", wiring=wiring)


def _match(name):
    problem = "no d_ff comes nearer" if name == "window" else ""
    changed = {"model.mlp.d_ff": 256} if name == "swiglu" else {}
    reached = 1_010_000 if problem else 1_000_100
    return Match(variant=name, target=1e6, reached=reached, changed=changed, problem=problem)


def _tuning(name, scale, rng):
    rates = [3e-4, 1e-3, 3e-3, 1e-2]
    best = 1e-2 if name == "window" else 3e-3
    trials = [
        Trial(
            value=rate,
            seeds=[1000, 1001],
            results=[
                None
                if name == "huge_lr" and rate == 1e-2
                else 1.9
                + EFFECTS[name]
                + 0.05 * float(np.log(rate / best)) ** 2
                + rng.normal(0, 0.01)
                for _ in range(2)
            ],
        )
        for rate in rates
    ]
    return Tuning(
        variant=name,
        scale=scale,
        setting="optimizer.lr",
        metric=BPB.name,
        trials=trials,
        chosen=best,
        edge=best == rates[-1],
    )


def _cost(name, scale, size):
    parameters = 1_000_000 * 4**size
    return Cost(
        variant=name,
        scale=scale,
        parameters=parameters + 24_576,
        non_embedding=parameters,
        flops_per_token=7e6 * 4**size * (1.06 if name == "swiglu" else 1.0),
        tokens=2_048_000,
        tokens_per_second=20_000 * SPEEDS.get(name, 1.0) / 4**size,
        peak_memory_bytes=123_456_789,
        kv_bytes_per_token=1_152 if name != "window" else 384,
        seconds=102.4 / SPEEDS.get(name, 1.0) * 4**size,
    )


def _finding():
    return Finding(
        variant="other_data",
        what="data.sha256",
        base_value="1f3a",
        variant_value="99ce",
        declared=False,
        severity="refuses",
    )
