"""How long a new server takes until its first heading is seen, and until the demo model is diagnosed.

In turns with an app of one line, `st.title("Start")`, on the same machine in the same run: seconds from the start of
the process to the heading in Chromium, and from opening the page to the first figure of a diagnosis. Beside them the
command line from its start to its end, and what no start can be shorter than: importing PyTorch and the Llama of
transformers. Ratios to that import hold on a slower machine too, and those of processor seconds also on one that
computes something else.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
BARE, DIAGNOSED = "import torch and transformers", "opened, demo diagnosed"
COMMANDS = {
    BARE: ("-c", "import torch; from transformers import LlamaForCausalLM"),
    "qroar --help": ("-m", "qroar_core", "--help"),
    "qroar run demo": ("-m", "qroar_core", "run", "demo", "--out"),
}
ONE_LINE = 'import streamlit as st\n\nst.title("Start")\n'


def main() -> None:
    """Print the seconds of every round, their medians and the ratios."""
    from playwright.sync_api import sync_playwright

    from tests.pages.browser import walk
    from tests.pages.browser.conftest import ROOT, Dashboard

    chromium = walk.chromium_path()
    if chromium is None:
        sys.exit("benchmarks firstpaint: no Chromium here; apt-get install chromium")
    seconds: dict[str, list[float]] = {"one line": [], "dashboard": [], DIAGNOSED: []}
    computed: dict[str, list[float]] = {DIAGNOSED: [], BARE: []}  # processor seconds, of the server alone
    with sync_playwright() as driver:
        for _ in range(ROUNDS):
            for name in ("one line", "dashboard"):
                with tempfile.TemporaryDirectory() as home:
                    script = Path(home) / "one_line.py"
                    script.write_text(ONE_LINE)
                    browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                    tab = browser.new_page()
                    began = time.monotonic()
                    up = Dashboard(Path(home), script=script if name == "one line" else ROOT / "app.py")
                    try:
                        opened = time.monotonic()
                        tab.goto(up.address)
                        tab.get_by_role("heading", level=1).first.wait_for(timeout=walk.LONG)
                        seconds[name].append(time.monotonic() - began)
                        if name == "dashboard":
                            walk.load_demo(tab)
                            walk.go(tab, "Noise")
                            walk.press(tab, "Diagnose")
                            walk.chart(tab, "noise-by-position").wait_for(timeout=walk.LONG)
                            seconds[DIAGNOSED].append(time.monotonic() - opened)
                            computed[DIAGNOSED].append(up.cpu_seconds())
                    finally:
                        browser.close()
                        up.stop()
            for name, words in COMMANDS.items():
                took, processor = _run(words)
                seconds.setdefault(name, []).append(took)
                computed.setdefault(name, []).append(processor)
    print("| seconds | median | rounds | processor, median |\n|---|---|---|---|")
    for name, took in seconds.items():
        processor = f"{statistics.median(computed[name]):.1f}" if name in computed else ""
        print(f"| {name} | {statistics.median(took):.1f} | {', '.join(f'{s:.1f}' for s in took)} | {processor} |")
    ratio = _median_ratio(seconds["dashboard"], seconds["one line"])
    sys.stdout.write(f"\nThe first heading takes {ratio:.2f} times what the app of one line takes.\n")
    for name in (DIAGNOSED, "qroar run demo", "qroar --help"):
        wall, processor = _median_ratio(seconds[name], seconds[BARE]), _median_ratio(computed[name], computed[BARE])
        sys.stdout.write(f"{name}: {wall:.2f} times the bare import, in processor seconds {processor:.2f}.\n")


def _median_ratio(these: list[float], those: list[float]) -> float:
    return statistics.median(these) / statistics.median(those)


def _run(words: tuple[str, ...]) -> tuple[float, float]:
    """Seconds of one command, and those in which a processor worked on it."""
    with tempfile.TemporaryDirectory() as home:
        out = [str(Path(home) / "run")] if words[-1] == "--out" else []
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run([sys.executable, *words, *out], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
