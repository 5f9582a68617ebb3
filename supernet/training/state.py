"""Everything that changes during training, saved and restored exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from supernet import checkpoints
from supernet.checkpoints import Checkpoint
from supernet.data import DataSource
from supernet.errors import InputError
from supernet.supernet import Supernet
from supernet.training import distributed
from supernet.training.method import TrainingMethod
from supernet.training.optimizer import Average, build_optimizer
from supernet.training.recipe import Recipe
from supernet.training.sharding import Shards

# What cannot be done with weights that were not trained here.
IMPORTED = "there is no training to continue; evaluate, audit or search them"


@dataclass
class TrainingState:
    """A supernet with its optimiser, averaged weights and what the method remembers.

    Weights that evaluation and export use (averaged ones) and what only continuing needs (raw
    weights, moments) go to different files of a checkpoint. There are no generator states: all
    randomness is a function of the recipe's seed and the step.
    """

    supernet: Supernet
    method: TrainingMethod
    optimizer: torch.optim.Optimizer
    average: Average
    folder: Path
    identity: Mapping[str, object]
    # Where each process has the optimiser's state and the averages of its own parameters alone.
    shards: Shards | None = None
    # Step of the newest checkpoint that was verified or written, so known to be good.
    reserve: int | None = None

    @classmethod
    def begin(
        cls, method: TrainingMethod, data: DataSource, recipe: Recipe, folder: Path
    ) -> TrainingState:
        """Step 0: the weights the supernet has now."""
        supernet, shards = method.supernet, method.shards
        return cls(
            supernet,
            method,
            build_optimizer(supernet, recipe, shards),
            Average(supernet, recipe.ema_decay, shards),
            folder,
            {
                "recipe": recipe.to_json(),
                "space": supernet.space.digest,
                "data": {"spec": data.spec, "fingerprint": data.fingerprint},
            },
            shards,
        )

    def save(self, step: int) -> Checkpoint | None:
        """Write the checkpoint of ``step``; OSError leaves earlier ones intact.

        Of several processes all call this, and the first one writes: the same files whoever keeps
        what.
        """
        averages, remembered = self.average.weights, self._list_optimizer_state()
        if self.shards is not None:
            averages = self._name_twins(self.shards.collect(averages))
            remembered = self.shards.collect_state(self.optimizer)
        if not distributed.is_main():
            return None
        weights = {**self.supernet.state_dict(), **averages}
        rest, known = self._continuation(remembered), self.reserve
        written = checkpoints.write(self.folder, step, weights, rest, self.identity, reserve=known)
        self.reserve = step
        return written

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue exactly where :meth:`save` was called."""
        self.reserve = checkpoint.step
        kinds: dict[str, dict[str, Tensor]] = {"weights": {}, "strategy": {}}
        for key, tensor in checkpoints.read_tensors(checkpoint, checkpoints.OPTIMIZER).items():
            kind, name = key.split("/", maxsplit=1)
            kinds.setdefault(kind, {})[name] = tensor
        checkpoints.restore(self.supernet, kinds.pop("weights"), checkpoint.path)
        self.method.load_state_dict(kinds.pop("strategy"))
        upgrade = self.supernet.upgrade
        parameters = dict(self.supernet.named_parameters())
        for kind, tensors in kinds.items():
            for name, tensor in upgrade(tensors).items():
                parameter = parameters[name]
                if self.shards is not None and not self.shards.has(parameter):
                    continue
                # AdamW keeps its step counter on the CPU wherever the parameter lives.
                device = "cpu" if kind == "step" else parameter.device
                self.optimizer.state[parameter][kind] = tensor.to(device)
        self.average.restore(upgrade(checkpoints.read_tensors(checkpoint, checkpoints.WEIGHTS)))

    def _list_optimizer_state(self) -> dict[str, Tensor]:
        return {
            f"{kind}/{name}": value
            for name, parameter in self.supernet.named_parameters()
            for kind, value in self.optimizer.state.get(parameter, {}).items()
            if value is not None
        }

    def _name_twins(self, averages: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Averages by all names of their parameters, of which shared ones have several."""
        first = {id(p): name for name, p in self.supernet.named_parameters()}
        every = self.supernet.named_parameters(remove_duplicate=False)
        return {name: averages[first[id(p)]] for name, p in every if first[id(p)] in averages}

    def _continuation(self, remembered: Mapping[str, Tensor]) -> dict[str, Tensor]:
        result = {f"weights/{name}": t for name, t in self.supernet.state_dict().items()}
        result |= remembered
        strategy = self.method.state_dict()
        result |= {f"strategy/{name}": tensor for name, tensor in strategy.items()}
        return result


def check_same_training(
    last: Checkpoint, recipe: Recipe, supernet: Supernet, data: DataSource
) -> None:
    """InputError saying what differs, unless ``last`` is a checkpoint of this very training."""
    where = last.path.parent.parent
    if "source" in last.state:
        raise InputError(f"the weights in {where} were imported; {IMPORTED}")
    stored = [last.state.get("recipe"), last.state.get("data")]
    if not all(isinstance(part, dict) for part in stored):
        raise InputError(
            f"{last.path / checkpoints.STATE} was damaged or edited: it lacks the recipe or the "
            f"data; remove {last.path} to go on from an earlier checkpoint"
        )
    if last.state.get("space") != supernet.space.digest:
        raise InputError(f"{where} was trained on another search space")
    if last.state["data"].get("fingerprint") != data.fingerprint:
        raise InputError(
            f"{where} was trained on other data: {last.state['data'].get('spec')} then, "
            f"{data.spec} now, and their content differs"
        )
    differ = Recipe.from_json(last.state["recipe"]).diff(recipe)
    if differ:
        changes = ", ".join(f"{name}: {old} -> {new}" for name, (old, new) in differ.items())
        raise InputError(f"{where} was trained with another recipe ({changes})")
