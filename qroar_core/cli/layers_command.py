"""`protect-layers`: which layers' cache to keep from quantization under a memory budget."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qroar_core.cli import tables
from qroar_core.cli.layer_options import LAYERS, layer_choice_spec
from qroar_core.cli.options import MODEL, OUT, SETTING, WINDOWS
from qroar_core.cli.root import app, load_model, new_folder, written
from qroar_core.cli.settings import setting_of
from qroar_core.cli.takes import takes
from qroar_core.cli.texts import documents

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.remedies.result_layers import LayerChoice

RESULT = "layers.json"


@app.command("protect-layers")
@takes(MODEL, SETTING, LAYERS, WINDOWS, OUT, intervals=True)
def protect_layers(options: dict) -> None:
    """Choose the layers whose K/V cache is kept from quantization under a memory budget, and judge the choice."""
    from qroar_core.remedies import layers as stage

    folder, texts, spec = new_folder(options), documents(options), layer_choice_spec(options)
    loaded = load_model(options)
    setting = setting_of(options, loaded)
    spec = replace(spec, heldout_windows=setting.evaluation.windows, fewer=setting.evaluation.fewer)
    with tables.progress() as on_step:
        result = stage.run(loaded, setting, spec, texts, on_step)
    show(written(folder, RESULT, result), options["json"])


def show(choice: LayerChoice, as_json: bool) -> None:
    """The layers by worth, the curve, the rules on held-out text and how runtimes are told."""
    if as_json:
        tables._print(choice.model_dump(mode="json"))
        return
    worth = {one.layer: one.gain for one in choice.layers}
    rows = [
        [
            "" if not count else str(choice.order[count - 1]),
            "" if not count else f"{worth[choice.order[count - 1]]:+.5f}",
            f"{point.bytes:,.0f}",
            f"{point.kl:.5f}",
            f"{point.lost:+.5f}",
        ]
        for count, point in enumerate(choice.curve)
    ]
    header = ["kept as well", "worth, nats", "bytes a token", "KL, nats", "NLL lost, nats"]
    tables._table(f"One layer more a line; {choice.text}", header, rows)
    judged = [
        [
            row.name,
            ", ".join(map(str, row.layers)),
            f"{row.bytes:,.0f}",
            f"{row.nll:.4f}",
            "" if row.lost is None else tables._with(row.lost, row.lost_low, row.lost_high),
            "" if row.gain is None else tables._with(row.gain, row.gain_low, row.gain_high),
        ]
        for row in choice.rules
    ]
    header = ["rule", "layers", "bytes a token", "NLL", "lost, nats", "gain, nats"]
    tables._table("On held-out text, intervals paired over windows", header, judged)
    for sentence in (choice.words, *choice.sentences, *choice.flags):
        tables.line(sentence)
