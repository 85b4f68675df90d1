"""Jobs in a few worker processes, within a budget; what is done is written down as it ends."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evidence_arms import ARMS, EXTRA_ARMS
from evidence_jobs import Job, run_job
from evidence_keep import pack
from evidence_report import report
from rich.console import Console

PACK_SECONDS = 40
"""Between two archives of what there is so far, so that a call that is killed leaves one."""


@dataclass
class Budget:
    """What may be spent and what was: minutes of the clock on a GPU, CPU seconds without one."""

    seconds: float
    of_clock: bool
    began: float = field(default_factory=time.perf_counter)
    before: float = 0.0
    used: float = 0.0

    def add(self, result: dict[str, Any]) -> None:
        """Take a job's cost into account."""
        if not result.get("is_old"):
            self.used += result["cpu_seconds"]

    @property
    def spent(self) -> float:
        """By this call and by earlier ones."""
        now = time.perf_counter() - self.began if self.of_clock else self.used
        return self.before + now


@dataclass
class Evidence:
    """One call of evidence.py."""

    arguments: argparse.Namespace
    budget: Budget
    pool: ProcessPoolExecutor
    console: Console
    left_out: list[str] = field(default_factory=list)
    packed: float = field(default_factory=time.perf_counter)

    @property
    def out(self) -> Path:
        """Where everything is left."""
        return self.arguments.out

    @property
    def not_done(self) -> list[str]:
        """What was left out, but for what a worker still ended after its time."""
        results = self.out / "results"
        return [name for name in self.left_out if not (results / f"{name}.json").exists()]

    def run(self, jobs: Sequence[Job], until: float, cost: float = 0.0) -> list[dict[str, Any]]:
        """Run jobs, a few at a time, in this order, while ``budget.spent`` is below ``until``.

        Args:
            jobs: each independent of the others.
            until: of the budget's seconds; what runs then is ended, what waits is left out.
            cost: seconds that one is expected to take; none is begun that would end later.
        """
        waiting, running, done = list(jobs), dict[Future[dict[str, Any]], Job](), []
        while waiting or running:
            fits = self.budget.spent + cost <= until
            while fits and waiting and len(running) < self.arguments.jobs:
                job = waiting.pop(0)
                running[self.pool.submit(run_job, job, self.out)] = job
            if not running:
                break
            patience = max(0.1, until - self.budget.spent) if self.budget.of_clock else None
            finished, _ = wait(running, timeout=patience, return_when=FIRST_COMPLETED)
            for future in finished:
                done += self._finish(running.pop(future), future)
            if cost:
                unit = "seconds" if self.budget.of_clock else "cpu_seconds"
                cost = max([cost, *(one[unit] for one in done if not one.get("is_old"))])
            if not finished and self.budget.spent >= until:
                waiting = [*running.values(), *waiting]
                break
        self.left_out += [job.name for job in waiting]
        return done

    def _finish(self, job: Job, future: Future[dict[str, Any]]) -> list[dict[str, Any]]:
        if error := future.exception():
            self.console.print(f"{job.name} failed: {error}", markup=False)
            self.left_out.append(f"{job.name}: {error}")
            return []
        result = future.result()
        self.budget.add(result)
        cost = f"{result['seconds']:.0f} s, CPU {result['cpu_seconds']:.0f} s"
        told = result.get("says", "")
        self.console.print(f"{self.budget.spent:6.0f} s  {job.name}: {cost} {told}", markup=False)
        self.write()
        return [result]

    def write(self) -> dict[str, Any]:
        """The report so far; now and then also an archive of all that is small."""
        a = self.arguments
        content = {
            "budget": {
                "kind": "GPU minutes" if self.budget.of_clock else "CPU hours",
                "given_seconds": self.budget.seconds,
                "spent_seconds": self.budget.spent,
                "worker_processes": a.jobs,
            },
            "plan": plan_of(self.out),
            "left_out": self.not_done,
            **report(self.out, ["random", *ARMS, *EXTRA_ARMS, "imagenet", "imagenet-cp2"]),
        }
        save(self.out / "evidence.json", content)
        save(self.out / "spent.json", {"seconds": self.budget.spent})
        if a.keep:  # also here, for who ends this script by force
            a.keep.mkdir(parents=True, exist_ok=True)
            save(a.keep / "evidence.json", content)
            if time.perf_counter() - self.packed > PACK_SECONDS:
                pack(self.out, a.keep)
                self.packed = time.perf_counter()
        return content


def open_budget(a: argparse.Namespace) -> Budget:
    """The budget with what earlier calls have spent of it."""
    spent = a.out / "spent.json"
    before = json.loads(spent.read_text())["seconds"] if spent.exists() else 0.0
    if a.gpu_minutes is not None:
        return Budget(60 * a.gpu_minutes, of_clock=True, before=before)
    return Budget(3600 * a.cpu_hours, of_clock=False, before=before)


def plan_of(out: Path) -> dict[str, Any]:
    """What earlier calls with this folder have decided."""
    path = out / "plan.json"
    return json.loads(path.read_text()) if path.exists() else {}


def save(path: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file as a whole."""
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps(content, indent=1) + "\n")
    aside.replace(path)
