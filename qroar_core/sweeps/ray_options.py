"""How a sweep uses Ray: a local one with so many workers, or a cluster. Ray itself is imported when it is used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from qroar_core.checks import whole
from qroar_core.errors import BadSpec

EXTRA = "qroar-dashboard[cluster]"
CPUS = 4  # of a worker on a cluster, where nobody says


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Where the workers of a sweep run.

    Args:
        workers: at most so many at a time; None: as many as the cluster has room for.
        address: of a cluster, as `ray.init` takes it; None: a Ray of this machine, for this sweep alone.
        cpus: processor cores of a worker, and threads of its arithmetic; None: those of this machine shared out
            among the workers, 4 on a cluster.
    """

    workers: int | None = None
    address: str | None = None
    cpus: int | None = None


def ray_options(workers: Any, address: Any, cpus: Any) -> RayOptions | None:
    """What a person asked for; None: no Ray.

    Raises:
        BadSpec: no positive number, an address that is no text, or cores of workers where there are none.
    """
    if workers is not None:
        whole("workers", workers, 1)
    if cpus is not None:
        whole("cpus", cpus, 1)
    if address is not None and (not isinstance(address, str) or not address.strip()):
        do = "give auto, HOST:PORT or ray://HOST:10001"
        raise BadSpec(f"must be an address, got {address!r}", where="address", do=do)
    if workers is None and address is None:
        if cpus is not None:
            raise BadSpec("is for workers of Ray", where="cpus", do="give workers or address as well")
        return None
    return RayOptions(workers, address, cpus)


def imported_ray() -> Any:
    """The package.

    Raises:
        BadSpec: it is not installed; names the extra.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unless a person asks
    os.environ.setdefault("RAY_task_oom_retries", "3")  # a cell that does not fit is not tried for ever
    try:
        import ray
    except ImportError as missing:
        raise BadSpec("needs Ray, which is not installed", where="sweep", do=f'pip install "{EXTRA}"') from missing
    return ray
