"""What jobs return: finished work as values, for scripts and for what commands print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.records.audit import AuditRecord
from app.records.class_balance import LargestClass
from app.records.finetune import FinetuneRecord
from app.records.searches.alone import CalibrationRecord
from app.records.searches.front import Point
from app.records.searches.front_extras import FinalistsRecord
from app.reporting.report_text import SearchSummary
from supernet.space import Value


@dataclass(frozen=True)
class TrainOutcome:
    """A finished training.

    ``trust`` are the user's own modules that the run names, and ``largest_class`` is that of the
    split that is searched on.
    """

    run: Path
    family: str
    preset: str
    data: str
    steps: int
    resumed_from: int
    seconds: float
    checkpoint: str
    space_size: int
    trust: tuple[str, ...] = ()
    largest_class: LargestClass | None = None


@dataclass(frozen=True)
class ImportOutcome:
    """An imported supernet."""

    run: Path
    family: str
    preset: str
    file: Path
    data: str
    classes: int
    resolutions: tuple[int, ...]
    checkpoint: str
    space_size: int
    assumed: str


@dataclass(frozen=True)
class QuantizeOutcome:
    """A run with the weights of another whose units choose their number format.

    ``trust`` are the user's own modules that it names.
    """

    run: Path
    source: Path
    precision: str
    calibration: str
    checkpoint: str
    space_size: int
    trust: tuple[str, ...] = ()


@dataclass(frozen=True)
class GenerateOutcome:
    """A text that a language model went on with.

    ``first_ms`` is the time until the first token (the prompt was read), ``token_ms`` that of each
    one after it, both as they happened, on whatever else the machine did. With a draft,
    ``acceptance`` is the share of its tokens that were right, and ``passes`` the forward passes of
    the model.
    """

    run: Path
    digest: str
    prompt: str
    text: str
    prompt_tokens: int
    tokens: int
    first_ms: float
    token_ms: float | None
    draft: str | None = None
    acceptance: float | None = None
    passes: int | None = None


@dataclass(frozen=True)
class ProfileOutcome:
    """A latency table and how far it can be trusted; errors are fractions.

    ``trust`` are the user's own modules that the run and the device name.
    """

    run: Path
    device: str
    units: int
    mape: float
    within_5: float
    within_10: float
    kendall_tau: float
    floor_mape: float
    networks: int
    trustworthy: bool
    verdict: str
    seconds: float
    reused: bool
    trust: tuple[str, ...] = ()


@dataclass(frozen=True)
class SearchOutcome:
    """A finished search; ``front`` has one record per point, cheapest first.

    ``stopped`` is ``"evaluations"``, ``"time"``, ``"stagnation"`` or ``"exhausted"``; ``failed``
    counts evaluations that failed; ``units`` are those of the objectives; ``hypervolume`` is that
    of the verified front and ``searched_hypervolume`` that of the values searched by;
    ``indistinguishable`` counts points off the front that may belong there as far as is known;
    ``largest_class`` is that of the split searched on; ``finalists`` is what was evaluated on
    further samples besides, where the data has some; ``calibration`` is by which networks, trained
    alone, the front was calibrated.
    """

    run: Path
    search: str
    device: str
    evaluations: int
    reused: int
    failed: int
    stopped: str
    objectives: tuple[str, ...]
    units: Mapping[str, str]
    front: tuple[Point, ...]
    indistinguishable: int
    hypervolume: float | None
    searched_hypervolume: float | None
    baseline_hypervolume: float | None
    predictor_tau: float | None
    unmeasured_devices: tuple[str, ...]
    largest_class: LargestClass | None = None
    finalists: FinalistsRecord | None = None
    calibration: CalibrationRecord | None = None


@dataclass(frozen=True)
class PickOutcome:
    """The chosen subnetwork; latencies in milliseconds, ``costs`` the others in ``units``.

    ``by`` is ``"budget"``, ``"knee"`` or ``"weights"``. ``value`` was evaluated on the validation
    split; ``posterior`` is what all evaluations together say, with its 95 % interval for new data,
    and ``alone`` what the subnetwork is expected to be worth trained alone from scratch, with that
    of one such training, where the search was calibrated.
    ``best`` is the subnetwork of the best expected quality within the budget, or where the quality
    is limited, of the least of ``best_by``; ``best_value`` is its quality, and ``ties`` are the
    others that cannot be told apart from it in ``best_by``, cheapest first: the chosen one is the
    cheapest of all these.
    ``test_balanced`` is the accuracy on test as a mean over the classes, and ``largest_class`` that
    of the split searched on. ``trust`` are the user's own modules that the run names.
    """

    run: Path
    search: str
    device: str
    by: str
    budget_ms: float | None
    limits: tuple[str, ...]
    weights: Mapping[str, float] | None
    digest: str
    latency_ms: float | None
    latency_predicted_ms: float | None
    latency_source: str
    objective: str
    value: float
    predicted: float | None
    test: float | None
    best: str
    best_value: float | None
    ties: tuple[str, ...]
    costs: Mapping[str, int | float | None]
    units: Mapping[str, str]
    architecture: Mapping[str, Value]
    trust: tuple[str, ...] = ()
    test_balanced: float | None = None
    largest_class: LargestClass | None = None
    posterior: float | None = None
    posterior_interval: tuple[float, float] | None = None
    best_by: str = ""
    alone: float | None = None
    alone_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class ReportOutcome:
    """What was written: ``report.html`` and ``report.md`` in ``folder``, a folder for each search.

    ``skipped`` are the searches whose front is damaged.
    """

    run: Path
    folder: Path
    searches: tuple[SearchSummary, ...]
    written: tuple[str, ...]
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluateOutcome:
    """A quality with its 95 % interval.

    Of an accuracy, ``balanced`` is the mean over the classes, where it is known, and
    ``largest_class`` the one that is most frequent in the split. ``failure`` says why there is no
    value. ``bits_per_byte`` is the loss of a text in a unit that does not depend on its tokens.
    """

    run: Path
    digest: str
    data: str
    split: str
    objective: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    samples: int
    calibration_samples: int
    parameters: int
    macs: int
    balanced: float | None = None
    largest_class: LargestClass | None = None
    failure: str | None = None
    bits_per_byte: float | None = None


@dataclass(frozen=True)
class AuditOutcome:
    """A finished audit.

    Args:
        run: The run.
        audit: Its name.
        folder: Where it is stored.
        stored: Whether it was there already, complete.
        report: What it found.
        verdict: What inherited weights are worth, in one sentence.
        advice: Sentences about what to think of it, and what to change.
    """

    run: Path
    audit: str
    folder: Path
    stored: bool
    report: AuditRecord
    verdict: str = ""
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class FinetuneOutcome:
    """A finished fine-tuning.

    Args:
        run: The run.
        name: What it is called.
        folder: Where it is stored.
        export: The folder of the exported network.
        stored: Whether it was there already, complete.
        report: What came of it.
    """

    run: Path
    name: str
    folder: Path
    export: Path
    stored: bool
    report: FinetuneRecord


@dataclass(frozen=True)
class ExportOutcome:
    """An exported subnetwork.

    ``size_bytes`` is what searches count, ``tensor_bytes`` what its tensors take as they are
    written, ``overhead_bytes`` the rest of the ONNX model where units compute in number formats of
    their own, and ``file_bytes`` the files. Of such an export, ``formats`` are those of its units,
    ``runtime_value`` is its quality on test in ONNX Runtime,
    ``islands`` say what stays in float between integers, and ``unsafe_layers`` are those whose
    sums may saturate on processors without 8-bit dot products.
    """

    folder: Path
    digest: str
    parameters: int
    macs: int
    objective: str
    value: float | None
    split: str
    latency_ms: float | None
    max_abs_difference: float
    size_bytes: int
    tensor_bytes: int
    file_bytes: Mapping[str, int]
    formats: Mapping[str, str] = field(default_factory=dict)
    overhead_bytes: int = 0
    runtime_value: float | None = None
    islands: tuple[str, ...] = ()
    unsafe_layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class NestedModel:
    """One of several exported subnetworks; ``model_bytes`` is its file without the weights."""

    file: str
    digest: str
    parameters: int
    value: float | None
    model_bytes: int


@dataclass(frozen=True)
class ExportNestedOutcome:
    """Several subnetworks with one file of weights, beside the largest of them with its own."""

    folder: Path
    models: tuple[NestedModel, ...]
    objective: str
    weights_bytes: int
    largest_alone_bytes: int
    max_abs_difference: float


@dataclass(frozen=True)
class CascadePoint:
    """A cascade of two subnetworks, or with ``large = None`` one, on the validation split.

    ``continued`` is the share of samples that ``large`` is asked about, because ``small`` is less
    sure than ``threshold``. Latencies are in milliseconds, percentiles those of samples. ``shared``
    are the layers behind which ``large`` goes on from where ``small`` stopped; 0 where it starts
    anew.
    """

    small: str
    large: str | None
    threshold: float
    continued: float
    accuracy: float
    mean_ms: float
    percentiles_ms: Mapping[int, float]
    shared: int = 0


@dataclass(frozen=True)
class JudgedCascade:
    """An operating point, and its accuracy, 95 % interval, share and latencies on test."""

    point: CascadePoint
    accuracy: float
    interval: tuple[float, float]
    continued: float
    mean_ms: float
    percentiles_ms: Mapping[int, float]


@dataclass(frozen=True)
class CascadeOutcome:
    """The best cascade within a budget, the best single subnetwork, and all points of the front.

    Of an operating point that was given, ``budget_ms`` is what it takes on the validation split.
    ``difference`` is by how much more samples of test the cascade answers rightly than the single
    subnetwork, with its 95 % interval over the same samples; ``None`` where they are the same.
    """

    run: Path
    search: str
    device: str
    budget_ms: float
    percentile: float | None
    chosen: JudgedCascade
    single: JudgedCascade
    front: tuple[CascadePoint, ...]
    folder: Path | None
    given: bool = False
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class QuickstartOutcome:
    """What came out of each stage; ``ends`` are the smallest and the largest network."""

    run: Path
    train: TrainOutcome
    profile: ProfileOutcome
    search: SearchOutcome
    ends: Mapping[str, EvaluateOutcome]
    budget_ms: float
    pick: PickOutcome
    export: ExportOutcome
    next_command: str
