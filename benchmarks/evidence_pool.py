"""Jobs in a few worker processes, within a budget; what is done is written down as it ends."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evidence_jobs import Job, result_file, run_job
from rich.console import Console


@dataclass
class Budget:
    """What may be spent and what was: seconds of the clock on a GPU, CPU seconds without one."""

    seconds: float
    of_clock: bool
    before: float
    began: float = field(default_factory=time.perf_counter)
    used: float = 0.0

    @property
    def spent(self) -> float:
        """By this call and by earlier ones."""
        now = time.perf_counter() - self.began if self.of_clock else self.used
        return self.before + now

    def cost(self, result: dict[str, Any]) -> float:
        """Seconds of the budget that a job took, in this call or an earlier one."""
        return float(result["seconds" if self.of_clock else "cpu_seconds"])


@dataclass
class Workers:
    """One call's processes and budget."""

    arguments: argparse.Namespace
    budget: Budget
    pool: ProcessPoolExecutor
    console: Console
    left_out: list[str] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=dict)
    on_result: Callable[[], object] = lambda: None

    @property
    def not_done(self) -> list[str]:
        """What was left out, except for what a worker still ended after its time."""
        out = self.arguments.out
        return [name for name in self.left_out if not result_file(out, name).exists()]

    def run(self, jobs: Iterable[Job], until: float) -> list[dict[str, Any]]:
        """Run the jobs, a few at a time and in this order, as far as the budget goes.

        A job waits for those that it needs. None is begun that is expected, by others of its kind,
        to end beyond the budget; of the clock's, what then still runs is given up.

        Args:
            jobs: what to do, the most important first.
            until: seconds of ``budget`` that may be spent when the last one ends.
        """
        waiting, running, done = list(jobs), dict[Future[dict[str, Any]], Job](), []
        while True:
            while len(running) < self.arguments.jobs:
                job = next((job for job in waiting if self._fits(job, running, until)), None)
                if job is None:
                    break
                waiting.remove(job)
                running[self.pool.submit(run_job, job, self.arguments.out)] = job
            if not running:
                break
            patience = max(0.1, until - self.budget.spent) if self.budget.of_clock else None
            finished, _ = wait(running, timeout=patience, return_when=FIRST_COMPLETED)
            for future in finished:
                done += self._finish(running.pop(future), future)
            if not finished and self.budget.spent >= until:
                waiting = [*running.values(), *waiting]
                break
        self.left_out += [job.name for job in waiting]
        return done

    def _fits(self, job: Job, running: dict[Future[dict[str, Any]], Job], until: float) -> bool:
        """Whether what it needs is there and its expected cost is within the budget."""
        out = self.arguments.out
        if not all(result_file(out, name).exists() for name in job.needs):
            return False
        if result_file(out, job.name).exists():
            return True
        begun = [] if self.budget.of_clock else running.values()
        expected = sum(self.costs.get(each.kind, 0.0) for each in (job, *begun))
        return self.budget.spent + expected <= until

    def _finish(self, job: Job, future: Future[dict[str, Any]]) -> list[dict[str, Any]]:
        if error := future.exception():
            self.console.print(f"{job.name} failed: {error}", markup=False)
            self.left_out.append(f"{job.name}: {error}")
            return []
        result = future.result()
        self.costs[job.kind] = max(self.costs.get(job.kind, 0.0), self.budget.cost(result))
        if not result.get("is_old"):
            self.budget.used += result["cpu_seconds"]
        cost = f"{result['seconds']:.0f} s, CPU {result['cpu_seconds']:.0f} s"
        told = result.get("says", "")
        self.console.print(f"{self.budget.spent:6.0f} s  {job.name}: {cost} {told}", markup=False)
        self.on_result()
        return [result]


def open_budget(a: argparse.Namespace) -> Budget:
    """The budget, with what earlier calls have spent of it."""
    file = a.out / "spent.json"
    before = json.loads(file.read_text())["seconds"] if file.exists() else 0.0
    if a.gpu_minutes is not None:
        return Budget(60 * a.gpu_minutes, of_clock=True, before=before)
    return Budget(3600 * a.cpu_hours, of_clock=False, before=before)


def read(path: Path) -> dict[str, Any]:
    """A JSON file of an earlier call; empty if there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def save(path: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file as a whole."""
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps(content, indent=1) + "\n")
    aside.replace(path)
