"""The runs on disk: one table, open one, put several side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from textwrap import wrap

import pandas as pd
import streamlit as st

from pages.forms.open_run import open_folder, open_path, open_picked, say_refused
from pages.state.foreign_runs import mark
from pages.state.opened_runs import is_foreign, is_of
from pages.state.opened_runs import opened as opened_here
from pages.state.session import choice, choose, library
from pages.state.widget_state import chosen, delivered, fill
from pages.views.boxes import finding, refused
from pages.views.labels import whole_setting_words
from pages.views.render import numbers, picture
from pages.views.run_in_view import evaluation_shown, runs_shown
from pages.views.task_scores import BESIDE, task_scores
from qroar_core.errors import QRoarError
from qroar_core.escape import literal
from qroar_core.evaluation.gap import tuned_share
from qroar_core.evaluation.result import Evaluation
from qroar_core.figures import runs as drawn
from qroar_core.models.loaded import LoadedModel
from qroar_core.runs.folder import SEVERAL
from qroar_core.runs.record import RunRecord
from qroar_core.runs.store import runs_root
from qroar_core.setting import Setting
from qroar_core.specs.labels import capital

MOST_RUNS = 200  # runs in the table and the menus, newest first
SETTING, LINE, LETTERS = 260, 19, 33  # pixels of its column and of a line in it, letters that a line surely holds
LINES = 4  # of every row; more where a setting needs them
BRIEF = 60  # letters that the menu of runs shows in a narrow window: a longer choice is written out below it
WIDTHS = {"": 58, "run": 157, "setup": SETTING, "significant": 90, "kept scales": 90, "date, UTC": 90}  # pixels
COLUMNS = {  # with those of WIDTHS they fill a window of 1440 pixels up to the date; what follows is scrolled to
    "gain, nats": st.column_config.NumberColumn(width=80, format="%+.4f", help="Recovered per token on held-out text"),
    "from": st.column_config.NumberColumn(width=70, format="%+.4f", help="Lower end of the gain's interval"),
    "to": st.column_config.NumberColumn(width=70, format="%+.4f", help="Upper end of the gain's interval"),
    "gap recovered": st.column_config.TextColumn(width=110, help="Of what quantization costs, with its interval"),
} | {name: st.column_config.TextColumn(width=width) for name, width in WIDTHS.items()}
OTHERS = 3  # runs of the setting in view that have a button; the rest are in the menu


def show_runs(loaded: LoadedModel | None, setting: Setting | None) -> None:
    """Every run known, of this model or another, with Open and Compare. `setting` marks the run in view."""
    entries = [*opened_here(), *library().entries()][:MOST_RUNS]
    entries = list({entry.path: entry for entry in entries}.values())
    readable = [entry for entry in entries if entry.setting is not None]
    if not readable:
        st.info(
            "No run is on disk yet. Every finished diagnosis, search and evaluation is kept here; "
            "`python -m qroar_core run MODEL --out FOLDER` makes one too."
        )
    else:
        table = _table(readable, loaded, setting)
        lines = max(len(wrap(said, LETTERS)) for said in table["setup"])
        numbers(table, "runs", COLUMNS, LINE * max(lines, LINES) + 4)
        _open_one(readable, loaded)
        _compare(readable)
    broken = [entry for entry in entries if entry.problem]
    if broken:
        with st.expander(f"Unreadable folders: {len(broken):d}"):
            for entry in broken:
                st.text(entry.problem)
    open_folder()


def opened(loaded: LoadedModel, setting: Setting) -> None:
    """What the run in view found, and where to look at it."""
    _another_model(loaded, setting)
    mine = [e for e in (*library().entries(), *opened_here()) if is_of(e, loaded) and e.setting == setting]
    named = choice().run
    shown = [run.path for run in runs_shown(loaded, setting)]
    # what this dashboard measured itself is what the pages show; then the run that was opened, and what they show
    mine.sort(key=lambda e: (is_foreign(e), e.name != named, _rank(e.path, shown)))
    if not mine:
        return
    theirs = [entry.path for entry in mine if is_foreign(entry)]
    if is_foreign(mine[0]):
        st.warning(literal(mark(mine[0])), icon=":material/folder_shared:")
    elif theirs:
        st.info(
            f"This dashboard has measured the setup of {literal(', '.join(map(str, theirs)))} itself: its own "
            "results are shown, and those of the folder only where it has none."
        )
    (found, run), done = evaluation_shown(loaded, setting), (mine[0].path / "diagnosis.json").is_file()
    said, good = "Not evaluated yet", False
    if found is not None:
        whose = "" if run is not None and run.path == mine[0].path else f"In {run.name if run else 'memory only'}: "
        said = whose + capital(found.finding)
        good = found.gain is not None and found.gain.significant and not found.caveat
    finding(good or None, mine[0].name, f" is in view. {literal(said)}.", ":material/folder_open:")
    with st.container(horizontal=True):
        st.page_link("pages/pressure.py", label="Its diagnosis" if done else "Diagnose it", icon=":material/speed:")
        st.page_link("pages/tune.py", label="Its scales", icon=":material/tune:")
        st.page_link("pages/evaluate.py", label="Its evaluation", icon=":material/balance:")
        _link_beside("pages/remedies.py", mine, ("compare",), ":material/leaderboard:")
        evidence = tuple(stage for stage in SEVERAL if stage != "compare")
        _link_beside("pages/evidence.py", mine, evidence, ":material/fact_check:")
    _offer_others([entry for entry in mine if not is_foreign(entry)])
    task_scores(mine)


def _rank(path: Path, shown: list[Path]) -> int:
    return shown.index(path) if path in shown else len(shown)


def _offer_others(runs: list[RunRecord]) -> None:
    """Several runs of one setting: whose numbers the pages show, and a way to each of the others."""
    if len(runs) < 2:
        return
    named = choice().run
    if named in [entry.name for entry in runs]:
        said = f"The address names {named}, so the pages show its numbers."
    else:
        said = "The address names none of them, so the pages show the newest result of each stage."
    with st.container(horizontal=True, vertical_alignment="center", key="runs of this setup"):
        st.caption(literal(f"{len(runs)} runs have this setup. {said}"))
        for entry in [entry for entry in runs if entry.name != named][:OTHERS]:
            st.button(
                f"Show {literal(entry.name)}",
                key=f"show {entry.path}",
                on_click=open_path,
                args=(str(entry.path),),
                icon=":material/folder_open:",
            )
            say_refused(str(entry.path))


def _another_model(loaded: LoadedModel, setting: Setting) -> None:
    """An opened run may be of what its model's files were then, or of another machine's model of that name."""
    asked = [entry for entry in opened_here() if entry.setting == setting]
    try:
        asked += [library().entry(choice().run)] if choice().run else []
    except QRoarError as problem:
        refused(problem)
    for entry in asked:
        if not is_of(entry, loaded):
            st.warning(
                f"{literal(_place(str(entry.path)))} was measured on another model than the one that is loaded "
                f"from {literal(loaded.source)} now: its setup is in view, none of its results."
            )


def _link_beside(page: str, runs: list[RunRecord], stages: tuple[str, ...], icon: str) -> None:
    """Where what runs of one setting hold of these stages is looked at; nothing where they hold none of it."""
    words = _beside_words(runs, stages)
    if words:
        label = f"Its {literal(words)}"
        st.page_link(page, label=label, icon=icon, help="Shown where the form there asks for the same")


def _beside_words(runs: list[RunRecord], stages: Iterable[str] = SEVERAL) -> str:
    """`2 comparisons of remedies, controls`; empty where the runs hold nothing of these stages."""
    counts = {stage: len(set().union(*(run.beside().get(stage, ()) for run in runs))) for stage in stages}
    return ", ".join(SEVERAL[stage][0] if n == 1 else f"{n} {SEVERAL[stage][1]}" for stage, n in counts.items() if n)


def _table(entries: list[RunRecord], loaded: LoadedModel | None, setting: Setting | None) -> pd.DataFrame:
    shown = [run.path for run in runs_shown(loaded, setting)] if loaded is not None and setting is not None else []
    mine = [entry for entry in entries if is_of(entry, loaded) and entry.setting == setting]
    named = [entry for entry in mine if entry.name == choice().run]
    seen = named or [entry for entry in mine if entry.path in shown]
    return pd.DataFrame([_line(entry, entry in seen) for entry in entries])


def _line(entry: RunRecord, in_view: bool) -> dict:
    evaluation, kept = entry.evaluation(), entry.kept()
    gain, share = (evaluation.gain, tuned_share(evaluation)) if evaluation else (None, None)
    return {
        "": "in view" if in_view else "",
        "run": entry.name,
        "setup": whole_setting_words(entry.setting) if entry.setting else "",
        "gain, nats": gain.delta_nll if gain else None,
        "from": gain.ci_low if gain else None,
        "to": gain.ci_high if gain else None,
        "significant": _significance(evaluation),
        "gap recovered": share.words if share else None,
        "kept scales": "none yet" if kept is None else "identity" if _is_identity(kept.g) else "tuned",
        "date, UTC": f"{entry.date:%Y-%m-%d %H:%M}",
        "model": entry.model,
        "evidence": ", ".join(filter(None, (_beside_words([entry]), BESIDE if entry.task_scores() else ""))),
        "kept": "elsewhere" if entry.path.parent != runs_root() else "here" if entry.checksum else "here, older",
    }


def _significance(evaluation: Evaluation | None) -> str:
    if evaluation is None or evaluation.gain is None:
        return "not evaluated"
    if evaluation.caveat:
        return evaluation.holds_only
    return "yes" if evaluation.gain.significant else "no: keep identity"


def _is_identity(g: list) -> bool:
    return all(_is_identity(inner) if isinstance(inner, list) else inner == 1 for inner in g)


def _open_one(entries: list[RunRecord], loaded: LoadedModel | None) -> None:
    """A menu of folders, not of places in a list: the list may be another when the button is pressed."""
    mine = [entry for entry in entries if is_of(entry, loaded)]
    called = {str(entry.path): _called(entry, loaded) for entry in mine + [e for e in entries if e not in mine]}
    shown = st.session_state.get("run to open")
    if shown is not None and shown not in called:  # else the menu would show another, and the button open that
        called[shown] = f"{_place(shown)} (no longer there)"
    row = st.container(horizontal=True, vertical_alignment="bottom", key="open one run")
    picked = row.selectbox("Run to open", called, format_func=lambda path: called.get(path, path), key="run to open")
    row.button("Open run", key="open run", on_click=open_picked, icon=":material/folder_open:")
    say_refused(picked)
    if len(called[picked]) > BRIEF:
        st.caption(literal(called[picked]))


def _called(entry: RunRecord, loaded: LoadedModel | None) -> str:
    place = _place(str(entry.path))
    words = f"{place}: {whole_setting_words(entry.setting)}" if entry.setting else place
    return words if is_of(entry, loaded) else f"{words} (needs {entry.source})"


def _place(path: str) -> str:
    """A run's name; its folder where it lies elsewhere. A menu takes the last of several that are called the same."""
    return _root_name(path) or path


def _compare(entries: list[RunRecord]) -> None:
    done = [entry for entry in entries if entry.evaluation() or entry.found()]
    if len(done) < 2:
        return
    by_path = {str(entry.path): entry for entry in done}
    asked, here = choice().compared, {_root_name(path): path for path in by_path}
    fill("compare", asked, {"compare": [here[name] for name in asked if name in here]})
    gone = [path for path in (*st.session_state["compare"], *asked) if path not in by_path and path not in here]
    if gone:
        st.session_state["compare"] = [path for path in st.session_state["compare"] if path in by_path]
        st.info(f"No longer there: {literal(', '.join(dict.fromkeys(map(_place, gone))))}.")
    picked = st.multiselect(
        "Compare runs", by_path, format_func=_place, key="compare", max_selections=drawn.MOST, placeholder="two or more"
    )
    compared = tuple(name for path in picked if (name := _root_name(path)))  # an address names runs of the root only
    choose(replace(choice(), compared=compared), chosen("compare", compared))
    delivered()
    if len(picked) < 2:
        return
    runs = [by_path[path] for path in picked]
    names = [e.name for e in runs]
    called = {e.path: e.name if names.count(e.name) == 1 else str(e.path) for e in runs}
    picture(drawn.gains([(called[e.path], found) for e in runs if (found := e.evaluation())]), "run-gains")
    picture(drawn.scales([(called[e.path], scales) for e in runs if (scales := e.found())]), "run-scales")


def _root_name(path: str) -> str:
    """The name of a run of the root; empty for one from elsewhere."""
    return Path(path).name if Path(path).parent == runs_root() else ""
