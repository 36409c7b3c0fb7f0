"""Faults planted one by one in a copy of the repository, and the test that catches each: of the quick set, or `slow`.

    python -m tests.planted_faults           all of them
    python -m tests.planted_faults 3 7       the third and the seventh

Prints one row a fault: what was changed, in which folder, and the first test that failed, or MISSED. Only the tests
named beside a fault are run, so that the table tells which part of the quick set answers for it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = "qroar_core"
QUICK = "not slow and not smollm2 and not browser"
COPIED = (
    *("qroar_core", "pages", "tests", "benchmarks", "assets", "docs", ".streamlit"),
    *("app.py", "pyproject.toml", "README.md"),
)


@dataclass(frozen=True)
class Fault:
    """`old`, which stands in `file` exactly once, becomes `new`; `tests` are files, with `-k` words behind a space."""

    what: str
    file: str
    old: str
    new: str
    tests: str
    slow: bool = False  # those tests are no part of the quick set

    @property
    def folder(self) -> str:
        """The folder of the core that the fault is in."""
        return self.file.split("/")[0]

    def planted(self, source: str) -> str:
        """`source` with the fault.

        Raises:
            ValueError: the text to replace is not there exactly once.
        """
        if source.count(self.old) != 1:
            raise ValueError(f"{self.file}: {self.old!r} is there {source.count(self.old)} times, not once")
        return source.replace(self.old, self.new)


FAULTS = (
    Fault(
        "the front of a trade-off keeps points that lose more than a cheaper one",
        "tradeoffs/front.py",
        "if best is None or least < best:",
        "if best is None or least > best:",
        "tradeoffs/test_front.py",
    ),
    Fault(
        "only the last exclusion of a sweep counts",
        "sweeps/sweep_file.py",
        "gone |= mine",
        "gone = mine",
        "sweeps/test_sweep_file.py",
    ),
    Fault(
        "bounds of a band may leave 1 out",
        "specs/stages.py",
        "if not -WIDEST <= low <= 0 <= high <= WIDEST:",
        "if not -WIDEST <= low <= high <= WIDEST:",
        "specs/test_specs.py",
    ),
    Fault(
        "the slope of YaRN's frequencies has the wrong sign",
        "interpolations/methods/yarn.py",
        "return -(1 - alone) * at.native.double()",
        "return (1 - alone) * at.native.double()",
        "interpolations/test_pressure.py",
    ),
    Fault(
        "the mean distance to W keys is W / 2, not (W - 1) / 2",
        "interpolations/pressure.py",
        "return (w - 1) / 2",
        "return w / 2",
        "interpolations/test_pressure.py",
    ),
    Fault(
        "q4_0 has as many levels above zero as below",
        "quantizers/grids/ggml_signed.py",
        "step = extreme / -half",
        "step = extreme / -(half - 1)",
        "quantizers/test_fake_quantize.py",
    ),
    Fault(
        "a symmetric grid divides by 2^(bits - 1), not by one less",
        "quantizers/grids/absmax.py",
        "    qmax = 2 ** (bits - 1) - 1\n    step = store(absmax_of(x, dim, absmax) / qmax)",
        "    qmax = 2 ** (bits - 1)\n    step = store(absmax_of(x, dim, absmax) / qmax)",
        "quantizers/test_fake_quantize.py",
    ),
    Fault(
        "the MAD is taken for a standard deviation",
        "transforms/baselines.py",
        "MAD_TO_SIGMA = 1.4826",
        "MAD_TO_SIGMA = 1.0",
        "transforms/test_baselines.py",
    ),
    Fault(
        "tails widen the wrong side of a band's bounds",
        "transforms/bounds.py",
        'if mode == "symmetric" else',
        'if mode == "shared" else',
        "transforms/test_baselines.py",
    ),
    Fault(
        "a file is written half",
        "transforms/file.py",
        "file.write(text)",
        "file.write(text[: len(text) // 2])",
        "transforms/test_scales_file.py",
    ),
    Fault(
        "a Student interval has one degree of freedom too many",
        "statistics/intervals.py",
        "float(stdtrit(n - 1, 0.5 + confidence / 2)) * se\n",
        "float(stdtrit(n, 0.5 + confidence / 2)) * se\n",
        "statistics",
    ),
    Fault(
        "a share of trials has an interval with a continuity correction",
        "statistics/proportions.py",
        'method="wilson")',
        'method="wilsoncc")',
        "statistics",
    ),
    Fault(
        "RoPE turns pairs backwards",
        "maths/rope.py",
        "a * cos - b * sin, b * cos + a * sin",
        "a * cos + b * sin, b * cos - a * sin",
        "interpolations/test_rope.py",
    ),
    Fault(
        "a cap on the logits is ignored",
        "maths/softmax_rule.py",
        "return logits if self.softcap is None else self.softcap * (logits / self.softcap).tanh()",
        "return logits",
        "maths/test_softmax_rule.py",
    ),
    Fault(
        "a sliding window shows one key more",
        "maths/softmax_rule.py",
        "(distance < self.window)",
        "(distance <= self.window)",
        "maths/test_softmax_rule.py",
    ),
    Fault(
        "tail inflation is short over long",
        "diagnostics/tail_inflation/measure.py",
        "torch.where(long == short, 1.0, long / short)",
        "torch.where(long == short, 1.0, short / long)",
        "diagnostics/test_tail_inflation.py",
    ),
    Fault(
        "a position is counted one token late",
        "diagnostics/dilation/measure.py",
        "(position * self.bins.count // self.bins.length)",
        "((position + 1) * self.bins.count // self.bins.length)",
        "diagnostics/test_dilation.py",
    ),
    Fault(
        "the price of scales is summed over bands, not averaged",
        "scale_search/l2_penalty.py",
        "l2_penalty / half_width.square() / half_width.shape[-1]",
        "l2_penalty / half_width.square()",
        "scale_search/test_search_l2_penalty.py",
    ),
    Fault(
        "the guard lets any cost at short context pass",
        "scale_search/guard.py",
        "if cost <= tau:",
        "if cost <= math.inf:",
        "scale_search/test_search_held_out.py",
    ),
    Fault(
        "a standard error over windows divides by n",
        "evaluation/kl_report.py",
        "float(each.std() / math.sqrt(len(each)))",
        "float(each.std(correction=0) / math.sqrt(len(each)))",
        "evaluation/test_kl_report.py",
    ),
    Fault(
        "the gap is measured from the tuned model",
        "evaluation/gap.py",
        "lost = [a - b for a, b in zip(before, reference, strict=True)]",
        "lost = [a - b for a, b in zip(after, reference, strict=True)]",
        "evaluation/test_gap.py",
    ),
    Fault(
        "an answer that only begins like the right one is a hit",
        "retrieval/answers.py",
        "if number[0] == answer:",
        "if number[0].startswith(answer[:1]):",
        "retrieval/test_prompts.py",
    ),
    Fault(
        "an interval of no width is significant",
        "harness/findings.py",
        "one.p_value >= 1 - confidence",
        "one.p_value > 1",
        "harness/test_findings.py",
    ),
    Fault(
        "SmoothQuant weighs weights by alpha, not by 1 - alpha",
        "remedies/methods/smoothquant/prepare.py",
        "reach.pow(1 - alpha)",
        "reach.pow(alpha)",
        "remedies/test_awq_smoothquant.py",
    ),
    Fault(
        "GPTQ adds a column's error to the later ones instead of taking it off",
        "remedies/methods/gptq/prepare.py",
        "part[:, j + 1 :] -= errors",
        "part[:, j + 1 :] += errors",
        "remedies/test_gptq.py",
    ),
    Fault(
        "a gap whose interval includes zero is shared out all the same",
        "remedies/findings.py",
        "gain.mean / gap.mean if gap.above_zero else None",
        "gain.mean / gap.mean if gap.high > 0 else None",
        "remedies/test_findings.py",
    ),
    Fault(
        "a control's gain has the wrong sign",
        "evidence/controls/findings.py",
        "_average(here) - _average(draw)",
        "_average(draw) - _average(here)",
        "evidence/test_control_findings.py",
    ),
    Fault(
        "a diagnostic's mean over layers is their sum",
        "evidence/prediction/findings.py",
        "math.fsum(known) / len(known) if known",
        "math.fsum(known) if known",
        "evidence/test_prediction_findings.py",
    ),
    Fault(
        "rows of a GGUF file get their scales in the order of the heads' halves",
        "exporters/gguf_copy.py",
        "gain[layer].numpy()[:, order].reshape(-1)",
        "gain[layer].numpy().reshape(-1)",
        "exporters/test_gguf_copy.py",
    ),
    Fault(
        "LongRoPE's native window is not where transformers 4 looks for it",
        "exporters/older_readers.py",
        "        said[WINDOW] = block.get(WINDOW)\n",
        "        pass\n",
        "exporters/test_older_readers.py -k longrope",
    ),
    Fault(
        "verify forgets the scales when it compares the weights of a folder",
        "exporters/verify_weights.py",
        "written_parameters(source, scales, factor)",
        "written_parameters(source, None, factor)",
        "exporters/test_planted_exports.py -k hf-linear",
        slow=True,
    ),
    Fault(
        "verify takes any interpolation of a quantized GGUF",
        "exporters/verify_rope.py",
        "apart <= BOUND and scale <= BOUND",
        "apart < 1e9 and scale < 1e9",
        "exporters/test_planted_exports.py -k Q8_0",
        slow=True,
    ),
    Fault(
        "the library evaluates on the text that decides about scales",
        "library/evaluation_calls.py",
        '        setup.texts()["heldout"],\n',
        '        setup.texts()["development"],\n',
        "library/test_calls.py",
    ),
    Fault(
        "the library diagnoses on held-out text",
        "library/calls.py",
        '        setup.texts()["calibration"],\n',
        '        setup.texts()["heldout"],\n',
        "library/test_calls.py",
    ),
    Fault(
        "a group size is refused where it belongs and taken elsewhere",
        "library/calls.py",
        "format in FORMATS and not FORMATS[format].takes_group_size:",
        "format in FORMATS and FORMATS[format].takes_group_size:",
        "library/test_calls.py",
    ),
    Fault(
        "the library's export leaves out the interpolation",
        "library/calls.py",
        "    rope, length = setting.rope, setting.search.length or 0\n",
        "    rope, length = type(setting.rope)(), setting.search.length or 0\n",
        "library/test_readme.py",
        slow=True,
    ),
    Fault(
        "what a choice of interpolation is worth has the other sign",
        "rope_search/findings.py",
        "paired_interval(long[there, quantized], long[here, quantized], confidence)",
        "paired_interval(long[here, quantized], long[there, quantized], confidence)",
        "rope_search/test_findings.py",
    ),
    Fault(
        "the library keeps the comparison's scales, not the search's",
        "library/calls.py",
        "transform=written(outcome.kept),",
        "transform=written(outcome.mad),",
        "library/test_readme.py",
        slow=True,
    ),
    Fault(
        "interpolations are a list, not the files of their folder",
        "interpolations/spec.py",
        'names_in(Path(__file__).parent / "methods")',
        '("default", "dynamic", "linear", "llama3", "longrope", "ntk", "yarn")',
        "test_extending.py -k interpolation",
        slow=True,
    ),
    Fault(
        "runtimes are a list, not the files of their folder",
        "quantizers/presets/__init__.py",
        "names_in(Path(__file__).parent)",
        '("compressed_tensors", "kivi", "llama_cpp", "mlx", "quanto", "vllm")',
        "test_extending.py -k preset",
        slow=True,
    ),
    Fault(
        "grids are a list, not the files of their folder",
        "quantizers/grids/__init__.py",
        "names_in(Path(__file__).parent)",
        '("absmax", "affine", "e4m3", "e5m2", "ggml_absmax", "ggml_signed", "mlx_affine")',
        "test_extending.py -k grid",
        slow=True,
    ),
    Fault(
        "the checkpoint's own RoPE is offered as one that stretches",
        "interpolations/registry.py",
        'if name != "default"',
        'if name != "yarn"',
        "interpolations/test_registry.py",
    ),
    Fault(
        "two interpolations claim one place in menus",
        "interpolations/methods/yarn.py",
        '    "YaRN",\n    40,',
        '    "YaRN",\n    30,',
        "interpolations/test_registry.py",
    ),
    Fault(
        "a lesson shows YaRN without its attention factor",
        "lessons/interpolations.py",
        "left, rope.attention_factor)",
        "left, 1.0)",
        "lessons/test_lesson_bends.py",
    ),
    Fault(
        "a lesson shows q without the inverse of K's transform",
        "lessons/commuting.py",
        "alone[0] @ torch.linalg.inv(matrix[0])",
        "alone[0] @ matrix[0]",
        "lessons/test_lesson_commuting.py",
    ),
    Fault(
        "a lesson mixes tied pairs without making their channels even",
        "lessons/tied_clocks.py",
        "found = turn @ found",
        "found = found",
        "lessons/test_lesson_tied_clocks.py",
    ),
    Fault(
        "an axis keeps the tick furthest below its values, not the nearest",
        "figures/ticks.py",
        "[t for t in ticks if t < low][-1:]",
        "[t for t in ticks if t < low][:1]",
        "figures/test_ticks.py",
    ),
    Fault(
        "a run of another setting's report is read as none",
        "runs/record.py",
        'self._read("search.json", SearchReport)',
        'self._read("report.json", SearchReport)',
        "runs/test_store.py",
    ),
    Fault(
        "a length of one token passes the command line",
        "cli/parse.py",
        "if lengths[0] < 2:",
        "if lengths[0] < 1:",
        "cli/test_parse.py",
    ),
    Fault(
        "a shortened window loses a token for each of its opening",
        "models/bos.py",
        "length + opening :]",
        "length + 2 * opening :]",
        "models/test_bos.py",
    ),
    Fault(
        "Gemma 2's cap on the vocabulary's logits is ignored",
        "models/families/gemma2.py",
        "return out if cap is None else cap * (out / cap).tanh()",
        "return out",
        "models/families/test_families.py -k gemma2",
    ),
)


def caught_by(fault: Fault) -> str:
    """The first test that fails where the fault is planted, "" where none does."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        file = copy / CORE / fault.file
        file.write_text(fault.planted(file.read_text()))
        words, _, only = fault.tests.partition(" -k ")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-m", "slow" if fault.slow else QUICK]
        command += ["-k", only] if only else []
        ran = subprocess.run(
            [*command, *(f"tests/{word}" for word in words.split())],
            cwd=copy,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(copy), "HF_HUB_OFFLINE": "1"},
        )
    if ran.returncode not in (0, 1):  # 1: tests failed; anything else means that they did not run
        said = ran.stdout[-2000:] + ran.stderr[-2000:]
        raise RuntimeError(f"{fault.what}: pytest ended with {ran.returncode}\n{said}")
    failed = re.search(r"^(?:FAILED|ERROR) tests/(.*?)(?: - .*)?$", ran.stdout, re.M)
    return failed[1] if failed else ""


def say(line: str) -> None:
    """A line of the table, as soon as it is known."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(numbers: list[int]) -> int:
    """Print the table; returns how many faults were missed."""
    missed = 0
    say("| # | fault | folder | caught by |\n|---|---|---|---|")
    for number in numbers or range(1, len(FAULTS) + 1):
        fault = FAULTS[number - 1]
        test = caught_by(fault)
        missed += not test
        say(f"| {number} | {fault.what} | {fault.folder} | {test or 'MISSED'} |")
    return missed


if __name__ == "__main__":
    sys.exit(min(main([int(word) for word in sys.argv[1:]]), 1))
