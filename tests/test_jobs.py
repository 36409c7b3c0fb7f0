"""The job manager: order, cancel, failure, no doubling, results that come back, and bounds."""

import logging
import threading
import time

import pytest

from qroar_core.errors import BadOutput, BadSpec, BadText
from qroar_core.job import KEPT_DETAILS
from qroar_core.jobs import Manager
from qroar_core.progress import Step, no_progress, run_cancellable

PATIENCE = 5.0  # seconds


def wait_for(manager, key, *states):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        now = manager.snapshot(key)
        if now is not None and now.state in states:
            return now
        time.sleep(0.005)
    raise AssertionError(f"{key} is {manager.snapshot(key)}, waited for {states}")


def add(a, b, *, on_step=no_progress):
    on_step(Step("add", 1, 2, "adding"))
    return a + b


class Gate:
    """A stage that says when it runs and ends when it is let go; counts its runs."""

    def __init__(self):
        self.open, self.runs = threading.Event(), 0

    def __call__(self, on_step=no_progress):
        self.runs += 1
        while not self.open.is_set():
            on_step(Step("gate", 1, 4, "waiting", {"run": self.runs}))
            time.sleep(0.005)
        return self.runs


@pytest.fixture
def manager():
    return Manager()


def test_a_result_comes_back_by_its_key(manager):
    manager.submit(("add", 2, 3), add, 2, b=3, label="Add")
    done = wait_for(manager, ("add", 2, 3), "done")
    assert manager.result(("add", 2, 3)) == 5
    assert (done.label, done.step.fraction, done.error, done.seconds_left) == ("Add", 0.5, "", None)
    assert manager.result("unknown") is None
    assert manager.snapshot("unknown") is None


def test_the_same_key_never_runs_twice(manager):
    gate = Gate()
    for _ in range(3):
        manager.submit("gate", gate, label="Gate")
    wait_for(manager, "gate", "running")
    gate.open.set()
    wait_for(manager, "gate", "done")
    assert manager.submit("gate", gate, label="Gate").state == "done"
    assert gate.runs == 1
    manager.submit("gate", gate, label="Gate", again=True)
    wait_for(manager, "gate", "done")
    assert manager.result("gate") == 2


def test_one_device_takes_jobs_in_order_and_another_does_not_wait(manager):
    order, gate = [], Gate()

    def note(name, on_step=no_progress):
        order.append(name)

    manager.submit("first", gate, label="First", device="cuda:0")
    wait_for(manager, "first", "running")
    for name in ("second", "third"):
        manager.submit(name, note, name, label=name.title(), device="cuda:0")
    manager.submit("other", note, "other", label="Other", device="cpu")
    wait_for(manager, "other", "done")
    waiting = manager.snapshot("third")
    assert (waiting.state, waiting.behind, waiting.ahead) == ("queued", "First", 2)
    listed = [(job.device, job.label, job.ahead) for job in manager.active()]
    assert listed == [("cuda:0", "First", 0), ("cuda:0", "Second", 1), ("cuda:0", "Third", 2)]
    assert manager.busy("cuda:0").label == "First"
    assert manager.busy("cpu") is None
    gate.open.set()
    wait_for(manager, "third", "done")
    assert order == ["other", "second", "third"]
    assert manager.busy() is None


def test_a_job_gets_what_it_needs_and_fails_without_it(manager):
    gate, seen = Gate(), []

    def two(word, one, other, on_step=no_progress):
        seen.append((word, one, other))
        return "made"

    manager.submit("gate", gate, label="Gate")
    manager.submit("late", lambda on_step: 7, label="Late")
    manager.submit("both", two, "word", label="Both", needs=("gate", "late"))
    gate.open.set()
    wait_for(manager, "both", "done")
    assert seen == [("word", 1, 7)]
    manager.submit("lost", two, "word", label="Lost", needs=("gate", "never asked"))
    lost = wait_for(manager, "lost", "failed")
    assert lost.error == "Lost: not started, it needs a lost result; start it again"
    assert len(seen) == 1


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_what_ends_without_a_result_fails_the_jobs_that_need_it(manager, end):
    gate, ran, kept = Gate(), [], []

    def fails(on_step=no_progress):
        raise BadText("the text is too short")

    manager.submit("first", gate, label="First")
    manager.submit("needed", fails, label="Needed")
    manager.submit("after", ran.append, label="After", needs=("needed",), keep=lambda *a: kept.append(a))
    if end == "cancelled":
        manager.cancel("needed")
    gate.open.set()
    after = wait_for(manager, "after", "failed")
    how = "was cancelled; start it again" if end == "cancelled" else "failed: the text is too short"
    assert after.error == f"After: not started, it needs “Needed”, which {how}"
    assert (ran, kept) == ([], [])


def test_cancel_answers_within_two_seconds_and_the_job_can_start_anew(manager):
    gate = Gate()
    manager.submit("gate", gate, label="Gate")
    wait_for(manager, "gate", "running")
    asked = time.monotonic()
    manager.cancel("gate")
    ended = wait_for(manager, "gate", "cancelled")
    assert time.monotonic() - asked < 2
    assert (ended.error, manager.result("gate")) == ("", None)
    gate.open.set()
    manager.submit("gate", gate, label="Gate")
    wait_for(manager, "gate", "done")
    assert manager.result("gate") == 2


def test_a_queued_job_is_cancelled_without_ever_running(manager):
    gate, behind = Gate(), Gate()
    manager.submit("gate", gate, label="Gate")
    manager.submit("behind", behind, label="Behind")
    manager.cancel("behind")
    assert manager.snapshot("behind").state == "cancelled"
    gate.open.set()
    wait_for(manager, "gate", "done")
    assert behind.runs == 0


def test_our_own_errors_keep_their_line_and_faults_show_no_traceback(manager, caplog):
    def refused(on_step=no_progress):
        raise BadSpec("factor 0.5 is below 1", where="--factor", do="choose 1 or more")

    def faulty(on_step=no_progress):
        return {}["secret detail"]

    manager.submit("refused", refused, label="Refused")
    assert wait_for(manager, "refused", "failed").error == "--factor: factor 0.5 is below 1; choose 1 or more"
    with caplog.at_level(logging.ERROR, logger="qroar.jobs"):
        manager.submit("faulty", faulty, label="Faulty")
        line = wait_for(manager, "faulty", "failed").error
    assert line == "Faulty: an internal error (KeyError); the log of the dashboard has the details"
    assert "secret detail" in caplog.text
    manager.submit("add", add, 1, 1, label="Add")  # the worker lives on
    wait_for(manager, "add", "done")


def test_out_of_memory_says_what_to_do(manager):
    def big(on_step=no_progress):
        raise MemoryError

    manager.submit("big", big, label="Diagnose", device="cpu")
    assert wait_for(manager, "big", "failed").error == "Diagnose: out of memory on cpu; choose a shorter length"


class Store:
    """Results by key, and how often it was asked."""

    def __init__(self, **known):
        self.known, self.asked = known, []

    def __call__(self, key):
        self.asked.append(key)
        return self.known.get(key)


def test_a_result_on_the_shelf_is_a_finished_job_that_never_runs():
    store, gate = Store(old=41), Gate()
    manager = Manager(store=store)
    now = manager.snapshot("old")
    assert (now.state, now.active, now.error, now.seconds) == ("done", False, "", 0.0)
    assert manager.submit("old", gate, label="Old").state == "done"
    assert (manager.result("old"), gate.runs) == (41, 0)
    assert manager.snapshot("new") is None
    gate.open.set()
    manager.submit("old", gate, label="Old", again=True, keep=lambda result, _: store.known.update(old=result))
    wait_for(manager, "old", "done")
    assert manager.result("old") == 1


def test_a_newer_result_on_the_shelf_takes_the_place_of_the_one_in_memory():
    manager = Manager(store=(store := Store(old=41)))
    assert manager.result("old") == 41
    store.known["old"] = 42
    assert manager.result("old") == 42
    manager.submit("add", add, 2, 3, label="Add")
    wait_for(manager, "add", "done")
    store.known["add"] = 6
    assert manager.result("add") == 6


def test_what_came_from_the_shelf_goes_with_it_and_is_computed_anew():
    manager = Manager(store=(store := Store(old=41)))
    assert manager.result("old") == 41
    del store.known["old"]
    assert (manager.result("old"), manager.snapshot("old")) == (None, None)
    manager.submit("old", add, 1, 1, label="Old")
    assert wait_for(manager, "old", "done").label == "Old"
    assert manager.result("old") == 2


def test_a_result_goes_with_the_file_it_was_written_to_and_stays_while_that_holds_a_later_one(tmp_path):
    """A run has one retrieval, the last: the one before stays in memory. A run that is deleted leaves nothing."""
    file, store = tmp_path / "retrieval.json", Store()
    manager = Manager(store=store)

    def keep(result, seconds):
        file.write_text(str(result))
        return file

    manager.submit("add", add, 2, 3, label="Add", keep=keep)
    wait_for(manager, "add", "done")
    assert manager.result("add") == 5
    file.unlink()
    assert (manager.result("add"), manager.snapshot("add")) == (None, None)


def test_what_memory_pushed_out_comes_back_from_the_shelf():
    manager = Manager(kept=1, store=(store := Store()))
    for i in ("a", "b"):
        manager.submit(i, add, i, i, label=i, keep=lambda result, seconds, i=i: store.known.update({i: result}))
        wait_for(manager, i, "done")
    assert manager.result("a") == "aa"
    assert Manager(store=store).result("b") == "bb"  # a restart


def test_keep_hears_result_and_seconds_and_a_cancelled_job_is_not_kept(manager):
    kept, gate = [], Gate()
    manager.submit("add", add, 2, 3, label="Add", keep=lambda *heard: kept.append(heard))
    wait_for(manager, "add", "done")
    ((result, seconds),) = kept
    assert result == 5
    assert 0 <= seconds < PATIENCE
    manager.submit("gate", gate, label="Gate", keep=lambda *heard: kept.append(heard))
    wait_for(manager, "gate", "running")
    manager.cancel("gate")
    wait_for(manager, "gate", "cancelled")
    assert len(kept) == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            BadOutput("No space left on device", where="/runs/x", do="free some room"),
            "(/runs/x: No space left on device; free some room)",
        ),
        (PermissionError("secret"), "(PermissionError)"),
    ],
)
def test_a_result_that_cannot_be_written_stays_with_a_warning(manager, fault, said, caplog):
    def full(result, seconds):
        raise fault

    manager.submit("add", add, 2, 3, label="Add", keep=full)
    now = wait_for(manager, "add", "done")
    assert now.warning == f"Add: the result is in memory only, it could not be written to disk {said}"
    assert manager.result("add") == 5
    manager.submit("next", add, 1, 1, label="Next")  # the worker lives on
    assert wait_for(manager, "next", "done").warning == ""


def test_a_call_that_reports_nothing_is_given_up_within_two_seconds(manager):
    ended = threading.Event()

    def stage(on_step=no_progress):
        return run_cancellable(lambda: ended.wait(30), on_step, Step("load", 1, 4, "read weights"))

    manager.submit("load", stage, label="Load")
    wait_for(manager, "load", "running")
    asked = time.monotonic()
    manager.cancel("load")
    wait_for(manager, "load", "cancelled")
    assert time.monotonic() - asked < 2
    ended.set()
    assert run_cancellable(lambda: 7, no_progress, Step("x", 0, 1)) == 7
    with pytest.raises(ZeroDivisionError):
        run_cancellable(lambda: 1 / 0, no_progress, Step("x", 0, 1))


def test_details_are_kept_in_order_and_bounded(manager):
    def chatty(on_step=no_progress):
        for i in range(KEPT_DETAILS + 10):
            on_step(Step("chat", i, 1, detail=i))

    manager.submit("chatty", chatty, label="Chatty")
    details = wait_for(manager, "chatty", "done").details
    assert details == tuple(range(10, KEPT_DETAILS + 10))


def test_old_results_make_room_and_used_ones_stay():
    manager = Manager(kept=2)
    for i in range(4):
        manager.submit(i, add, i, i, label=str(i))
        wait_for(manager, i, "done")
        assert manager.result(0) == 0  # asked for all the time: never the oldest
    assert [manager.snapshot(i) is not None for i in range(4)] == [True, False, False, True]


def test_release_forgets_a_group_but_the_one_to_keep(manager):
    keys = [("load", "a"), ("load", "b"), ("diagnose", "a")]
    for key in keys:
        manager.submit(key, add, 1, 1, label="Add")
        wait_for(manager, key, "done")
    manager.release("load", but=("load", "b"))
    assert [manager.result(key) for key in keys] == [None, 2, 2]


def test_time_left_is_what_the_pace_so_far_promises(manager):
    gate = Gate()
    manager.submit("gate", gate, label="Gate")
    wait_for(manager, "gate", "running")
    time.sleep(0.2)
    now = manager.snapshot("gate")
    gate.open.set()
    assert now.step.fraction == 0.25
    assert now.seconds_left == pytest.approx(3 * now.seconds)


def test_time_left_leaves_out_what_a_beginning_takes(manager):
    """Planted: half a second before the first step, then 20 ms for each of 50 steps."""
    held, reached = threading.Event(), threading.Event()

    def slow_to_begin(on_step=no_progress):
        time.sleep(0.5)
        for i in range(1, 11):
            on_step(Step("evaluate", i, 50))
            time.sleep(0.02)
        reached.set()
        held.wait(PATIENCE)

    manager.submit("slow", slow_to_begin, label="Slow")
    assert reached.wait(PATIENCE)
    now = manager.snapshot("slow")
    held.set()
    assert now.step.fraction == 0.2
    assert 0.5 < now.seconds_left < 1.8  # 40 steps of 20 ms and this machine's delays; 2.8 with the beginning


def test_time_left_starts_anew_with_every_pass(manager):
    gate = Gate()

    def two_passes(on_step=no_progress):
        on_step(Step("search", 8, 8))
        time.sleep(0.2)
        gate(on_step)

    manager.submit("two", two_passes, label="Two")
    end = time.monotonic() + PATIENCE
    while (manager.snapshot("two").step or Step("none", 0, 1)).stage != "gate" and time.monotonic() < end:
        time.sleep(0.005)
    now = manager.snapshot("two")
    gate.open.set()
    assert now.seconds_left < 3 * (now.seconds - 0.2) + 0.1


def test_arguments_of_a_finished_job_are_let_go(manager):
    import gc
    import weakref

    class Model:
        pass

    def use(model, on_step=no_progress):
        return "used"

    model = Model()
    gone = weakref.ref(model)
    manager.submit("use", use, model, label="Use")
    wait_for(manager, "use", "done")
    del model
    end = time.monotonic() + PATIENCE
    while gone() is not None and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    assert gone() is None


def test_closing_cancels_all_and_waits_for_the_step_that_runs(manager):
    first, second = Gate(), Gate()
    manager.submit("first", first, label="First")
    manager.submit("second", second, label="Second")
    wait_for(manager, "first", "running")
    assert manager.close(PATIENCE)
    assert [manager.snapshot(key).state for key in ("first", "second")] == ["cancelled", "cancelled"]
    assert second.runs == 0
    late = manager.submit("late", second, label="Late")
    assert (late.state, second.runs) == ("cancelled", 0)


def test_closing_gives_a_step_that_does_not_end_so_much_time_and_no_more(manager):
    stuck = threading.Event()
    manager.submit("stuck", lambda on_step: stuck.wait(PATIENCE), label="Stuck")
    wait_for(manager, "stuck", "running")
    began = time.monotonic()
    assert not manager.close(0.1)
    assert time.monotonic() - began < PATIENCE
    stuck.set()
