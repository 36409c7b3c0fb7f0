"""A Ray for one sweep: a local one that ends with it, or a cluster that is only visited."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qroar_core.errors import BadSpec
from qroar_core.sweeps.ray_options import CPUS, RayOptions, imported_ray

OBJECTS = 100 * 2**20  # bytes of a local object store: what workers return is a few rows
# A local Ray's workers are the work that was asked for, so they are no nicer than this process: by Ray's default (15)
# a busy machine hardly lets them start, and Ray ends one that has not started within a minute and tries again.
LOCAL = {"worker_niceness": 0, "worker_register_timeout_seconds": 300}


@contextmanager
def connected(options: RayOptions) -> Iterator[tuple[Any, int]]:
    """Ray's package, connected, and the cores of a worker.

    A program that is connected already keeps its connection, and its cluster is used.

    Raises:
        BadSpec: Ray is not installed, or no cluster answers at the address.
    """
    ray = imported_ray()
    if ray.is_initialized():
        yield ray, options.cpus or (CPUS if options.workers is None else _share(options.workers))
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if options.address is None:
            workers = options.workers or 1
            cpus = options.cpus or _share(workers)
            quiet |= {"include_dashboard": False, "_system_config": LOCAL}
            ray.init(num_cpus=workers * cpus, object_store_memory=OBJECTS, **quiet)
        else:
            cpus = options.cpus or CPUS
            ray.init(address=options.address, **quiet)
    except Exception as problem:  # Ray raises anything, also bare exceptions
        said = " ".join(str(problem).split())[:200] or type(problem).__name__
        where = options.address or "a local Ray"
        raise BadSpec(f"Ray does not start or answer: {said}", where=where, do="check ray status") from problem
    try:
        yield ray, cpus
    except ray.exceptions.RayError as fault:
        said = (str(fault).strip().splitlines() or [type(fault).__name__])[0][:200]
        do = "give the same command again, it goes on"
        raise BadSpec(f"Ray was lost ({type(fault).__name__}: {said})", where="sweep", do=do) from fault
    finally:
        ray.shutdown()


def _share(workers: int) -> int:
    """Cores of this machine for each of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // workers)
