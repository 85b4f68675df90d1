"""What evidence.py runs in its worker processes: pretraining, probes, fine-tuning, and their rates.

The commands are cp2fast's own, called inside the worker, so that a job costs no start of Python.
Each job leaves one JSON file and is not run again; a pretraining that was stopped is resumed.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from cp2fast.labels.dataset import LabelledData
from cp2fast.model.segmenter import Segmenter


@dataclass(frozen=True)
class Job:
    """One thing to do.

    Attributes:
        kind: ``rate``, ``trial``, ``pretrain``, ``finetune``, ``probe`` or ``picture``.
        key: names its result, by set, arm, labels and seed.
        words: settings, KEY=VALUE.
        start: run folder or file of the weights that it starts from or judges; None is random.
        data: of a probe: the set, the splits, the labels and the places.
        needs: names of the jobs that must have ended before.
    """

    kind: str
    key: str
    words: tuple[str, ...] = ()
    start: str | None = None
    data: tuple[tuple[str, Any], ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its result."""
        return f"{self.kind}-{self.key}"


def result_file(out: Path, name: str) -> Path:
    return out / "results" / f"{name}.json"


def run_job(job: Job, out: Path) -> dict[str, Any]:
    """Do it, or read what it gave before; the result holds what it cost."""
    result = result_file(out, job.name)
    if result.exists():
        return json.loads(result.read_text()) | {"is_old": True}
    began, cpu = time.perf_counter(), cpu_seconds()
    found = _KINDS[job.kind](job, out)
    found |= {"seconds": time.perf_counter() - began, "cpu_seconds": cpu_seconds() - cpu}
    found |= {"job": asdict(job)}
    result.parent.mkdir(parents=True, exist_ok=True)
    aside = result.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(found, indent=1))
    aside.replace(result)
    forget()
    return found


def rate(job: Job, out: Path) -> dict[str, Any]:
    """Samples a second in the middle of a short run, and CPU seconds a step."""
    costs = []
    folder = out / "rates" / job.key
    for number, steps in enumerate((_steps(job.words) // 8, _steps(job.words))):
        cpu = cpu_seconds()
        every = max(1, steps // 8)  # seldom: a logged step takes longer than others
        words = [*job.words, f"train.steps={max(2, steps)}", f"train.log_every={every}"]
        call("pretrain", words, folder / str(number), out / "logs" / f"{job.name}.txt")
        costs.append((max(2, steps), cpu_seconds() - cpu))
        if number == 0 and _on_gpu():
            costs.clear()
    rows = _rows(folder / "1")
    rates = [row["images_per_second"] for row in rows[len(rows) // 2 :]]
    found: dict[str, Any] = {"images_per_second": median(rates)}
    if len(costs) == 2 and costs[1][0] > costs[0][0]:
        found["cpu_seconds_a_step"] = (costs[1][1] - costs[0][1]) / (costs[1][0] - costs[0][0])
    return found


def pretrain(job: Job, out: Path) -> dict[str, Any]:
    """A run of ``cp2fast pretrain``: how it went and its signals, means of its last tenth."""
    folder = out / "runs" / job.key
    call("pretrain", job.words, folder, out / "logs" / f"{job.name}.txt")
    rows = _rows(folder)
    if rows[-1]["step"] < _steps(job.words):
        raise RuntimeError(f"{job.key} was stopped at step {rows[-1]['step']}")
    last = rows[-max(1, len(rows) // 10) :]
    names = [name for name, value in last[-1].items() if isinstance(value, float)]
    return {"steps": rows[-1]["step"], "last": {n: fmean(row[n] for row in last) for n in names}}


def trial(job: Job, out: Path) -> dict[str, Any]:
    """A short pretraining and its probe in one, so that no worker waits for the others."""
    began = time.perf_counter()
    found = pretrain(job, out)
    found["pretrain_seconds"] = time.perf_counter() - began
    run = out / "runs" / job.key
    found |= probe(replace(job, start=str(run)), out)
    for checkpoint in run.glob("checkpoints/*"):
        if not job.key.startswith("recipe/base/"):  # fine-tuning is tried from the base
            checkpoint.unlink()
    return found


def finetune(job: Job, out: Path) -> dict[str, Any]:
    """A run of ``cp2fast finetune-voc``: its mIoU."""
    folder = out / "finetune" / job.key
    words = [*job.words, f"model.init={job.start or 'random'}"]
    call("finetune-voc", words, folder, out / "logs" / f"{job.name}.txt")
    result = json.loads((folder / "result.json").read_text())
    for checkpoint in folder.glob("checkpoints/*"):  # they are large, and nothing reads them
        checkpoint.unlink()
    says = f"mIoU {result['miou']:.1%}"
    return {"miou": result["miou"], "per_class": result["per_class"], "says": says}


def probe(job: Job, out: Path) -> dict[str, Any]:
    """Probes of a run's network, or of the random weights that a run with that seed starts from."""
    from cp2fast.probe import probe as probes
    from cp2fast.probe.features import Extractor

    given = dict(job.data)
    network = _network(job.words, job.start, _device())
    found = []
    for place in given["places"]:
        extractor = Extractor(network, place, given["short_side"])
        scored = probes.probe(
            extractor, _labelled(given), labels=given["labels"], seeds=given["seeds"]
        )
        found += [
            {
                "labels": given["labels"],
                "place": place,
                "seed": each.seed,
                "knn": each.knn.miou,
                "linear": each.linear.miou,
                "per_class": each.linear.per_class,
            }
            for each in scored
        ]
    linear = fmean(each["linear"] for each in found if each["place"] == given["places"][0])
    return {"probes": found, "says": f"linear {linear:.1%}"}


def picture(job: Job, out: Path) -> dict[str, Any]:
    """What the linear probes of several networks make of some photos."""
    from cp2fast.probe import probe as probes
    from cp2fast.probe.compare import draw_probes
    from cp2fast.probe.features import Extractor

    given, device = dict(job.data), _device()
    data, side, shown = _labelled(given), given["short_side"], {}
    for arm, start in given["starts"]:
        extractor = Extractor(_network(job.words, start, device), "backbone", side)
        [scored] = probes.probe(extractor, data, labels=given["labels"], seeds=given["seeds"])
        shown[arm] = extractor, scored.classify
    draw_probes(shown, data, out / f"probes-{job.key}.png")
    return {"arms": list(shown)}


def call(command: str, words: list[str] | tuple[str, ...], folder: Path, log: Path) -> None:
    """``cp2fast COMMAND`` inside this process, its output in ``log``.

    Raises:
        RuntimeError: it did not end well; the last lines of its output say why.
    """
    from cp2fast.cli import main

    resume = ["--resume"] if (folder / "config.yaml").exists() else []
    log.parent.mkdir(parents=True, exist_ok=True)
    before = sys.argv
    sys.argv = ["cp2fast", command, *words, "--out", str(folder), *resume]
    try:
        with (
            log.open("a") as file,
            contextlib.redirect_stdout(file),
            contextlib.redirect_stderr(file),
        ):
            main()
    except SystemExit as stop:
        if stop.code not in (None, 0):
            tail = " ".join(log.read_text().split("\n")[-4:])
            raise RuntimeError(f"cp2fast {command} ended with {stop.code}: {tail}") from None
    finally:
        sys.argv = before


def cpu_seconds() -> float:
    """Of this process and of those that it started and saw end."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def forget() -> None:
    """Free what a job left on the card."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _network(words: tuple[str, ...], start: str | None, device: torch.device) -> Segmenter:
    """Of a run, of a file of weights, or the random one that such a run begins with."""
    from cp2fast import recipes
    from cp2fast.config import PretrainSettings
    from cp2fast.errors import UserError
    from cp2fast.model.cp2 import build_cp2
    from cp2fast.weights.load import load_weights
    from cp2fast.weights.trained import open_trained

    settings = recipes.load(PretrainSettings, None, list(words))
    network = build_cp2(settings.model, settings.train.seed).encoder_q
    if start is not None:
        try:
            network = open_trained(start).network
        except UserError:
            load_weights(network, start)
    return network.to(device, memory_format=torch.channels_last)


def _labelled(given: dict[str, Any]) -> LabelledData:
    from cp2fast.config import LabelledDataSettings
    from cp2fast.labels.open import open_labelled

    splits = {"train_split": given["train"], "val_split": given["val"]}
    settings = LabelledDataSettings(root=given["root"], **splits)
    return open_labelled(settings, Path(given["root"]), workers=1)


def _device() -> torch.device:
    return torch.device("cuda" if _on_gpu() else "cpu")


def _on_gpu() -> bool:
    return torch.cuda.is_available()


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if "loss" in row]


def _steps(words: tuple[str, ...]) -> int:
    """The last that is said of them."""
    return [int(w.partition("=")[2]) for w in words if w.startswith("train.steps=")][-1]


_KINDS = {
    "rate": rate,
    "trial": trial,
    "pretrain": pretrain,
    "finetune": finetune,
    "probe": probe,
    "picture": picture,
}
