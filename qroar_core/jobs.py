"""Long work in the background: one worker thread per device, jobs known by their key.

A job is a stage and its arguments. Its key says what it computes (specs and fingerprint), so the
same question asked from another page, tab or after a reload finds the job that is already queued,
running or done: nothing is stopped and nothing runs twice. Faces poll `JobSnapshot`s; the worker never
calls a face. No traceback leaves this file: what we raise on purpose keeps its one line, anything
else is logged and gets a short line.

A store (the runs on disk) is asked before the memory: a result that was kept there is as old as its file, gives way to
a newer run's, and goes with its file. `keep` puts results there, in the worker, and says into which file.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar, cast

from qroar_core.errors import Cancelled, QRoarError
from qroar_core.job import Job, JobKey, JobSnapshot, State
from qroar_core.progress import Step, cancellable

Found = TypeVar("Found")
MOST_FINISHED_JOBS = 32  # finished jobs, results included, that stay until newer ones push them out
ESTIMATE_FROM = 0.05  # share of a pass done behind its first step before its time left is worth saying
AT_ONCE = 0.1  # ... or done with its first step, whose time has what only a beginning takes

log = logging.getLogger("qroar.jobs")


class Manager:
    """All jobs of this process. Every method may be called from any thread and returns at once."""

    def __init__(self, kept: int = MOST_FINISHED_JOBS, store: Callable[[Any], object] = lambda key: None) -> None:
        self._kept, self._store = kept, store
        self._lock = threading.Lock()
        self._jobs: OrderedDict[Hashable, Job] = OrderedDict()
        self._queues: dict[str, deque[Job]] = {}
        self._running: dict[str, Job] = {}
        self._workers: dict[str, threading.Thread] = {}
        self._closed = False

    def submit(
        self,
        key: JobKey[Any],
        stage: Callable[..., Any],
        *args: Any,
        label: str,
        device: str = "cpu",
        again: bool = False,
        keep: Callable[[Any, float], Path | None] | None = None,
        needs: tuple[JobKey[Any], ...] = (),
        about: str = "",
        **kwargs: Any,
    ) -> JobSnapshot:
        """Queue `stage(*args, *results, on_step=..., **kwargs)` unless `key` is already queued, running or done.

        `results` are those of the jobs that it `needs`, by their keys; without one of them it fails and says which:
        a result never rests on something that was cancelled. A failed or cancelled job is started anew; with `again`
        a finished one too. `keep(result, seconds)` is called in the worker once the stage is done, and returns the file
        it wrote, if any; if it fails, the result stays in memory with a warning. `about`: the setting, in few words.
        """
        self._recall(key)
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.state in ("failed", "cancelled") or (again and job.state == "done"):
                call = lambda results, on_step: stage(*args, *results, on_step=on_step, **kwargs)  # noqa: E731
                job = Job(key, label, device, call, keep, needs, about=about)
                self._jobs[key] = job
                self._jobs.move_to_end(key)
                self._queues.setdefault(device, deque()).append(job)
                self._finish_now(job) if self._closed else self._start_worker(device)
            return self._snapshot(job)

    def snapshot(self, key: Hashable) -> JobSnapshot | None:
        """The job of `key` now, or None when there is none (never asked, or pushed out and not on the store)."""
        self._recall(key)
        with self._lock:
            job = self._jobs.get(key)
            return self._snapshot(job) if job else None

    def result(self, key: JobKey[Found]) -> Found | None:
        """What the finished job of `key` returned, now or in an earlier run on the store, or None."""
        self._recall(key)
        with self._lock:
            job = self._jobs.get(key)
            if job is not None and job.state == "done":
                self._jobs.move_to_end(key)
            return cast("Found", job.result) if job is not None and job.state == "done" else None

    def partial(self, key: Hashable) -> object:
        """What the cancelled job of `key` had found by then (`Cancelled.partial`), perhaps of another type; or None."""
        with self._lock:
            job = self._jobs.get(key)
            return job.result if job is not None and job.state == "cancelled" else None

    def cancel(self, key: Hashable) -> None:
        """Ask a job to stop: a queued one stops now, a running one at its next step."""
        with self._lock:
            if (job := self._jobs.get(key)) is None:
                return
            job.cancel.set()
            if job.state == "queued":
                self._finish_now(job)

    def close(self, seconds: float) -> bool:
        """Cancel everything, start nothing any more, and wait for the workers; False when one still runs after that."""
        with self._lock:
            self._closed = True
            workers, waiting = list(self._workers.values()), [job for queue in self._queues.values() for job in queue]
            for job in (*waiting, *self._running.values()):
                job.cancel.set()
            for job in waiting:
                self._finish_now(job)
        end = time.monotonic() + seconds
        for worker in workers:
            worker.join(max(0.0, end - time.monotonic()))
        return not any(worker.is_alive() for worker in workers)

    def active(self) -> list[JobSnapshot]:
        """Every job that runs or waits: by device, the running one first, then in the order of their turn."""
        with self._lock:
            devices = sorted({*self._running, *self._queues})
            jobs = [job for name in devices for job in (self._running.get(name), *self._queues.get(name, ())) if job]
            return [self._snapshot(job) for job in jobs]

    def keys(self) -> list[Hashable]:
        """Keys of all jobs in memory, the newest last."""
        with self._lock:
            return list(self._jobs)

    def busy(self, device: str | None = None) -> JobSnapshot | None:
        """The job running on `device` (on any device for None), or None."""
        with self._lock:
            running = [job for name, job in self._running.items() if device in (None, name)]
            return self._snapshot(running[0]) if running else None

    def idle(self, device: str | None = None) -> bool:
        """True when nothing runs and nothing waits on `device` (on any device for None)."""
        with self._lock:
            busy = {job.device for job in self._jobs.values() if job.state in ("queued", "running")}
            return device not in busy if device else not busy

    def release(self, group: str, but: Hashable = None) -> None:
        """Forget finished jobs whose key is a tuple starting with `group`, except `but`."""
        with self._lock:
            ours = [key for key in self._jobs if isinstance(key, tuple) and key[:1] == (group,) and key != but]
            for key in [key for key in ours if self._jobs[key].state not in ("queued", "running")]:
                del self._jobs[key]

    def _recall(self, key: Hashable) -> None:
        """Make a finished result what the store has of its key. Reads outside the lock: it may take a while.

        Where the store has none (any more), memory answers only for what was never written, or whose file is there.
        """
        with self._lock:
            job = self._jobs.get(key)
        if job is not None and job.state != "done":
            return
        found = self._store(key)
        with self._lock:
            job = self._jobs.get(key)
            if found is not None and job is None:
                job = self._jobs[key] = Job(key, "from disk", "", None, result=found, recalled=True)
                self._finish(job, "done", ended=0.0)
            elif job is not None and job.state == "done":
                if found is not None:
                    job.result = found
                elif job.recalled or (job.file is not None and not job.file.exists()):
                    del self._jobs[key]

    def _snapshot(self, job: Job) -> JobSnapshot:
        end = job.ended or time.monotonic()
        seconds = end - job.started if job.started else 0.0
        done = job.step.fraction if job.step else 0.0
        left = _left(job, done, end) if job.state == "running" else None
        ahead: list[Job] = []
        if job.state == "queued":
            before = [self._running[job.device]] if job.device in self._running else []
            ahead = [*before, *itertools.takewhile(lambda other: other is not job, self._queues[job.device])]
        return JobSnapshot(
            job.key,
            job.label,
            job.device,
            job.state,
            job.step,
            seconds,
            left,
            job.cancel.is_set() and job.state == "running",
            ahead[0].label if ahead else "",
            len(ahead),
            job.error,
            tuple(job.details),
            job.warning,
            job.ended,
            job.about,
        )

    def _start_worker(self, device: str) -> None:
        worker = self._workers.get(device)
        if worker is None or not worker.is_alive():
            worker = threading.Thread(target=self._work, args=(device,), name=f"qroar-{device}", daemon=True)
            self._workers[device] = worker
            worker.start()

    def _work(self, device: str) -> None:
        """Run the device's queue until it is empty; the next submit starts a new thread."""
        while True:
            with self._lock:
                if not self._queues[device]:
                    del self._workers[device]
                    return
                job = self._queues[device].popleft()
                job.state, job.started = "running", time.monotonic()
                job.passed = job.started
                self._running[device] = job
                call = job.call
            state, result, error = self._run(job, call)
            warning, file = self._keep(job, job.keep, result) if state == "done" and job.keep else ("", None)
            with self._lock:
                del self._running[device]
                job.result, job.error, job.warning, job.file = result, error, warning, file
                self._finish(job, state)
            del job, call, result

    def _run(self, job: Job, call: Callable[..., Any] | None) -> tuple[State, object, str]:
        def on_step(step: Step) -> None:
            with self._lock:
                if job.step is not None and (step.stage != job.step.stage or step.fraction < job.step.fraction):
                    job.passed, job.first = time.monotonic(), None
                job.step = step
                if job.first is None and step.fraction > 0:
                    job.first = (time.monotonic(), step.fraction)
                if step.detail is not None:
                    job.details.append(step.detail)

        try:
            assert call is not None
            results = {key: self.result(key) for key in job.needs}
            for key in (key for key, found in results.items() if found is None):
                return "failed", None, self._unmet(job, key)
            return "done", call(results.values(), cancellable(on_step, job.cancel)), ""
        except Cancelled as stop:
            return "cancelled", stop.partial, ""
        except QRoarError as problem:
            return "failed", None, str(problem)
        except Exception as fault:
            log.exception("%s failed", job.label)
            if isinstance(fault, MemoryError) or "OutOfMemory" in type(fault).__name__:
                return "failed", None, f"{job.label}: out of memory on {job.device}; choose a shorter length"
            line = f"{job.label}: an internal error ({type(fault).__name__}); the log of the dashboard has the details"
            return "failed", None, line

    def _unmet(self, job: Job, key: Hashable) -> str:
        """Why a job that needs the result of `key` cannot begin."""
        needed = self.snapshot(key)
        if needed is not None and needed.state == "failed":  # its own line says what to do
            return f"{job.label}: not started, it needs “{needed.label}”, which failed: {needed.error}"
        end = "was cancelled" if needed is not None and needed.state == "cancelled" else "has not finished"
        what = "a lost result" if needed is None else f"“{needed.label}”, which {end}"
        return f"{job.label}: not started, it needs {what}; start it again"

    def _keep(self, job: Job, keep: Callable[[Any, float], Path | None], result: Any) -> tuple[str, Path | None]:
        """Write the result down; one that cannot be is still a result. Returns the warning, or "", and the file."""
        try:
            return "", keep(result, time.monotonic() - job.started)
        except Exception as fault:
            log.exception("%s could not be written down", job.label)
            why = fault if isinstance(fault, QRoarError) else type(fault).__name__
            return f"{job.label}: the result is in memory only, it could not be written to disk ({why})", None

    def _finish_now(self, job: Job) -> None:
        """End a queued job. Called with the lock held."""
        self._queues[job.device].remove(job)
        self._finish(job, "cancelled")

    def _finish(self, job: Job, state: State, ended: float | None = None) -> None:
        """Called with the lock held. Arguments go, so that a model can be freed."""
        job.state, job.call, job.keep, job.needs = state, None, None, ()
        job.ended = time.monotonic() if ended is None else ended
        self._jobs.move_to_end(job.key)
        finished = [key for key, other in self._jobs.items() if other.state not in ("queued", "running")]
        for key in finished[: max(0, len(finished) - self._kept)]:
            del self._jobs[key]


def _left(job: Job, done: float, now: float) -> float | None:
    """Seconds that the pass still takes at its pace since its first step; None while that is not worth saying.

    Before the first step lies what is done once, such as the first look at the weights: it says nothing of the rest.
    """
    began, first = job.first or (now, done)
    if done - first >= ESTIMATE_FROM:
        return (now - began) * (1 - done) / (done - first)
    return (now - job.passed) * (1 - done) / done if done >= AT_ONCE else None
