"""Commands about searches: search and pick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.folders import ENGINES, PREDICTORS, STRATEGIES
from app.commands.options import Config, Json, MovedData, Quiet, RunDir, Seed, Trust, app
from app.commands.progress.showing import showing
from app.commands.quantity_help import describe_limits, describe_objectives
from app.commands.terminal import show

Limits = Annotated[
    list[str] | None,
    typer.Option("--limit", help=describe_limits("size<=50%")),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option("--limit", help=describe_limits("size<=40KB")),
]


MaxMinutes = Annotated[
    float | None, typer.Option(help="End after the round that passes this time.")
]
Stagnation = Annotated[
    int | None, typer.Option(help="End when so many evaluations brought less than 0.1 %.")
]
Ray = Annotated[str | None, typer.Option(help="Evaluate on Ray: auto, local or HOST:PORT.")]
Storage = Annotated[
    str | None, typer.Option(help="URL of the Optuna study [a file of the search].")
]


def register() -> None:
    """Add the commands to the application, in the order they are used."""
    app.command(epilog="Example: supernet search --run runs/a --device cpu --latency-ms 0.2")(
        search
    )
    app.command(epilog="Example: supernet pick --run runs/a --latency-ms 0.2")(pick)
    app.command(epilog="Example: supernet cascade --run runs/a --latency-ms 0.2")(cascade)


def _print_strategies(asked: bool) -> None:
    if asked:
        from app.runs.plugins import list_strategies

        print("\n".join(list_strategies()))
        raise typer.Exit()


def search(
    run: RunDir,
    device: Annotated[str, typer.Option(help="Profiled devices, separated by commas [cpu].")] = "",
    latency_ms: Annotated[
        str | None, typer.Option(help="Upper limit in milliseconds, or 60% of the largest.")
    ] = None,
    limits: Limits = None,
    objectives: Annotated[
        str,
        typer.Option(help=describe_objectives()),
    ] = "",
    precision: Annotated[
        str | None, typer.Option(help="Number formats of units: fp32,int8 [those of the run].")
    ] = None,
    evaluations: Annotated[int, typer.Option(help="Architectures to evaluate.")] = 200,
    max_minutes: MaxMinutes = None,
    stagnation: Stagnation = None,
    calibrate_alone: Annotated[
        int, typer.Option(help="Networks to train alone, by which the front is calibrated.")
    ] = 0,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Random search beside, with as many evaluations.")
    ] = False,
    early_stop: Annotated[
        bool, typer.Option("--early-stop", help="Stop candidates that are surely dominated.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Architectures evaluated at once.")] = 1,
    ray: Ray = None,
    storage: Storage = None,
    strategy: Annotated[
        str, typer.Option(help=f"{STRATEGIES}, or your own module.")
    ] = "predictor_guided",
    strategies: Annotated[
        bool,
        typer.Option(
            "--strategies",
            callback=_print_strategies,
            is_eager=True,
            help="Say what each strategy is.",
        ),
    ] = False,
    predictor: Annotated[str, typer.Option(help=f"{PREDICTORS}, or your own module.")] = "auto",
    engine: Annotated[
        str,
        typer.Option(help=f"What evolves on predictions: {ENGINES}, or your own by dotted path."),
    ] = "array",
    proxies: Annotated[
        str, typer.Option(help="Zero-cost proxies that choose the first round: naswot,synflow.")
    ] = "",
    prior: Annotated[
        Path | None,
        typer.Option(help="Earlier run of the same space whose evaluations help predictors."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the search.")] = "default",
    seed: Seed = 0,
    replace: Annotated[bool, typer.Option("--replace", help="Replace another search.")] = False,
    data: MovedData = None,
    trust: Trust = None,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Search for the best trade-offs and verify every one by real evaluation and measurement."""
    with showing(quiet=quiet) as say:
        from app.commands.texts.searches import format_search
        from app.jobs.search import SearchRequest, search_job

        request = SearchRequest(
            run=run,
            device=device,
            latency_ms=latency_ms,
            limits=tuple(limits or ()),
            objectives=_split(objectives),
            precision=precision,
            evaluations=evaluations,
            max_minutes=max_minutes,
            stagnation=stagnation,
            calibrate_alone=calibrate_alone,
            baseline=baseline,
            early_stop=early_stop,
            workers=workers,
            ray=ray,
            storage=storage,
            strategy=strategy,
            predictor=predictor,
            engine=engine,
            proxies=_split(proxies),
            prior=prior,
            name=name,
            seed=seed,
            replace=replace,
            data=data,
            trust=tuple(trust or ()),
        )
        result = search_job(request, say)
    show(result, format_search(result), json)


def pick(
    run: RunDir,
    latency_ms: Annotated[float | None, typer.Option(help="Budget in milliseconds.")] = None,
    limits: Budgets = None,
    knee: Annotated[
        bool, typer.Option("--knee", help="Where the front bends: the best compromise.")
    ] = False,
    weights: Annotated[str, typer.Option(help="By preference: accuracy=2,latency=1.")] = "",
    device: Annotated[
        str | None, typer.Option(help="Whose latency, when the search had several devices.")
    ] = None,
    search: Annotated[str, typer.Option(help="Whose front.")] = "default",
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Name the best verified subnetwork within a budget, at the knee, or by preference."""
    with showing(quiet=quiet):
        from app.commands.texts.searches import format_pick
        from app.jobs.pick import pick_job

        result = pick_job(
            run,
            latency_ms,
            search,
            limits=tuple(limits or ()),
            knee=knee,
            weights=weights or None,
            device=device,
        )
    show(result, format_pick(result), json)


def cascade(
    run: RunDir,
    latency_ms: Annotated[float | None, typer.Option(help="Upper limit in milliseconds.")] = None,
    percentile: Annotated[
        float | None,
        typer.Option(help="Percent of samples that must keep the limit [the mean must]."),
    ] = None,
    small: Annotated[
        str | None, typer.Option(help="Instead of a limit: who answers first, as for --arch.")
    ] = None,
    large: Annotated[
        str | None, typer.Option(help="With --small: who is asked where that one is not sure.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="With --small: confidence that is sure enough, 0 to 1.")
    ] = None,
    early_exit: Annotated[
        bool,
        typer.Option("--early-exit", help="Let networks answer early, after their first layers."),
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="Whose latency, when the search had several devices.")
    ] = None,
    search: Annotated[str, typer.Option(help="Whose front.")] = "default",
    out: Annotated[
        Path | None, typer.Option(help="Export both networks and the threshold to this folder.")
    ] = None,
    data: MovedData = None,
    trust: Trust = None,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find two verified subnetworks that answer together, the larger where the other is unsure."""
    with showing(quiet=quiet) as say:
        from app.commands.texts.cascades import format_cascade
        from app.jobs.cascade import CascadeRequest, cascade_job

        request = CascadeRequest(
            run,
            latency_ms,
            search,
            device=device,
            percentile=percentile,
            small=small,
            large=large,
            threshold=threshold,
            early_exit=early_exit,
            out=out,
            data=data,
            trust=trust or (),
        )
        result = cascade_job(request, say)
    show(result, format_cascade(result), json)


def _split(names: str) -> tuple[str, ...]:
    """Split what was given with commas between."""
    return tuple(part.strip() for part in names.split(",")) if names else ()
