"""Generating as a job: a subnetwork of a language model goes on from a prompt."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from app.evaluation.log import find_architecture
from app.jobs.outcomes import GenerateOutcome
from app.progress import Say, Step
from app.runs.directory import open_run
from app.runs.trained import Trained, open_trained
from app.runs.vocabulary import open_vocabulary
from supernet.data import TEXT
from supernet.data.vocabulary import encode_prompt
from supernet.errors import InputError
from supernet.families._decoder import Decoder
from supernet.generation.decoding import generate
from supernet.generation.language_model import (
    LanguageModel,
    TorchModel,
    check_room,
    require_decoder,
)
from supernet.generation.onnx_decoder import open_decoder
from supernet.generation.sampling import Sampling
from supernet.generation.serving import serve
from supernet.generation.speculative import DRAFTED, Speculated, can_share, speculate
from supernet.quality.evaluate import CALIBRATION_SAMPLES, recalibrate_extracted
from supernet.quantization.execution import find_execution
from supernet.space import Architecture, nearest

ENGINES = ("torch", "onnxruntime")


@dataclass(frozen=True)
class GenerateRequest:
    """What to generate.

    Args:
        run: The run directory, of a language model.
        architecture: Digest, ``smallest``, ``largest`` or a JSON file.
        prompt: Text to go on from.
        new_tokens: How many to generate; by default as many as the context holds.
        temperature: Divides the logits of a drawn token; 0 takes the likeliest.
        top_p: Probability of the likeliest tokens that are drawn from.
        seed: Of what is drawn.
        engine: ``"torch"`` or ``"onnxruntime"``.
        draft: An architecture that drafts tokens for the other to verify.
        drafted: Tokens drafted before they are verified.
        data: Where the data of the run are now, if they moved; only number formats need them.
        trust: Dotted paths of the user's own modules that files of the run may name.
    """

    run: Path
    architecture: str
    prompt: str
    new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    engine: str = "torch"
    draft: str | None = None
    drafted: int | None = None
    data: str | None = None
    trust: tuple[str, ...] = ()


@dataclass
class _Clock:
    """When each token was there."""

    begin: float = field(default_factory=time.perf_counter)
    times: list[float] = field(default_factory=list)

    def count(self, _: Tensor) -> None:
        self.times.append(time.perf_counter())

    @property
    def first_ms(self) -> float:
        return 1000 * (self.times[0] - self.begin)

    @property
    def token_ms(self) -> float | None:
        after = len(self.times) - 1
        return 1000 * (self.times[-1] - self.times[0]) / after if after else None


def generate_job(request: GenerateRequest, say: Say) -> GenerateOutcome:
    """Extract a subnetwork of a language model and let it go on from a prompt.

    Args:
        request: What to generate.
        say: Told about progress.

    Raises:
        InputError: No language model, an unknown architecture or engine, a prompt that the
            vocabulary cannot hold, or more tokens than the context.
    """
    if request.engine not in ENGINES:
        raise InputError(
            f"unknown engine {request.engine!r}{nearest(request.engine, ENGINES)}; engines are "
            f"{', '.join(ENGINES)}"
        )
    if request.drafted is not None and request.draft is None:
        raise InputError("--drafted needs --draft, the architecture that drafts")
    if not 0 <= request.seed < 2**63:
        raise InputError(f"seed = {request.seed} is impossible; it must be from 0 to 2**63 - 1")
    sampling = Sampling(request.temperature, request.top_p)
    opened = open_run(request.run, request.trust)
    task = opened.record.data.shape.task
    if task != TEXT:
        raise InputError(
            f"{opened.path} is a run of {task}; generate needs a language model, which "
            "train --family matlm --data text:PATH makes"
        )
    trained = open_trained(opened, say, request.data)
    vocabulary = open_vocabulary(opened)
    prompt = encode_prompt(vocabulary, request.prompt)[None]
    space = trained.supernet.space
    chosen = find_architecture(opened, space, request.architecture)
    model = _open_model(trained, chosen, request.engine, say)
    # At least one, so that a prompt that fills the context is refused.
    tokens = request.new_tokens
    tokens = max(1, model.context - prompt.shape[1]) if tokens is None else tokens
    check_room(model, prompt.shape[1], tokens)
    say(Step(f"generating with {chosen.digest}", passing=True))
    clock = _Clock()
    drafted: Speculated | None = None
    digest = None
    if request.draft is None:
        (ids,) = generate(
            model, prompt, tokens, sampling=sampling, seed=request.seed, show=clock.count
        )
    else:
        draft = find_architecture(opened, space, request.draft)
        small = _open_model(trained, draft, request.engine, say)
        clock, digest = _Clock(), draft.digest
        drafted = speculate(
            model,
            small,
            prompt,
            tokens,
            drafted=DRAFTED if request.drafted is None else request.drafted,
            # One that is deeper has layers of which the model knows no keys and values.
            shared=can_share(model, small),
            sampling=sampling,
            seed=request.seed,
            show=clock.count,
        )
        ids = drafted.ids
    return GenerateOutcome(
        opened.path,
        chosen.digest,
        request.prompt,
        vocabulary.decode(ids),
        prompt.shape[1],
        tokens,
        clock.first_ms,
        clock.token_ms,
        draft=digest,
        acceptance=None if drafted is None else drafted.acceptance,
        passes=None if drafted is None else drafted.passes,
    )


def _open_model(
    trained: Trained, architecture: Architecture, engine: str, say: Say
) -> LanguageModel:
    """A subnetwork on the processor, ready to generate."""
    if trained.run.record.precision is None:
        model = serve(trained.supernet, architecture)
    else:
        model = TorchModel(_calibrate(trained, architecture, say))
    if engine == "torch":
        return model
    return open_decoder(model.network, threads=torch.get_num_threads())


def _calibrate(trained: Trained, architecture: Architecture, say: Say) -> Decoder:
    """A subnetwork with ranges of its own, where its number formats have some."""
    say(Step(f"extracting {architecture.digest}", passing=True))
    network = trained.supernet.extract(architecture).eval()
    if find_execution(network) is not None:
        recalibrate_extracted(
            network,
            trained.supernet,
            architecture,
            trained.data,
            CALIBRATION_SAMPLES,
            estimator=trained.estimator,
            corrections=True,
        )
    return require_decoder(network.eval(), architecture.digest)
