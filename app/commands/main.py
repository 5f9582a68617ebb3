"""The command line: every command turns flags into a request, runs one job and shows the result."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from app.commands import errors, search_commands, terminal
from app.commands.arguments import check_arguments
from app.commands.folders import BACKENDS
from app.commands.options import Arch, Config, Json, MovedData, Quiet, RunDir, Seed, Trust, app
from app.commands.progress.showing import showing
from app.commands.terminal import show
from supernet.reproducible import use_reproducible_kernels

# Typer's own and click's exceptions, depending on its version, share this base.
_USAGE: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"
)


def _print_version(asked: bool) -> None:
    if asked:
        from supernet import __version__

        print(__version__)
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Train one elastic supernet, profile your device, get the subnetworks that fit it."""


@app.command(epilog="Example: supernet quickstart --out runs/quickstart")
def quickstart(
    out: Annotated[Path, typer.Option(help="Run directory.")] = Path("runs/quickstart"),
    seed: Seed = 0,
    steps: Annotated[int | None, typer.Option(help="Training steps [2,800].")] = None,
    evaluations: Annotated[int, typer.Option(help="Architectures to evaluate.")] = 150,
    passes: Annotated[int | None, typer.Option(help="Sessions of every profiled unit.")] = None,
    networks: Annotated[int | None, typer.Option(help="Networks that judge the table.")] = None,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Do everything on built-in cluttered digits: train, profile, search, verify, pick, export."""
    with showing(quiet=quiet) as say:
        from app.commands.texts.quickstart import format_quickstart
        from app.jobs.quickstart import QuickstartRequest, quickstart_job

        request = QuickstartRequest(
            out=out,
            seed=seed,
            steps=steps,
            evaluations=evaluations,
            passes=passes,
            networks=networks,
        )
        result = quickstart_job(request, say)
    show(result, format_quickstart(result), json)


@app.command(epilog="Example: supernet families")
def families(quiet: Quiet = False, json: Json = False) -> None:
    """List what can be trained."""
    with showing(quiet=quiet):
        from app.commands import describe as describing
        from app.commands.describe import format_families

        found = describing.list_families()
    show(found, format_families(found), json)


@app.command(epilog="Example: supernet describe ofa_mobilenetv3 --preset small-image")
def describe(
    family: Annotated[str, typer.Argument(help="Family, or dotted path of your own module.")],
    preset: Annotated[str | None, typer.Option(help="Preset; default the family's own.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Number formats of units: fp32,int8, ... [fp32].")
    ] = None,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Show the size of a search space and the costs of its smallest, median and largest network."""
    with showing(quiet=quiet):
        from app.commands import describe as describing
        from app.commands.describe import format_description

        found = describing.describe_family(family, preset, precision)
    show(found, format_description(found), json)


@app.command(epilog="Example: supernet train --family ofa_mobilenetv3 --data digits --out runs/a")
def train(
    out: Annotated[Path, typer.Option(help="Run directory.")],
    family: Annotated[str | None, typer.Option(help="Family [ofa_mobilenetv3].")] = None,
    preset: Annotated[str | None, typer.Option(help="Preset of the family.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="digits, clutter, folder:PATH, text:PATH or package.module:function."),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Training recipe; suits the data.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random decision.")] = None,
    steps: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Instead of the recipe's.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels, for folders of images.")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens seen at once, for text.")] = None,
    tokens: Annotated[
        str | None, typer.Option(help="What a text is cut into: characters, bytes, bpe.")
    ] = None,
    vocabulary: Annotated[
        int | None, typer.Option(help="Largest number of distinct tokens, for text.")
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="A finished run; its largest network teaches.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Number formats of units: fp32,int8, research, ... [fp32].")
    ] = None,
    precision_method: Annotated[
        str | None, typer.Option(help="Steps of integers: lsq, minmax or dorefa [lsq].")
    ] = None,
    origin: Annotated[
        Path | None, typer.Option("--from", help="A finished run to begin with the weights of.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    shard: Annotated[
        bool, typer.Option("--shard", help="Divide the optimiser's state among torchrun's.")
    ] = False,
    trust: Trust = None,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a supernet; the same command continues a training that was stopped."""
    with showing(quiet=quiet) as say:
        from app.commands.texts.runs import format_training
        from app.jobs.train import TrainRequest, train_job

        request = TrainRequest(
            out=out,
            family=family,
            preset=preset,
            data=data,
            recipe=recipe,
            seed=seed,
            steps=steps,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            checkpoint_every=checkpoint_every,
            image_size=image_size,
            context=context,
            tokens=tokens,
            vocabulary=vocabulary,
            teacher=teacher,
            precision=precision,
            precision_method=precision_method,
            origin=origin,
            resume=resume,
            shard=shard,
            trust=tuple(trust or ()),
        )
        result = train_job(request, say)
    show(result, format_training(result), json)


@app.command(
    "import", epilog="Example: supernet import ofa ofa_mbv3_d234_e346_k357_w1.0 --out runs/ofa"
)
def import_(
    format: Annotated[str, typer.Argument(help="Whose checkpoint: ofa.")],
    file: Annotated[Path, typer.Argument(help="Checkpoint: .safetensors or .pth.")],
    out: Annotated[Path, typer.Option(help="Run directory.")],
    key: Annotated[str | None, typer.Option(help="Which state dict, if it has several.")] = None,
    data: Annotated[str | None, typer.Option(help="folder:PATH of the same classes.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels [as published].")] = None,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make a run of a supernet that others trained and released."""
    with showing(quiet=quiet) as say:
        from app.commands.texts.runs import format_import
        from app.jobs.import_checkpoint import ImportRequest, import_job

        request = ImportRequest(
            format=format, file=file, out=out, key=key, data=data, image_size=image_size
        )
        result = import_job(request, say)
    show(result, format_import(result), json)


@app.command(epilog="Example: supernet quantize --run runs/a --precision fp32,int8 --out runs/b")
def quantize(
    run: RunDir,
    precision: Annotated[str, typer.Option(help="Number formats of units: fp32,int8, ...")],
    out: Annotated[Path, typer.Option(help="Run directory to make.")],
    calibration: Annotated[
        str | None, typer.Option(help="minmax, percentile, mse or entropy [mse].")
    ] = None,
    trust: Trust = None,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Let the units of a trained run choose their number format, without training."""
    with showing(quiet=quiet) as say:
        from app.commands.texts.runs import format_quantization
        from app.jobs.quantize import QuantizeRequest, quantize_job

        request = QuantizeRequest(
            run=run,
            out=out,
            precision=precision,
            calibration=calibration,
            trust=tuple(trust or ()),
        )
        result = quantize_job(request, say)
    show(result, format_quantization(result), json)


@app.command(epilog="Example: supernet profile --run runs/a --device cpu --threads 1")
def profile(
    run: RunDir,
    device: Annotated[str, typer.Option(help="Name of the device.")] = "cpu",
    provider: Annotated[
        str | None, typer.Option(help="What computes, as the backend calls it.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help=f"{BACKENDS}, or your own module [as profiled before].")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of one operator.")] = 1,
    precision: Annotated[
        str | None, typer.Option(help="Number formats of units: fp32,int8 [those of the run].")
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(help="Of language models: prefill:TOKENS or decode:CACHED [whole inputs]."),
    ] = None,
    seed: Seed = 0,
    passes: Annotated[int | None, typer.Option(help="Sessions of every unit.")] = None,
    networks: Annotated[int | None, typer.Option(help="Networks that judge the table.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Measure again.")] = False,
    trust: Trust = None,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Build and validate the latency table of a device."""
    with showing(quiet=quiet) as say:
        from app.commands.texts.runs import format_profile
        from app.jobs.profile import ProfileRequest, profile_job

        request = ProfileRequest(
            run=run,
            device=device,
            provider=provider,
            threads=threads,
            precision=precision,
            seed=seed,
            passes=passes,
            networks=networks,
            replace=replace,
            backend=backend,
            workload=workload,
            trust=tuple(trust or ()),
        )
        result = profile_job(request, say)
    show(result, format_profile(result), json)


search_commands.register()


@app.command(epilog="Example: supernet report --run runs/a")
def report(
    run: RunDir,
    out: Annotated[Path | None, typer.Option(help="Folder [RUN/report].")] = None,
    search: Annotated[str | None, typer.Option(help="One search only.")] = None,
    baseline: Annotated[
        bool, typer.Option(help="Evaluate random search beside where it is missing.")
    ] = True,
    data: MovedData = None,
    trust: Trust = None,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write tables and figures of every search of a run, random search beside."""
    with showing(quiet=quiet) as say:
        from app.commands.texts.searches import format_report
        from app.jobs.report import report_job

        result = report_job(
            run, say, out=out, search=search, baseline=baseline, data=data, trust=trust or ()
        )
    show(result, format_report(result), json)


@app.command(epilog="Example: supernet evaluate --run runs/a --arch largest --split test")
def evaluate(
    run: RunDir,
    arch: Arch,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    data: Annotated[str | None, typer.Option(help="Other data with the same classes.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples at a time.")] = None,
    trust: Trust = None,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Evaluate one subnetwork with inherited weights."""
    with showing(quiet=quiet) as say:
        from app.commands.texts.runs import format_evaluation
        from app.jobs.evaluate import evaluate_job

        result = evaluate_job(
            run, arch, say, split=split, data=data, batch_size=batch_size, trust=trust or ()
        )
    show(result, format_evaluation(result), json)


@app.command(epilog="Example: supernet generate --run runs/text --arch largest --prompt 'KING: '")
def generate(
    run: RunDir,
    arch: Arch,
    prompt: Annotated[str, typer.Option(help="Text to go on from.")],
    new_tokens: Annotated[
        int | None, typer.Option(help="How many to generate [as many as the context holds].")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Divides the logits of a drawn token; 0 takes the likeliest.")
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option(help="Probability of the likeliest tokens that are drawn from.")
    ] = 1.0,
    seed: Seed = 0,
    engine: Annotated[str, typer.Option(help="torch or onnxruntime.")] = "torch",
    draft: Annotated[
        str | None, typer.Option(help="Architecture that drafts tokens for --arch to verify.")
    ] = None,
    drafted: Annotated[
        int | None, typer.Option(help="Tokens drafted before they are verified [4].")
    ] = None,
    data: MovedData = None,
    trust: Trust = None,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Let a language model go on from a text, token by token; a smaller one may draft for it."""
    with showing(quiet=quiet) as say:
        from app.commands.texts.generations import format_generation
        from app.jobs.generate import GenerateRequest, generate_job

        request = GenerateRequest(
            run=run,
            architecture=arch,
            prompt=prompt,
            new_tokens=new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            engine=engine,
            draft=draft,
            drafted=drafted,
            data=data,
            trust=tuple(trust or ()),
        )
        result = generate_job(request, say)
    show(result, format_generation(result), json)


@app.command(epilog="Example: supernet audit --run runs/a --networks 12")
def audit(
    run: RunDir,
    networks: Annotated[int, typer.Option(help="How many train alone, at least 4.")] = 12,
    epochs: Annotated[
        int | None, typer.Option(help="Of each; by default a quarter of the supernet's passes.")
    ] = None,
    seed: Seed = 0,
    split: Annotated[str, typer.Option(help="val or test.")] = "val",
    recipe_part: Annotated[
        str, typer.Option(help="Settings of the stand-alone training: learning_rate=0.1,...")
    ] = "",
    bin: Annotated[float | None, typer.Option(help="Differences below it tie [0.001].")] = None,
    probes: Annotated[int, typer.Option(help="Checks of the inherited weights; 0: none.")] = 3,
    recipes: Annotated[
        str, typer.Option(help="Others to train by at equal passes: spos,sandwich")
    ] = "",
    name: Annotated[str, typer.Option(help="Name of the audit.")] = "default",
    replace: Annotated[bool, typer.Option("--replace", help="Replace another audit.")] = False,
    data: MovedData = None,
    trust: Trust = None,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train some subnetworks alone and say how well inherited weights rank them."""
    with showing(quiet=quiet) as say:
        from app.auditing.request import AuditRequest
        from app.commands.texts.audits import format_audit
        from app.jobs.audit import audit_job

        request = AuditRequest(
            run=run,
            networks=networks,
            epochs=epochs,
            seed=seed,
            split=split,
            recipe_part=recipe_part,
            bin=bin,
            probes=probes,
            recipes=recipes,
            name=name,
            replace=replace,
            data=data,
            trust=tuple(trust or ()),
        )
        result = audit_job(request, say)
    show(result, format_audit(result), json)


@app.command(epilog="Example: supernet export --run runs/a --arch 3f2a90c1d2e4 --out my-model")
def export(
    run: RunDir,
    arch: Arch,
    out: Annotated[Path | None, typer.Option(help="Folder [RUN/exports/DIGEST].")] = None,
    data: MovedData = None,
    trust: Trust = None,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write one subnetwork as ONNX, safetensors, JSON, model card and parity proof.

    Several (--arch A,B,C) become ONNX models that share one file of weights.
    """
    several = [name.strip() for name in arch.split(",")]
    with showing(quiet=quiet) as say:
        if len(several) > 1 and not Path(arch).exists():
            from app.commands.texts.nested_exports import format_nested_export
            from app.jobs.export_nested import export_nested_job

            nested = export_nested_job(run, several, out, say, data=data, trust=trust or ())
            shown: tuple[object, str] = nested, format_nested_export(nested)
        else:
            from app.commands.texts.runs import format_export
            from app.jobs.export import export_job

            alone = export_job(run, arch, out, say, data=data, trust=trust or ())
            shown = alone, format_export(alone)
    show(*shown, json)


@app.command(epilog="Example: supernet finetune --run runs/a --arch 3f2a90c1d2e4")
def finetune(
    run: RunDir,
    arch: Arch,
    steps: Annotated[
        int | None, typer.Option(help="How long; by default a quarter of the supernet's passes.")
    ] = None,
    recipe_part: Annotated[
        str, typer.Option(help="Settings of the training: learning_rate=0.1,label_share=2,...")
    ] = "",
    teacher: Annotated[
        bool, typer.Option(help="Learn from the largest network, beside the labels.")
    ] = True,
    seed: Seed = 0,
    name: Annotated[str | None, typer.Option(help="Name of the fine-tuning [DIGEST].")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace another one.")] = False,
    data: MovedData = None,
    trust: Trust = None,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train one subnetwork on from inherited weights, and write it as export does."""
    with showing(quiet=quiet) as say:
        from app.commands.texts.finetunes import format_finetuning
        from app.jobs.finetune import FinetuneRequest, finetune_job

        request = FinetuneRequest(
            run=run,
            architecture=arch,
            steps=steps,
            recipe_part=recipe_part,
            teacher=teacher,
            seed=seed,
            name=name,
            replace=replace,
            data=data,
            trust=tuple(trust or ()),
        )
        result = finetune_job(request, say)
    show(result, format_finetuning(result), json)


@app.command(epilog="Example: supernet explore runs/quickstart")
def explore(
    runs: Annotated[list[Path] | None, typer.Argument(help="Runs, or folders of runs.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port.")] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Open no browser.")] = False,
    host: Annotated[
        str | None, typer.Option(help="Address to serve other machines at [this machine only].")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the command, start nothing.")] = False,
) -> None:
    """Open runs in the browser."""
    from app.commands.serve_explorer import explore_job, prepare, warn_of_host

    command = prepare(runs or [], port, headless, host)
    if host is not None:
        terminal.say(warn_of_host(host))
    if json:
        show({"command": command}, "", True)
    elif explore_job(command):
        raise typer.Exit(errors.FAILED)


@app.command(epilog="Example: supernet doctor")
def doctor(quiet: Quiet = False, json: Json = False) -> None:
    """Say what this machine can do, and what is missing."""
    with showing(quiet=quiet):
        from app.commands.doctor import examine, format_health

        health = examine(Path())
    show(health, format_health(health), json)
    if health.problems:
        raise typer.Exit(errors.FAILED)


# Commands that keep what they have done, step by step.
_CONTINUE = frozenset(
    ("quickstart", "train", "quantize", "profile", "evaluate", "audit", "finetune", "search")
)


@cache
def _build_command() -> Callable[..., Any]:
    """The commands with their options, which Typer would find out anew for every call."""
    return typer.main.get_command(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code: 0, 2 (bad input), 130 (Ctrl-C) or 1."""
    continues = bool(arguments) and arguments[0] in _CONTINUE
    try:
        check_arguments(arguments)
        result = _build_command()(list(arguments), prog_name="supernet", standalone_mode=False)
        if result == errors.INTERRUPTED:
            # Typer turns Ctrl-C into this exit code and says nothing.
            return errors.report(KeyboardInterrupt(), continues=continues)
        return result if isinstance(result, int) else errors.OK
    except typer.Abort:
        return errors.report(KeyboardInterrupt(), continues=continues)
    except _USAGE as error:
        terminal.say(f"error: {error.format_message()}")  # type: ignore[attr-defined]
        return errors.BAD_INPUT
    except BrokenPipeError:
        # The reader of our output went away, as `head` does; nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.FAILED
    except (Exception, KeyboardInterrupt) as error:
        return errors.report(error, continues=continues)


def main() -> None:
    """Entry point of the ``supernet`` command."""
    # Before any command imports torch; what it starts inherits it.
    use_reproducible_kernels()
    # Its worker processes look for no module in the working directory (from Python 3.11 on).
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    sys.exit(run(sys.argv[1:]))
