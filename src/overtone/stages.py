"""One function a stage of the pipeline, as dvc.yaml runs them."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtone import settings as settings_file
from overtone.audio import replacing
from overtone.settings import FAMILIES, Params, project
from overtone.settings.project import CORPUS, MODELS, PAGE, PAIRS, REPORTS, report_folder

if TYPE_CHECKING:
    from overtone.evaluation.judge import Enhancer
    from overtone.registry.scores import Scored

# Not a DVC output: DVC empties outputs before a stage runs, and an interrupted training must find its checkpoints.
CHECKPOINTS = Path("checkpoints")
REGISTERED = REPORTS / "registered.json"


def settings(overrides: list[str] | None = None) -> Params:
    """The project's `params.yaml`, with `dotted.key=value` overrides."""
    return settings_file.load(project.source_root() / project.SETTINGS, tuple(overrides or ()))


# --- stages -----------------------------------------------------------------------------------------------------------


def corpus(params: Params) -> None:
    """Raw recordings -> checked, resampled, split clips."""
    from overtone.data.corpus import REJECTED, build

    summary = build(params.corpus, params.seed, CORPUS, progress("corpus"))
    print(f"{summary.clips} clips of {summary.files} files in {CORPUS}")
    for (kind, split), seconds in sorted(summary.seconds.items()):
        print(f"  {kind} {split}: {seconds / 60:.1f} min")
    for sentence in summary.left:
        print(sentence)
    if summary.rejected:
        print(f"{summary.rejected} files were refused; {CORPUS / REJECTED} says why")


def degrade(params: Params, ray: str | None = None) -> None:
    """Clips -> pairs of degraded input and target.

    Args:
        ray: address of a Ray cluster that makes them, None for this machine's processes; the result does not depend on it.
    """
    from overtone.data import pairs

    pairs.build(params.degrade, params.seed, CORPUS, PAIRS, progress("degrade"), ray=ray)
    print(f"{len(pairs.read_pairs(PAIRS))} pairs in {PAIRS}")


def train(params: Params, kind: str, overrides: Sequence[str] = ()) -> None:
    """Corpus -> a model's folder, as one MLflow run; an interrupted training goes on from its last epoch.

    Args:
        overrides: that `params` came by, for the processes that are started where the settings ask for several.
    """
    from overtone.data import sources
    from overtone.tracking.provenance import Shards
    from overtone.tracking.runs import TrainingRun
    from overtone.training import launch
    from overtone.training.fit import train as fit

    source = sources.recognise(params.train.data.source)
    streamed = Shards(source.name, source.shards_digest) if source.shards_digest else None
    folder = CHECKPOINTS / f"{kind}-{_fingerprint(params, kind, source.identity())}"
    note = folder / "run_id"
    if not launch.launched() and (processes := launch.wanted(params.train.fit)) > 1:
        _train_in_processes(params, kind, overrides, processes, folder)
        return
    resume = note.read_text().strip() if note.is_file() else None
    with TrainingRun(kind, params, resume, streamed) as run:
        if run.run_id:
            with replacing(note) as path:
                path.write_text(run.run_id)
            print(f"train {kind}: {'resuming' if resume else 'starting'} run {run.run_id}", flush=True)
        out = MODELS / kind
        start = start_folder(params, kind)
        outcomes = fit(params, kind, params.train.data.source, out, folder, run.logger() or False, start=start)
        if run.run_id:
            facts = {
                **run.summary(),
                "steps": sum(outcome.steps for outcome in outcomes),
                "parameters": sum(outcome.parameters for outcome in outcomes),
                **{f"best_{outcome.monitor}": round(outcome.best, 6) for outcome in outcomes},
                **{f"{outcome.task}_best_epoch": outcome.best_epoch for outcome in outcomes},
                **{f"{outcome.task}_stopped_early": outcome.stopped_early for outcome in outcomes},
            }
            _write_json(out / "run.json", facts)
    if run.run_id:
        _remove(folder)


def _train_in_processes(params: Params, kind: str, overrides: Sequence[str], processes: int, folder: Path) -> None:
    """The same command in several processes; what one of them died of is raised here.

    Args:
        folder: of the training's checkpoints.
    """
    from overtone.tracking import runs
    from overtone.training import launch

    launch.check(params.train, processes)
    options = [word for override in overrides for word in ("--set", override)]
    note = folder / "run_id"
    try:
        launch.launch("overtone", ["stage", "train", "--model", kind, *options], processes)
    except launch.LaunchError as error:
        # Loads Lightning, which this process needs for nothing else.
        from overtone.training import failure

        if diverged := failure.of_job(folder, error.job):
            raise diverged from None
        raise
    finally:
        if note.is_file():
            runs.end(note.read_text().strip())


def start_folder(params: Params, family: str) -> Path | None:
    """The folder of the model that training begins with; `released` is that of the same family."""
    from overtone.registry import resolve

    start = params.train.fit.start
    return None if start is None else resolve.named(f"released-{family}" if start == "released" else start)


def evaluate(params: Params, system: str) -> None:
    """Test pairs -> every metric on every condition, in the run that trained a network, in one of its own for a baseline."""
    from overtone.data.pairs import read_pairs
    from overtone.evaluation import session
    from overtone.tracking import evaluations

    pairs, plan = read_pairs(PAIRS, "test"), params.evaluate
    if system == "baselines":
        plan = plan.model_copy(update={"figures": 0})
    for name in plan.baselines if system == "baselines" else (system,):
        out = report_folder(name)
        metrics = session.report_on(name, _maker(name), pairs, PAIRS, plan, out, progress(f"evaluate {name}"))
        if system == "baselines":
            run_id = evaluations.log_baseline(name, metrics, out)
        else:
            run_id = evaluations.log(MODELS / system, metrics, out)
        evaluations.describe(run_id, {name: metrics}, name)


def report(params: Params) -> None:
    """Reports of all systems -> one page to look at and listen to, kept with the run of each, and each run's key table."""
    from overtone.evaluation import page
    from overtone.evaluation import report as reports
    from overtone.tracking import evaluations, transfer

    names: tuple[str, ...] = (*params.evaluate.baselines, *FAMILIES)
    found = {name: reports.read(name, report_folder(name)) for name in names}
    metrics = {name: one.metrics for name, one in found.items()}
    ids: dict[str, str] = {
        name: evaluations.log_baseline(name, metrics[name], report_folder(name)) for name in params.evaluate.baselines
    }
    ids |= {kind: transfer.open_run(MODELS / kind) for kind in FAMILIES}
    shown = {
        name: page.Run(run_id, evaluations.name_of(run_id), evaluations.address(run_id)) for name, run_id in ids.items()
    }
    page.write(PAGE, list(found.values()), shown)
    for name, run_id in ids.items():
        evaluations.describe(run_id, metrics, name)
        evaluations.publish(PAGE, run_id)
    print(f"{PAGE}: {PAGE.stat().st_size / 1e6:.1f} MB, opens by itself")


def _maker(system: str) -> Callable[[], Enhancer]:
    """What makes a system of the pipeline; it can be sent to another process."""
    from overtone.enhance.upsampler import Upsampler
    from overtone.evaluation import systems

    return systems.BASELINES.get(system) or functools.partial(Upsampler.load, MODELS / system)


def register(params: Params) -> None:
    """The better model -> registry, as challenger, and as champion if it passes the gate.

    An experiment that DVC runs in a copy of the project registers nothing: one of a sweep is a question, not a release.
    """
    from overtone.evaluation.report import read_metrics
    from overtone.registry import card, hooks, register
    from overtone.tracking import evaluations, store, transfer
    from overtone.tracking.sync import record_models

    if project.in_copy():
        name = os.environ.get("DVC_EXP_NAME", "NAME")
        print(f"experiment {name}: not registered, as it ran outside the workspace; to register its model:")
        print(f"  dvc exp apply {name} && dvc repro")
        _write_json(REGISTERED, {"registered": False, "experiment": name})
        return
    names = (*params.evaluate.baselines, *FAMILIES)
    metrics = {name: read_metrics(report_folder(name)) for name in names if report_folder(name).is_dir()}
    scored = {kind: _scored(REPORTS / kind, params) for kind in FAMILIES}
    for name in params.evaluate.baselines:
        evaluations.log_baseline(name, read_metrics(report_folder(name)), report_folder(name))
    record_models(FAMILIES)
    audio = card.training_audio(CORPUS, params.corpus.path)
    candidates = [
        register.Candidate(
            MODELS / kind,
            scored[kind],
            card.write(kind, metrics, transfer.read_run(MODELS / kind), audio),
        )
        for kind in FAMILIES
    ]
    baseline_scores: dict[str, Scored] = {
        name: _scored(report_folder(name), params) for name in params.evaluate.baselines
    }
    rescore = functools.partial(_rescore, params)
    decision = register.register(candidates, params.register_, rescore, baseline_scores)
    verb = "registered" if decision.created else "known already"
    print(f"{decision.model} -> {decision.name} version {decision.version} ({verb}): {decision.reason}")
    for comparison in decision.comparisons:
        print(f"  {comparison}")
    facts = {"name": decision.name, "version": decision.version, "model": decision.model, "reason": decision.reason}
    registry = {"registry": store.public_uri(), "champion": decision.champion}
    _write_json(REGISTERED, {"registered": True, **facts, **registry})
    hooks.announce(decision, params.register_.on_champion, params.register_.on_champion_seconds)


# --- helpers ----------------------------------------------------------------------------------------------------------


def _write_json(path: Path, facts: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")


def _scored(folder: Path, params: Params) -> Scored:
    """A report's metrics and its scores by clip."""
    from overtone.registry import scores

    return scores.read(folder, params.evaluate.model_dump(mode="json", include={"visqol", "perceptual"}))


def _rescore(params: Params, folder: Path) -> Scored:
    """A champion whose scores on this test set are not known, scored on it."""
    import tempfile

    from overtone.data.pairs import read_pairs
    from overtone.enhance.upsampler import Upsampler
    from overtone.evaluation import session

    plain = params.evaluate.model_copy(update={"figures": 0})
    # Whether it can be used at all is better known before processes are started for it.
    Upsampler.load(folder)
    with tempfile.TemporaryDirectory() as name:
        out, maker = Path(name), functools.partial(Upsampler.load, folder)
        shown = progress("score the champion on this test set")
        session.report_on("champion", maker, read_pairs(PAIRS, "test"), PAIRS, plain, out, shown)
        return _scored(out, params)


def _fingerprint(params: Params, kind: str, content: bytes) -> str:
    """Names a training by all that decides it, so that no checkpoint of another one is ever continued.

    Args:
        content: what identifies the training data.
    """
    decided = params.model_dump(mode="json", include={"seed", "train"})
    for other in set(FAMILIES) - {kind}:
        del decided["train"][other]
    # On how many processes it runs is no other training.
    for name in ("accelerator", "devices", "num_nodes", "strategy", "accumulate"):
        del decided["train"]["fit"][name]
    # Nor is where it reads the same data from, and how.
    del decided["train"]["data"]
    digest = hashlib.sha256(json.dumps(decided, sort_keys=True).encode())
    digest.update(content)
    code = Path(__file__).parent
    for path in sorted(path for part in ("data", "dsp", "models", "training") for path in code.glob(f"{part}/*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _remove(folder: Path) -> None:
    """Remove a training's checkpoints at one stroke: half of them would be taken for damaged ones."""
    gone = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone)


def progress(name: str) -> Callable[[int, int], None]:
    """What prints a line every tenth of the way, when it is given how many are done, and of how many."""
    shown = -1

    def line(done: int, total: int) -> None:
        nonlocal shown
        if (tenth := 10 * done // max(total, 1)) > shown:
            shown = tenth
            print(f"{name}: {done}/{total}", flush=True)

    return line
