"""Profiling as a job: a validated latency table of a run's space on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from app.jobs.outcomes import ProfileOutcome
from app.progress import Say, Step
from app.records.numbers import format_items
from app.runs import plugins
from app.runs.command_lines import list_own_modules
from app.runs.directory import Run, open_run
from app.runs.executable import check_executable
from app.runs.latency_table import compile_table, find_device, load_table
from app.runs.offer_precision import offer_precision
from app.runs.precision import show_policy
from app.runs.trained import build
from hardware.device import Device
from hardware.fusion_probe import probe_contract
from hardware.profile import Budget, choose_budget, is_replaced, profile
from hardware.table import LatencyTable, list_precisions
from supernet import files
from supernet.costs.cost_model import CostModel
from supernet.costs.workloads import parse_workload
from supernet.errors import InputError
from supernet.space import nearest


@dataclass(frozen=True, kw_only=True)
class ProfileRequest:
    """What to profile.

    Args:
        run: The run directory.
        device: Name of the device; a new one but ``cpu`` needs a provider, backend or workload.
        provider: ONNX Runtime execution provider.
        threads: Threads of one operator.
        precision: Number formats of the units, such as ``"fp32,int8"``; ``None`` for those that
            the run offers.
        seed: Decides measured networks, their order and weights.
        passes: Fresh sessions of every unit and network; ``None`` suits the number of units.
        networks: Whole networks to validate on, and at most as many to calibrate on.
        replace: Measure again what is already there.
        backend: Module name in ``hardware/devices`` or a dotted path; ``None`` keeps the one of a
            known device, else ``onnx_runtime``.
        workload: What networks are asked to do, ``"prefill:TOKENS"`` or ``"decode:CACHED"``;
            ``None`` keeps that of a known device, else whole inputs.
        trust: Dotted paths of the user's own modules that files of the run may name.
    """

    run: Path
    device: str = "cpu"
    provider: str | None = None
    threads: int = 1
    precision: str | None = None
    seed: int = 0
    passes: int | None = None
    networks: int | None = None
    replace: bool = False
    backend: str | None = None
    workload: str | None = None
    trust: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed = {self.seed} is impossible; it must be at least 0")
        if self.passes is not None and self.passes < 2:
            raise InputError(f"passes = {self.passes}: two are needed to tell noise from signal")
        if self.networks is not None and self.networks < 4:
            raise InputError(
                f"networks = {self.networks}: calibration and validation need 4 networks each, "
                "or more"
            )


def profile_job(request: ProfileRequest, say: Say) -> ProfileOutcome:
    """Build the latency table of a device, or continue where a killed command stopped.

    Args:
        request: What to profile.
        say: Told about progress.

    Raises:
        InputError: Unknown device or precision, the run offers other precisions and has results,
            the runtime cannot execute one of them, or the device's folder holds another table.
        OSError: The disk is full; an older table is intact.
    """
    run = open_run(request.run, (*request.trust, *_list_typed(request)))
    device = _choose_device(request, run)
    shortage = device.explain_shortage()
    if shortage is not None:
        say(f"warning: {shortage}")
    offer_precision(run, request.precision, say)
    say(Step("building the network", passing=True))
    supernet = build(run)
    workload = parse_workload(device.workload)
    if run.record.precision is not None and device.backend == Device().backend:
        check_executable(supernet, probe_contract())
    cost_model = supernet.cost_model(workload)
    budget = _choose_budget(request, cost_model)
    folder = run.device(device.name)
    config = {
        "device": device.to_json(),
        "precision": show_policy(run.record.precision),
        "seed": request.seed,
        "passes": request.passes,
        "networks": request.networks,
    }
    begun = _find_interrupted(run)
    if not request.replace or (begun == config and is_replaced(folder)):
        said: list[str | Step] = []
        # What is only read needs no lock, and may lie on a read-only disk.
        old = _find_table(run, device, cost_model, request, said.append)
        if old is not None:
            for line in said:
                say(line)
            if begun is not None and begun.get("device") == config["device"]:
                run.mend_stage("profile", trustworthy=old.report["trustworthy"])
            return _summarise(run, old, reused=True)
    with run.writing():
        old = None if request.replace else _find_table(run, device, cost_model, request, say)
        if old is not None:
            return _summarise(run, old, reused=True)
        run.set_stage("profile", "running", config=config)
        say(f"profile {device.name}: {format_items(len(cost_model.distinct), 'unit')}")
        say(Step(f"profile {device.name}: preparing", passing=True))
        table = profile(
            cost_model,
            lambda architecture: supernet.graph(architecture, workload),
            device,
            folder=folder,
            seed=request.seed,
            budget=budget,
            progress=lambda done, total: say(
                Step(f"profile {device.name}", done, total, "measurement")
            ),
            replace=request.replace,
        )
        run.set_stage("profile", "complete", trustworthy=table.report["trustworthy"])
    return _summarise(run, table, reused=False)


def _find_interrupted(run: Run) -> Mapping[str, object] | None:
    """The settings of a command that began to profile and did not come to note its end."""
    stage = run.stage("profile")
    return None if stage is None or stage.complete else stage.config


def _choose_device(request: ProfileRequest, run: Run) -> Device:
    known = tuple(dict.fromkeys(("cpu", *run.devices)))
    new = request.device not in known
    own = (request.provider, request.backend, request.workload)
    if new and own == (None, None, None):
        raise InputError(
            f"unknown device {request.device!r}{nearest(request.device, known)}; known are "
            f"{', '.join(known)}; a new device needs --provider, --backend or --workload"
        )
    old = find_device(run, request.device) or Device()
    if new:
        files.check_new_name("device", request.device)
    backend = old.backend if request.backend is None else request.backend
    provider = request.provider
    if provider is None:
        # The default provider of another backend is its own.
        provider = old.provider if backend == old.backend else ""
    plugins.load_backend(backend)
    workload = old.workload if request.workload is None else request.workload
    parse_workload(workload)
    found = Device(
        request.device, provider, threads=request.threads, backend=backend, workload=workload
    )
    found.check()
    return found


def _list_typed(request: ProfileRequest) -> tuple[str, ...]:
    """What the user names by asking for it."""
    return () if request.backend is None else (request.backend,)


def _find_table(
    run: Run, device: Device, cost_model: CostModel, request: ProfileRequest, say: Say
) -> LatencyTable | None:
    """The table that is already there, if it is the one asked for."""
    folder = run.device(device.name)
    if not (folder / "report.json").exists():
        return None
    try:
        table = load_table(run, device.name)
    except InputError as error:
        say(f"warning: {error}")
        return None
    if table.note:
        # The damaged table is measured again; what can be used meanwhile is not what was asked.
        say(f"warning: {table.note} until this one is complete")
        return None
    if table.device != device:
        old, new = table.device.to_json(), device.to_json()
        changes = [
            f"{k}: {old.get(k, 'none')} -> {new.get(k, 'none')}"
            for k in dict.fromkeys((*old, *new))
            if old.get(k) != new.get(k)
        ]
        raise InputError(
            f"{folder} holds another table ({', '.join(changes)}); choose another --device name, "
            "or --replace it"
        )
    compile_table(run, device.name, table, cost_model)
    table.check_device(device)
    say(f"profile {device.name}: the table is already there; --replace measures again")
    return table


def _choose_budget(request: ProfileRequest, cost_model: CostModel) -> Budget:
    precisions = list_precisions(cost_model.distinct)
    budget = choose_budget(len(cost_model.distinct), len(precisions))
    if request.passes is not None:
        budget = replace(budget, passes=request.passes)
    if request.networks is not None:
        calibration = min(budget.calibration, request.networks)
        budget = replace(budget, validation=request.networks, calibration=calibration)
    return budget


def _summarise(run: Run, table: LatencyTable, *, reused: bool) -> ProfileOutcome:
    report = table.report
    return ProfileOutcome(
        run=run.path,
        device=table.device.name,
        units=len(table.rows),
        mape=report["mape"],
        within_5=report["within_5"],
        within_10=report["within_10"],
        kendall_tau=report["kendall_tau"],
        floor_mape=report["floor_mape"],
        networks=report["networks"],
        trustworthy=report["trustworthy"],
        verdict=report["verdict"],
        seconds=round(report.get("seconds", 0.0), 1),
        reused=reused,
        trust=(*list_own_modules(run.record), *filter(plugins.is_own, [table.device.backend])),
    )
