"""What an audit was asked to do, as a checked request and as the settings it is stored with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.records.audit import FEWEST_JUDGED, AuditSettings
from app.records.typed_json.plain import plain
from app.runs import settings
from app.runs.alone import state_steps
from app.runs.batch_size import check_batch
from app.runs.recipe_parts import read_parts
from app.runs.trained import Trained, read_recipe
from supernet import files
from supernet.errors import InputError
from supernet.quality.evaluate import CALIBRATION_SAMPLES
from supernet.space import nearest
from supernet.training import Recipe
from supernet.training.standalone import make_standalone_recipe

SPLITS = ("val", "test")
FEWEST = 4
# Below this a difference says nothing: 0.1 % as in "How to Train Your Super-Net".
BINS = {"accuracy": 0.001, "loss": 0.01}


@dataclass(frozen=True, kw_only=True)
class AuditRequest:
    """What to audit.

    Args:
        run: The run directory.
        networks: How many train alone, at least 4.
        epochs: How long they are trained; by default for a quarter of the
            supernet's passes.
        seed: Decides the choice of networks, their initial weights and batches.
        split: ``"val"`` or ``"test"``.
        recipe_part: Other settings of the stand-alone training, ``"name=value,name=value"``.
        bin: Accuracies (or losses) closer than this tie in the sparse Kendall tau; by default
            0.001 (0.01 nats).
        probes: Random chains, and probes of each choice, that examine the inherited weights;
            0 leaves these checks out.
        recipes: Names of other recipes to train the supernet by, at as many passes as that of the
            run, divided by commas; what decides the rest of the audit they are no part of, so that
            more of them can be asked for later.
        name: What the audit is called.
        replace: Audit anew where another audit has this name.
        data: Where the data of the run are now, if they moved; recorded in the run.
        trust: Dotted paths of the user's own modules that files of the run may name.
    """

    run: Path
    networks: int = 12
    epochs: int | None = None
    seed: int = 0
    split: str = "val"
    recipe_part: str = ""
    bin: float | None = None
    probes: int = 3
    recipes: str = ""
    name: str = "default"
    replace: bool = False
    data: str | None = None
    trust: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.networks < FEWEST:
            raise InputError(
                f"networks = {self.networks} is too few for a rank correlation; "
                f"use {FEWEST} or more"
            )
        if self.epochs is not None and self.epochs < 1:
            raise InputError(f"epochs = {self.epochs} is impossible; it must be at least 1")
        for name, value in (("seed", self.seed), ("probes", self.probes)):
            if value < 0:
                raise InputError(f"{name} = {value} is impossible; it must be at least 0")
        if self.bin is not None and not 0 <= self.bin < float("inf"):
            raise InputError(f"bin = {self.bin} is impossible; it must be at least 0")
        if self.split not in SPLITS:
            raise InputError(
                f"unknown split {self.split!r}{nearest(self.split, SPLITS)}; "
                f"an audit compares on {' or '.join(SPLITS)}"
            )
        if self.recipes.strip() and not all(self.recipe_names):
            raise InputError(
                f"recipes = {self.recipes!r} has an empty name; divide names by single commas: "
                "spos,sandwich"
            )
        if self.recipe_names and self.networks < FEWEST_JUDGED:
            raise InputError(
                f"networks = {self.networks} is too few to compare recipes by; "
                f"use {FEWEST_JUDGED} or more"
            )
        files.check_new_name("audit", self.name)

    @property
    def recipe_names(self) -> tuple[str, ...]:
        """The names in ``recipes``, each once."""
        names = (name.strip() for name in self.recipes.split(","))
        return tuple(dict.fromkeys(names)) if self.recipes.strip() else ()


def plan_training(request: AuditRequest, trained: Trained) -> Recipe:
    """How the networks of an audit train alone.

    Raises:
        InputError: A part of the recipe is unknown, impossible or means nothing for one network.
    """
    changes = read_parts(request.recipe_part)
    if "epochs" in changes or "seed" in changes:
        name = "epochs" if "epochs" in changes else "seed"
        raise InputError(f"{name} is not a part of --recipe-part; use --{name}")
    if request.epochs is not None:
        changes["epochs"] = request.epochs
    elif "steps" in changes:
        changes["epochs"] = None
    ours = read_recipe(trained.run)
    changes = state_steps(trained, changes)
    recipe = make_standalone_recipe(ours, changes, trained.data.epoch)
    check_batch(recipe, trained.data, trained.supernet)
    return recipe


def plan_audit(request: AuditRequest, trained: Trained, recipe: Recipe) -> AuditSettings:
    """What decides the result of an audit; stored as ``settings.json``."""
    changed = read_recipe(trained.run).diff(recipe)
    return AuditSettings(
        networks=request.networks,
        seed=request.seed,
        split=request.split,
        bin=BINS[trained.quality] if request.bin is None else request.bin,
        probes=request.probes,
        steps=recipe.total_steps(trained.data.epoch),
        recipe=plain({name: alone for name, (_, alone) in sorted(changed.items())}),
        calibration_samples=CALIBRATION_SAMPLES,
        space=trained.supernet.space.digest,
        checkpoint=trained.checkpoint.digest,
    )


def holds_other(folder: Path, plan: AuditSettings, *, replace: bool) -> bool:
    """Whether a folder holds an audit with other settings than ``plan``, or with unknown ones.

    Args:
        folder: Where the audit is stored.
        plan: The settings asked for.
        replace: Whether another audit may be given up; without it there must be none.

    Raises:
        InputError: There is one, and the message says what differs.
    """
    return settings.holds_other(
        "audit", folder, plan, ("records.jsonl", "audit.json"), replace=replace
    )
