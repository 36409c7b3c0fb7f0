"""README.md and docs/: as long as agreed, links that lead somewhere, commands that exist, figures that were kept."""

from __future__ import annotations

import inspect
import json
import math
import re
import shlex
import subprocess
from pathlib import Path
from statistics import fmean, stdev

import pytest
import yaml
from scipy import stats
from typer.main import get_command

import qroar_core
from benchmarks.parts import PARTS, chosen
from docs.tables import TABLES, with_table
from qroar_core.cli.register_commands import app
from qroar_core.models.families import FAMILIES
from qroar_core.models.formats.gguf.architectures import ARCHITECTURES

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
COMMANDS = get_command(app).commands
KEPT = ROOT / "benchmarks" / "results" / "headline" / "passes.jsonl"
REMEDIES = ("reference", "quantized", "scales", "scales and angles", "Hadamard rotation")


def anchor(heading: str) -> str:
    """What GitHub makes of a heading: lower case, without marks, blanks as hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def headings(text: str) -> list[str]:
    """Of a document, what stands in code left out."""
    return re.findall(r"^#{1,6} (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)


def broken_links(path: Path, text: str) -> list[str]:
    """Relative links to no file, or to no heading of it."""
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists():
            wrong.append(f"{path.name}: {target}: no such file")
        elif fragment and fragment not in map(anchor, headings(text if file == path else file.read_text())):
            wrong.append(f"{path.name}: {target}: no such heading")
    return wrong


def commands_shown(text: str) -> list[list[str]]:
    """Arguments of every command of ours: lines of code, and code within a sentence."""
    shown = re.findall(r"^ {4}(?:python -m qroar_core|qroar) (.+)$", text, re.M)
    shown += re.findall(r"`(?:python -m qroar_core|qroar) ([a-z][^`]*)`", text)
    shown += [code for code in re.findall(r"`([a-z]+ [^`-][^`]*)`", text) if code.split()[0] in COMMANDS]
    found = [shlex.split(one, comments=True) for one in shown]
    return [one for one in found if "..." not in one and "--help" not in one and one[1:2] != ["in"]]


def parsed(arguments: list[str]) -> None:
    """Read as the command line reads it, nothing is run."""
    COMMANDS[arguments[0]].make_context(arguments[0], list(arguments[1:]))


def headline_rows(text: str) -> list[tuple]:
    """(quantizer, text, length, remedy, ppl, gain and interval, share and interval) of the headline's table."""
    rows, where = [], None
    for line in text.split("## Past the trained window")[1].split("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 5 or cells[1] not in REMEDIES:
            continue
        if cells[0]:
            quantizer, collection, length = re.match(r"(K int\d), `(\w+)`, ([\d,]+) tokens", cells[0]).groups()
            where = (quantizer, collection, int(length.replace(",", "")))
        rows.append((*where, *cells[1:]))
    return rows


def records() -> dict[tuple, list[dict]]:
    """(text, length, quantizer, remedy) -> the kept passes, window by window."""
    found: dict[tuple, dict[int, dict]] = {}
    for line in KEPT.read_text().splitlines():
        one = json.loads(line)
        found.setdefault((one["text"], one["length"], one["quantizer"], one["remedy"]), {})[one["window"]] = one
    return {key: [windows[i] for i in sorted(windows)] for key, windows in found.items()}


def student(values: list[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval."""
    mean, t = fmean(values), stats.t.ppf(0.975, len(values) - 1)
    half = t * stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def fieller(top: list[float], bottom: list[float]) -> tuple[float, float, float]:
    """mean(top) / mean(bottom) and every ratio r at which the mean of top - r bottom is not told from zero."""
    n, t = len(top), stats.t.ppf(0.975, len(top) - 1)
    x, y = fmean(top), fmean(bottom)
    xx, yy = stdev(top) ** 2 / n, stdev(bottom) ** 2 / n
    xy = sum((a - x) * (b - y) for a, b in zip(top, bottom, strict=True)) / (n - 1) / n
    a, b, c = y * y - t * t * yy, x * y - t * t * xy, x * x - t * t * xx
    root = math.sqrt(b * b - a * c)
    return x / y, (b - root) / a, (b + root) / a


def expected(kept: dict[tuple, list[dict]], quantizer: str, text: str, length: int, remedy: str) -> list[str]:
    """The cells of a row, from the kept passes alone."""

    def nll(which: str) -> list[float]:
        name = "none" if which == "reference" else quantizer
        rows = next(kept[key] for key in kept if key[:2] == (text, length) and key[3] == which and name in key[2])
        return [row["nll_past" if length > 8192 else "nll"] for row in rows]

    mine, before, reference = nll(remedy), nll("quantized"), nll("reference")
    count = min(map(len, (mine, before, reference)))
    mine, before, reference = mine[:count], before[:count], reference[:count]
    cells = [f"{math.exp(fmean(mine)):.3f}"]
    won = [a - b for a, b in zip(before, mine, strict=True)]
    cells.append("" if remedy == "quantized" else "{:+.4f} [{:+.4f}, {:+.4f}]".format(*student(won)))
    lost = [a - b for a, b in zip(before, reference, strict=True)]
    share = remedy not in ("reference", "quantized")
    cells.append("{:.1%} [{:.1%}, {:.1%}]".format(*fieller(won, lost)) if share else "")
    return cells


def test_the_readme_fits_a_few_screens():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 125] == []
    table = [line for line in lines if line.startswith("| ")]
    assert len(table) == 1 + 9  # its head, and three remedies on three texts


def test_every_link_leads_somewhere(tmp_path):
    assert [wrong for path in DOCUMENTS for wrong in broken_links(path, path.read_text())] == []
    (tmp_path / "a.md").write_text("# One\n")
    text = "## Here it is\n[x](a.md#one) [y](a.md#two) [z](b.md) [w](#here-it-is) [v](#there) [u](https://x.y/z)"
    (tmp_path / "c.md").write_text(text)
    wrong = broken_links(tmp_path / "c.md", text)
    assert wrong == [
        "c.md: a.md#two: no such heading",
        "c.md: b.md: no such file",
        "c.md: #there: no such heading",
    ]


def test_every_document_is_found_from_the_readme():
    linked = re.findall(r"\]\((docs/\w+\.md|[A-Z]+\.(?:md|cff))\)", (ROOT / "README.md").read_text())
    there = {path.relative_to(ROOT).as_posix() for path in DOCUMENTS} - {"README.md"} | {"CITATION.cff"}
    assert set(linked) == there


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_shown_is_one(path):
    for arguments in commands_shown(path.read_text()):
        parsed(arguments)


def test_a_command_that_is_none_is_found():
    assert len(commands_shown((ROOT / "docs" / "cli.md").read_text())) >= len(COMMANDS)
    shown = commands_shown("    python -m qroar_core search MODEL --factor 2  # why\n\nsee `diagnose demo --rope ntk`")
    assert shown == [["search", "MODEL", "--factor", "2"], ["diagnose", "demo", "--rope", "ntk"]]
    for wrong in (["search", "MODEL", "--no-such"], ["search", "MODEL", "--factor", "two"], ["search"]):
        with pytest.raises(Exception, match=r"(?i)no such option|valid number|missing parameter"):
            parsed(wrong)


def test_the_document_of_the_command_line_has_every_command_and_option():
    text = (ROOT / "docs" / "cli.md").read_text()
    said = {
        name: set(re.findall(r"`(--[\w-]+)`", line))
        for name, line in re.findall(r"^### `([\w-]+)`$.*?^Options: (.*?)$", text, re.S | re.M)
    }
    options = {
        name: {p.opts[0] for p in command.params if p.param_type_name == "option"} for name, command in COMMANDS.items()
    }
    assert said == options
    explained = set(re.findall(r"^\| `(--[\w-]+)`", text, re.M))
    assert explained == set().union(*options.values())


def test_every_part_of_the_benchmarks_that_is_named_is_one():
    named = {
        part
        for path in DOCUMENTS
        for parts in re.findall(r"python -m benchmarks((?: [a-z][\w.]*)+)", path.read_text())
        for part in parts.split()
    }
    assert len(named) > 20
    for part in named:
        assert chosen([part], PARTS)


def test_the_document_of_the_library_has_every_public_name_and_its_parameters():
    text = (ROOT / "docs" / "api.md").read_text()
    assert sorted(headings(text)[1:]) == sorted(qroar_core.__all__)
    for name, said in re.findall(r"^`(\w+)\(([^`]*)\)[^`]*`$", text, re.M):
        given = inspect.signature(getattr(qroar_core, name)).parameters
        assert re.findall(r"(?:^|, )(\w+)(?==|,|$)", said) == list(given)
    functions = [name for name in qroar_core.__all__ if inspect.isfunction(getattr(qroar_core, name))]
    assert all(re.search(rf"^`{name}\(", text, re.M) for name in functions)


def test_the_examples_of_the_library_compile():
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.S):
        compile(code, "docs/api.md", "exec")


def test_every_figure_of_the_headline_follows_from_the_kept_passes():
    """Oracle: perplexities, Student's and Fieller's intervals from the NLL of each window."""
    rows, kept = headline_rows((ROOT / "docs" / "benchmarks.md").read_text()), records()
    assert len(rows) == 8 * 5
    for quantizer, text, length, remedy, *cells in rows:
        assert (text, length, remedy, cells) == (text, length, remedy, expected(kept, quantizer, text, length, remedy))


def test_the_readme_repeats_the_headline():
    whole = {(text, remedy): cells for _, text, _, remedy, *cells in _long_int4()}
    collection = ""
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| ")][1:]
    for line in lines:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0]:
            collection, windows, plain, quantized = re.match(
                r"`(\w+)`, (\d) windows; ([\d.]+) → ([\d.]+)$", cells[0]
            ).groups()
            assert whole[collection, "reference"][0] == plain
            assert whole[collection, "quantized"][0] == quantized
            assert len(records()[collection, 16384, "none", "reference"]) == int(windows)
        assert cells[2:] == whole[collection, cells[1]]


def _long_int4() -> list[tuple]:
    rows = headline_rows((ROOT / "docs" / "benchmarks.md").read_text())
    return [row for row in rows if row[0] == "K int4" and row[2] == 16384]


def test_the_glossary_is_in_order_and_each_term_is_explained():
    text = (ROOT / "docs" / "glossary.md").read_text()
    terms = headings(text)[1:]
    assert terms == sorted(terms, key=str.lower)
    assert len(terms) == len(set(terms))
    for body in re.findall(r"^## .+?\n\n(.*?)(?=^## |\Z)", text, re.S | re.M):
        assert len(body.split()) >= 3
    for term in ("Band", "Pair", "Gap recovered", "Short-context guard", "Identity", "KIVI", "McNemar", "Nats"):
        assert term in terms
    for seen in re.findall(r"See (?:also )?\*(.+?)\*", text):
        assert seen.lower() in {term.lower() for term in terms}


@pytest.mark.parametrize(("name", "table"), TABLES)
def test_tables_made_from_registries_are_those_of_today(name, table):
    """`python -m docs.tables` writes them again."""
    text = (ROOT / "docs" / name).read_text()
    _, _, *rows = table().splitlines()
    assert len(rows) > 1
    assert all(row.split(" | ")[1].strip(" |") for row in rows)  # what it is
    assert table() in text
    assert with_table(text, table()) == text
    with pytest.raises(ValueError, match="0 tables begin with"):
        with_table("# none", table())


def test_numbers_of_families_and_architectures_are_those_of_the_registries():
    for name in ("README.md", "docs/families.md"):
        counted = re.findall(r"\b(\d+)(?: RoPE families| of \d+ families pass)", (ROOT / name).read_text())
        assert set(counted) == {str(len(FAMILIES))}
    (counted,) = re.findall(r"\b(\d+) architectures of llama.cpp", (ROOT / "docs" / "families.md").read_text())
    assert int(counted) == len(ARCHITECTURES)


def test_code_cites_sections_that_are_there():
    text = (ROOT / "docs" / "method.md").read_text()
    sections = {heading.split()[0].rstrip(".") for heading in headings(text) if heading[0].isdigit()}
    files = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    sources = [(ROOT / name).read_text() for name in files.split() if (ROOT / name).exists()]
    cited = {n for source in sources for n in re.findall(r"docs/method\.md section (\d+(?:\.\d+)?)", source)}
    assert {"2", "3", "4", "6", "7"} <= cited
    assert cited <= sections
    assert not [source for source in sources if re.search("DESIGN" + r"(?:\.md)? section", source)]


def test_the_citation_names_software_and_papers():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == qroar_core.__version__
    assert [one["url"].rsplit("/", 1)[1] for one in cited["references"]] == ["2509.14391", "2510.00028"]
    assert all(person["family-names"] for one in cited["references"] for person in one["authors"])
