"""A search that is cancelled after some candidates."""

import pytest

from qroar_core.errors import Cancelled
from qroar_core.scale_search import run as search
from qroar_core.setting import Setting
from qroar_core.specs import RopeSpec
from tests.scale_search.searching import INT4, TEXTS

ROPE = RopeSpec("yarn", 2.0)


def stopped(loaded, spec, label, nth=1, rope=ROPE, quant=INT4, **more):
    """What is left of a search that is cancelled at the n-th step of this label."""
    left = [nth]

    def cancel(step):
        if step.what.startswith(label):
            left[0] -= 1
            if not left[0]:
                raise Cancelled("search")

    with pytest.raises(Cancelled) as caught:
        search.run(loaded, Setting(rope, quant, search=spec), TEXTS, on_step=cancel, **more)
    assert caught.value.where == "search"
    return caught.value.partial


def whole_and_resumed(tiny, spec, rope=ROPE):
    """A search that is never stopped, what is left of one stopped at gradient step 11, and what that goes on to."""
    setting = Setting(rope, INT4, search=spec)
    left = stopped(tiny(), spec, "gradient step 11", rope=rope)
    return search.run(tiny(), setting, TEXTS), left, search.run(tiny(), setting, TEXTS, resume=left)


def last_step(outcome):
    """The objective of the last gradient step of 24."""
    found = [c.objective for c in outcome.report.history if c.label == "gradient step 24"]
    assert found
    return found
