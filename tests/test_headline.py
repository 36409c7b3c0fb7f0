"""The headline's passes are kept one by one: a killed run goes on, a changed key is measured anew, the time ends it."""

import dataclasses
import json
import math

import pytest
import torch

from benchmarks import headline, headline_passes, headline_searches, headline_units
from benchmarks.checkpoint import digest_of
from benchmarks.headline import QUANTIZED, REFERENCE, ROTATION, Table, measured, with_scales
from benchmarks.headline_passes import Passes, read_records, score
from benchmarks.headline_table import share_words, whole
from benchmarks.headline_units import Block, Remedy, told
from qroar_core.interpolations.tie import parse_ties, ties_text
from qroar_core.models import load
from qroar_core.models.condition import Condition
from qroar_core.models.score import logits_of
from qroar_core.models.stream import open_stream
from qroar_core.models.text import split, windows
from qroar_core.progress import no_progress
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.scale_search.result_ties import TieChoice, TieCost, TiedGroup
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec, SearchSpec
from qroar_core.transforms.file import from_file, rope_from

pytestmark = pytest.mark.slow
SEARCH = SearchSpec(length=128, windows=1, steps=2)
ROPE, INT3 = RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(3))
REMEDIES = (REFERENCE, QUANTIZED, *with_scales(SEARCH), ROTATION)
LONG = Block("K int3", INT3, "messages", 512, 2, REMEDIES)
SHORT = Block("K int3", INT3, "messages", 128, 2, REMEDIES)
TABLE = Table("headline", "the demo model", ROPE, (LONG, SHORT))
PASSES = 2 * 2 * 5
CHOICE = TieChoice(
    groups=[TiedGroup(first=28, last=31, turn=0.0, wavelength=math.inf, absmax_share=0.5, cost=0.01, left_without=1.0)],
    left_untied=1.0,
    tried=[],
    costs=[TieCost(length=128, windows=2, nats=0.001, low=0.0, high=0.002, allowed=0.005)],
    dropped=[],
    text="1 calibration window of 128 tokens",
    seconds=1.0,
    forward_seconds=0.1,
)


@pytest.fixture(scope="module")
def demo():
    return load.run("demo", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def finished(demo, tmp_path_factory):
    """A folder with every unit of the table."""
    folder = tmp_path_factory.mktemp("headline")
    assert measured(demo, TABLE, folder)
    return folder


class Killed(BaseException):
    """As a kill is: nothing catches it."""


def copied(finished, tmp_path):
    for path in finished.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def counted(monkeypatch, most=math.inf):
    """Every pass from here on, and a kill in the middle of the one past `most`."""
    seen = []

    def counting(loaded, condition, ids, *more, **named):
        seen.append(digest_of(ids[0]))
        if len(seen) > most:
            raise Killed
        return real(loaded, condition, ids, *more, **named)

    real = headline_passes.measure
    monkeypatch.setattr(headline_passes, "measure", counting)
    return seen


def said(capsys):
    """The table without what a clock says."""
    lines = capsys.readouterr().out.splitlines()
    rows = [line.rsplit("|", 2)[0] if line.startswith("|") else line.split(" seed 0, ")[0] for line in lines]
    assert sum(line.startswith("| ") for line in lines) > 2
    return rows


def test_a_killed_run_goes_on_with_the_same_table_and_measures_nothing_twice(
    demo, finished, tmp_path, monkeypatch, capsys
):
    measured(demo, TABLE, finished)
    expected = said(capsys)
    seen = counted(monkeypatch, most=7)
    with pytest.raises(Killed):
        measured(demo, TABLE, tmp_path)
    assert len(read_records(tmp_path / "passes.jsonl")) == 7
    assert len(list(tmp_path.glob("*scales*.json"))) == 2
    with (tmp_path / "passes.jsonl").open("a") as file:
        file.write('{"key": "half of a li')
    capsys.readouterr()
    monkeypatch.undo()
    seen = counted(monkeypatch)
    assert measured(demo, TABLE, tmp_path)
    assert len(seen) == PASSES - 7
    assert said(capsys) == expected
    assert expected[-1] == "Nothing is missing."
    assert len(read_records(tmp_path / "passes.jsonl")) == PASSES


def test_the_time_ends_between_two_passes_and_the_table_says_what_is_missing(demo, tmp_path, monkeypatch, capsys):
    clock = iter(range(100))
    monkeypatch.setattr(headline.time, "monotonic", lambda: next(clock))
    assert not measured(demo, TABLE, tmp_path, deadline=7)  # 2 searches and 5 passes
    assert len(read_records(tmp_path / "passes.jsonl")) == 5
    out = capsys.readouterr().out
    assert "1 of 2 held-out windows." in out
    assert "- K int3, messages, 512 tokens: 5 of 10 passes missing\n" in out
    assert "- K int3, messages, 128 tokens: 10 of 10 passes missing\n" in out
    assert "`python -m benchmarks headline` measures them.\n" in out  # nothing is known yet of 128 tokens' time
    rows = [line for line in out.splitlines() if line.startswith("| past 256 | ")]
    assert [row.split(" | ")[1] for row in rows] == [remedy.name for remedy in REMEDIES]
    assert all("one window" in row for row in rows if "quantized" not in row)


def test_what_changed_is_measured_anew_and_the_rest_is_not(demo, finished, tmp_path, monkeypatch):
    folder = copied(finished, tmp_path)
    seen = counted(monkeypatch)
    assert measured(demo, TABLE, folder)
    assert seen == []
    int4 = Block("K int4", QuantSpec(k=QuantizerSpec(4)), "messages", 512, 2, REMEDIES[:2])
    assert measured(demo, Table("", "", ROPE, (int4,)), folder)
    assert len(seen) == 2  # the reference is the same
    assert measured(demo, Table("", "", RopeSpec("yarn", 4.0), (int4,)), folder)
    assert len(seen) == 6
    other = load.run("demo", device="cpu", dtype="float32")
    other.fingerprint = "0" * 16
    assert measured(other, Table("", "", ROPE, (int4,)), folder)
    assert len(seen) == 10
    monkeypatch.setattr(headline_passes, "SEED", 1)  # other tokens
    assert measured(demo, Table("", "", ROPE, (int4,)), folder)
    assert len(seen) == 14
    monkeypatch.undo()
    seen = counted(monkeypatch)
    monkeypatch.setattr(headline_units, "MEASUREMENT", 2)
    assert measured(demo, Table("", "", ROPE, (int4,)), folder)
    assert len(seen) == 4


def test_a_key_holds_every_field_of_a_spec_that_tells_it_from_another():
    """Oracle: dataclasses.asdict, where all fields count."""

    @dataclasses.dataclass(frozen=True)
    class Asked:
        windows: int
        rope: RopeSpec = ROPE
        fewer: bool = dataclasses.field(default=False, compare=False)

    then = {  # the names of the kept files
        "error_metric": "judge",
        "max_log2_scale": "kappa0",
        "pressure_weight": "eta",
        "tail_weight": "tau_tail",
        "l2_penalty": "shrink",
    }
    left_out = {
        "tie",
        "maps",
        "value_maps",
        "k_offset",
        "polish",
        "attention_factor",
        "keep_layers",
    }  # younger than the kept files, and left out here
    for spec in (SEARCH, ROPE, INT3):
        names = {f.name for f in dataclasses.fields(spec) if f.compare} - left_out
        wanted = {then.get(name, name): value for name, value in dataclasses.asdict(spec).items() if name in names}
        assert told(spec) == wanted
    plain = {name: value for name, value in dataclasses.asdict(ROPE).items() if name not in left_out}
    assert told(Asked(2)) == told(Asked(2, fewer=True)) == {"windows": 2, "rope": plain}
    assert told(dataclasses.replace(SEARCH, angles=True, maps=True))["maps"] is True
    assert told(dataclasses.replace(ROPE, tie=parse_ties("20-21"))) != plain
    assert told(Asked(2)) != told(Asked(2, RopeSpec("yarn", 4.0)))


def test_a_lost_search_is_made_again_and_its_passes_are_found_by_the_scales(demo, finished, tmp_path, monkeypatch):
    folder = copied(finished, tmp_path)
    for path in folder.glob("*scales-1*.json"):
        path.unlink()
    seen = counted(monkeypatch)
    assert measured(demo, TABLE, folder)
    assert seen == []


def test_a_record_holds_what_its_number_rests_on(demo, finished):
    records = read_records(finished / "passes.jsonl")
    assert len(records) == PASSES
    passes = Passes(demo, ROPE, finished)
    texts = passes.windows_of(LONG)
    assert texts.digest == windows(demo.tokenizer, split("heldout"), 512, 2, 0).digest
    [rotated] = [r for r in records if (r["remedy"], r["length"], r["window"]) == ("Hadamard rotation", 512, 1)]
    what = rotated["what"]
    assert what["model"] == demo.fingerprint
    assert what["tokens"] == digest_of(texts.ids[1])
    assert what["quantization"]["k"]["rotation"] == "hadamard"
    assert what["rope"] == {**what["rope"], "method": "yarn", "factor": 2.0}
    assert (rotated["document"], rotated["offset"], rotated["seed"]) == (*texts.origin[1], 0)
    assert rotated["commit"] == headline_passes.commit()
    scales = {r["what"]["scales"] for r in records if r["length"] == 512}
    assert len(scales) == 3  # none, scales, scales and angles


def test_past_the_trained_window_means_predicted_from_a_position_never_trained(demo):
    """Oracle: log-softmax of all logits at once, target by target."""
    ids = windows(demo.tokenizer, split("heldout"), 300, 1, 0).ids[0]
    found = score(demo, Condition(ROPE), ids, 256)
    with open_stream(demo, Condition(ROPE), 300) as stream:
        logits = logits_of(demo, torch.cat([piece.hidden for piece in stream.run(ids)], 1)[0])
    each = [-float(logits[at].double().log_softmax(-1)[ids[at + 1]]) for at in range(299)]
    assert (found["targets"], found["targets_past"]) == (299, 43)
    assert found["nll"] == pytest.approx(sum(each) / 299, abs=1e-5)
    assert found["nll_past"] == pytest.approx(sum(each[256:]) / 43, abs=1e-5)  # positions 256 to 298
    assert found["nll_by_stretch"][0] == pytest.approx(sum(each[:38]) / 38, abs=1e-5)
    assert found["nll_by_stretch"][7] == pytest.approx(sum(each[266:]) / 33, abs=1e-5)
    within = score(demo, Condition(ROPE), ids[:257], 256)
    assert (within["nll_past"], within["targets_past"]) == (None, 0)


def test_documents_too_short_for_a_window_are_read_as_one_text(demo):
    whole_ones = headline_passes.readable(demo, "technical", "heldout", 512, 2)
    assert [d.name for d in whole_ones] == [d.name for d in split("heldout", "technical")]
    longest = max(len(demo.tokenizer(d.text)["input_ids"]) for d in whole_ones)
    [joined] = headline_passes.readable(demo, "technical", "heldout", longest + 1, 2)
    assert joined.text == "\n".join(d.text for d in whole_ones)
    assert all(d.name in joined.name for d in whole_ones)


def test_the_table_pairs_windows(demo, finished, capsys):
    records = {(r["remedy"], r["window"]): r for r in read_records(finished / "passes.jsonl") if r["length"] == 512}
    measured(demo, Table("", "", ROPE, (LONG,)), finished)
    [row] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| past 256 | Hadamard")]
    gains = [records["quantized", i]["nll_past"] - records["Hadamard rotation", i]["nll_past"] for i in (0, 1)]
    mean, half = sum(gains) / 2, abs(gains[0] - gains[1]) / 2 * 12.7062047  # Student's t with one degree of freedom
    assert f"| {mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}] |" in row
    assert digest_of(torch.stack(list(Passes(demo, ROPE, finished).windows_of(LONG).ids))) in row


def test_a_share_without_a_bounded_interval_says_so():
    assert share_words([0.1], [0.2]) == "50.0%, one window"
    assert share_words([0.1, 0.1], [0.4, 0.01]) == "48.8%, no bounded interval"
    assert share_words([0.1, 0.2], [-0.4, 0.01]) == "nothing was lost"
    assert share_words([0.1, 0.12, 0.09], [0.2, 0.23, 0.2]) == "49.2% [38.2%, 57.2%]"


def test_an_unfinished_window_is_in_no_row(demo, finished, tmp_path):
    folder = copied(finished, tmp_path)
    lines = (folder / "passes.jsonl").read_text().splitlines(keepends=True)
    dropped = [line for line in lines if not (json.loads(line)["window"] == 0 and '"quantized"' in line)]
    (folder / "passes.jsonl").write_text("".join(dropped))
    columns, kept = whole(Passes(demo, ROPE, folder), LONG)
    assert kept == [1]
    assert [r["window"] for r in columns["reference"]] == [1]


def test_a_tied_remedy_chooses_its_pairs_once_and_is_read_under_them(demo, tmp_path, monkeypatch, capsys):
    """Oracle: NLL under the interpolation and the scales of the kept file, measured without the headline's code."""
    spec = dataclasses.replace(SEARCH, angles=True, maps=True)
    alone = Remedy("tied pairs, not quantized", quantized=False, search=spec, tied=True)
    maps = Remedy("maps on tied pairs", search=spec, tied=True)
    block = dataclasses.replace(SHORT, most=2, remedies=(REFERENCE, QUANTIZED, alone, maps))
    monkeypatch.setattr(
        headline_searches.choose_ties, "run", lambda *_: CHOICE
    )  # the choice itself is tested in scale_search/test_choose_ties.py
    assert measured(demo, Table("", "", ROPE, (block,)), tmp_path)
    assert f"tied {ties_text(CHOICE.tie)}: it costs" in capsys.readouterr().out
    (kept,) = tmp_path.glob("*-tied-maps-*.json")
    scales, content = from_file(kept, demo)
    tied = rope_from(content.rope)
    assert tied == dataclasses.replace(ROPE, tie=CHOICE.tie)
    assert scales.groups
    records = {record["remedy"]: record for record in read_records(tmp_path / "passes.jsonl") if record["window"] == 1}
    ids = Passes(demo, ROPE, tmp_path).windows_of(block).ids[1]
    for name, quant, with_these in ((alone.name, QuantSpec(), None), (maps.name, INT3, scales)):
        scorer = WindowScorer(demo, tied, quant, no_progress)
        assert records[name]["nll"] == pytest.approx(scorer.nll(ids[None], with_these, "")[0], abs=1e-6)
    monkeypatch.setattr(headline_searches.choose_ties, "run", None)
    seen = counted(monkeypatch)
    kept.unlink()  # the search is lost, the choice is not; other scales than before would be other passes
    assert measured(demo, Table("", "", ROPE, (block,)), tmp_path)
    assert seen == []
    content.maps[0].matrix[0][0][0][0] *= 1.001
    kept.write_text(content.to_json())
    assert measured(demo, Table("", "", ROPE, (block,)), tmp_path)
    assert len(seen) == 2  # the maps' passes alone: without a quantizer no scales are read


def test_the_kept_searches_have_the_keys_of_today():
    """A new field of a spec that is not said to be younger would make every kept search another one."""
    kept = json.loads(next(iter(headline.KEPT.glob("technical-k-int4-scales-2048-*.json"))).read_text())
    assert kept["search"]["what"]["search"] == told(SearchSpec(length=2048))
