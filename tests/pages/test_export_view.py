"""What the Export page says was written belongs to the choice above it, and is there."""

import shutil
import threading
import time

import pytest
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData

from pages.jobs import export_job
from pages.state.session import manager
from tests.pages.visitor import button, clicked, go, read, settled, texts, visit

pytestmark = pytest.mark.slow
GONE = "Nothing is written yet under this choice"


@pytest.fixture
def page(loaded_app, tmp_path, monkeypatch):
    """The Export page after a folder was written there."""
    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    go(loaded_app, "export")
    write(loaded_app, tmp_path / "one")
    assert written(loaded_app) == f"Written to `{tmp_path / 'one'}`"
    return loaded_app


def write(app, folder):
    app.text_input(key="folder").set_value(str(folder))
    clicked(app, "Write the checkpoint")


def written(app):
    """The box that says so, without what follows the path; None without one."""
    return next((read(e.value).split(". ")[0] for e in app.success if "Written to" in e.value), None)


def commands(app):
    return [tab.code[0].value for tab in app.tabs if tab.code]


def test_another_format_is_another_export(page, tmp_path):
    page.selectbox(key="export format").set_value("gguf-q8_0").run()
    assert (written(page), commands(page)) == (None, [])
    assert GONE in texts(page)
    write(page, tmp_path / "two")
    assert written(page) == f"Written to `{tmp_path / 'two'}`"
    (command,) = commands(page)
    assert f"{tmp_path / 'two' / 'demo-Q8_0.gguf'}" in command
    page.selectbox(key="export format").set_value("hf").run()
    assert (written(page), commands(page)) == (None, [])


def test_another_setting_or_other_scales_are_another_export_and_the_first_comes_back(page, tmp_path):
    go(page, "start")
    page.number_input(key="factor").set_value(2.0).run()
    go(page, "export")
    assert (written(page), commands(page)) == (None, [])
    go(page, "start")
    page.number_input(key="factor").set_value(4.0).run()
    go(page, "export")
    assert written(page) == f"Written to `{tmp_path / 'one'}`"
    go(page, "tune")
    clicked(page, "Start the search")
    go(page, "export")
    assert page.selectbox(key="export scales").value == "tuned scales"
    assert (written(page), commands(page)) == (None, [])


def test_a_refusal_stands_alone(page, tmp_path):
    page.text_input(key="folder").set_value("/etc/elsewhere")
    button(page, "Write the checkpoint").click().run()
    assert "outside the folders this dashboard may touch" in read(page.error[0].value)
    assert (written(page), commands(page)) == (None, [])
    write(page, tmp_path / "one")
    assert "already exists" in read(page.error[0].value)
    assert (written(page), commands(page)) == (None, [])


def test_a_second_click_on_what_was_just_written_is_no_refusal_and_writes_nothing(page, tmp_path):
    config = tmp_path / "one" / "config.json"
    made = config.stat().st_mtime_ns
    write(page, tmp_path / "one")
    assert (len(page.error), written(page)) == (0, f"Written to `{tmp_path / 'one'}`")
    assert config.stat().st_mtime_ns == made
    config.unlink()
    write(page, tmp_path / "one")  # what is there now is not what was written
    assert "already exists" in read(page.error[0].value)
    assert (written(page), commands(page)) == (None, [])


def test_a_click_whose_run_ends_right_behind_its_start_writes_once_and_says_so(page, tmp_path, monkeypatch):
    """As by a second click: Streamlit ends the run at its next touch of the session, and the next run starts anew."""
    begin, asked = export_job.start, []

    def overtaken(*args):
        key = begin(*args)
        if not asked:
            while manager().result(key) is None:
                time.sleep(0.02)
            requests = get_script_run_ctx().script_requests
            asked.append(requests.request_rerun(RerunData(page_script_hash=get_script_run_ctx().page_script_hash)))
        return key

    monkeypatch.setattr(export_job, "start", overtaken)
    write(page, tmp_path / "two")
    assert asked == [True]
    assert (len(page.error), written(page)) == (0, f"Written to `{tmp_path / 'two'}`")


def test_a_folder_that_was_removed_is_not_offered(page, tmp_path):
    shutil.rmtree(tmp_path / "one")
    page.run()
    assert "is not there any more" in page.warning[-1].value
    assert (written(page), commands(page)) == (None, [])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("x" * 300, f"{'x' * 80}…: a name of 300 characters, more than a disk takes (255 bytes); choose a shorter one"),
        ("é" * 200, f"{'é' * 80}…: a name of 200 characters, more than a disk takes (255 bytes); choose a shorter one"),
        ("file:///tmp/x", "file:///tmp/x: an address, not a path on this machine; type the path alone"),
        ("https://example.org/x", "https://example.org/x: an address, not a path on this machine; type the path alone"),
    ],
)
def test_what_is_no_folder_is_refused_in_one_line(page, tmp_path, typed, said):
    write(page, typed)
    assert [read(e.value) for e in page.error] == [said]
    assert written(page) is None
    assert not any(tmp_path.glob("file:*"))


def test_a_name_as_long_as_a_disk_takes_is_written(page, tmp_path):
    name = "n" * 255
    write(page, tmp_path / name)
    assert written(page) == f"Written to `{tmp_path / name}`"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_another_persons_export_in_the_same_folder_is_not_this_one(page, tmp_path):
    """Two tabs: what the first wrote is removed, and the second writes a folder of another setting there."""
    other = visit(page, model="demo", rope='{"method":"linear","factor":2}')
    shutil.rmtree(tmp_path / "one")
    go(other, "export")
    write(other, tmp_path / "one")
    assert written(other) == f"Written to `{tmp_path / 'one'}`"
    page.run()
    assert "another export, or a changed one, lies there now" in read(page.warning[-1].value)
    assert (written(page), commands(page)) == (None, [])
    write(page, tmp_path / "one")  # and it is no double click either
    assert "already exists" in read(page.error[0].value)


def test_an_export_of_before_a_reload_is_said_to_be_written(page, tmp_path):
    again = go(visit(page, model="demo"), "export")
    assert written(again) == f"Written to `{tmp_path / 'one'}`, started by another visitor, or before a reload"
    assert str(tmp_path / "one") in commands(again)[0]
    other = go(visit(page, model="demo", rope='{"method":"linear","factor":2}'), "export")
    assert (written(other), commands(other)) == (None, [])
    shutil.rmtree(tmp_path / "one")
    assert (written(again.run()), len(again.warning)) == (None, 0)


def test_an_export_that_a_reload_has_overtaken_is_shown_until_it_is_written(page, tmp_path, monkeypatch):
    held = threading.Event()
    real = export_job._write
    monkeypatch.setattr(export_job, "_write", lambda *args, **named: held.wait(30) and real(*args, **named))
    page.text_input(key="folder").set_value(str(tmp_path / "two"))
    button(page, "Write the checkpoint").click().run()
    again = go(visit(page, model="demo"), "export")
    assert [b.label for b in again.button if b.label == "Cancel"] != []
    assert written(again) is None
    held.set()
    settled(again)
    assert written(again) == f"Written to `{tmp_path / 'two'}`, started by another visitor, or before a reload"
