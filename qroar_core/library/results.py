"""What the library's stages return: results that plot, print, save and load themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import pandas as pd

from qroar_core.diagnostics import result as diagnosed
from qroar_core.diagnostics.band_table import BandRow, band_table
from qroar_core.diagnostics.bands import figure as bands
from qroar_core.evaluation import figure as evaluated
from qroar_core.evaluation import figure_kl
from qroar_core.evaluation import result as measured
from qroar_core.evaluation.gap import tuned_share
from qroar_core.evidence.prediction.result import Prediction
from qroar_core.figures import gallery
from qroar_core.figures.picture import Picture
from qroar_core.library.band_lines import band_lines, wrapped
from qroar_core.library.shown import Figures, Shown, there
from qroar_core.number_of import number_of
from qroar_core.remedies import figure as compared
from qroar_core.remedies import figure_layers, result_layers
from qroar_core.remedies import result as remedies
from qroar_core.retrieval import figure as retrieved
from qroar_core.retrieval import result as answers
from qroar_core.rope_search import figure as tuned_rope
from qroar_core.rope_search import result as rope_search
from qroar_core.scale_search import figure_ties, result_ties
from qroar_core.specs.labels import CONDITION_WORDS


class Diagnosis(diagnosed.Diagnosis, Shown):
    """What the interpolation and the quantizers do to each band; see `qroar_core.diagnostics`.

    Attributes:
        bands: one entry a frequency band: its RoPE pairs, wavelengths (tokens), pressure (rad, and nats on the logit,
            for e-fold of the stretch s), phase displacement (rad), side peak of its kernel.
        tail_inflation: ["pre" | "post"]["q" | "k"] is [layer][band], a ratio, 1 where nothing is inflated; largest over
            KV heads.
        logit_noise: RMS error of the attention logits under the quantizers, nats; None: nothing of it is quantized.
        pair_error: of K's RoPE pairs as complex numbers, [band][bin of positions]: `amplitude` (a ratio) and `phase`
            (rad); None: K is not quantized.
        outliers: channels of q and K far above the others, and the largest |x|, [layer][head][channel][bin].
        dilation: K's range after RoPE by position, [layer][band][bin]: `absmax`, `rms`, `bits_lost` (bits).
        hidden: hidden states beside those of the unquantized model, [layer][bin]: `cosine` (-1 to 1), `sqnr_db` (dB);
            None: not measured.
        verdict: whether scales can act under these quantizers, with the reason.
        length: tokens of a window; `windows` of them were read.
    """

    FILE: ClassVar = "a diagnosis"

    def _figures(self) -> Figures:
        return {name: partial(there, draw, self) for name, draw in gallery.DIAGNOSIS.items()}

    def _headline(self) -> str:
        return f"{number_of(len(self.bands), 'band')}, {self.text}\n{self.verdict.reason}"

    def band_table(self, prediction: Prediction | None = None) -> list[BandRow]:
        """One row a band with what every diagnostic says of it; `prediction` adds what each costs alone in NLL."""
        return band_table(self, prediction)

    def summary(self) -> str:
        """The headline and one short line a band, 88 columns wide at most; `table` has everything."""
        frame = self.table()
        more = f"table() has all {frame.shape[1]} columns, plot(name) draws {', '.join(self.figures())}."
        return f"{wrapped(self._headline())}\n\n{band_lines(self.band_table())}\n\n{wrapped(more)}"

    def table(self) -> pd.DataFrame:
        """One row a band: wavelength, pressure, tail ratios, outliers, error, logit noise, cost."""
        return bands.table(self).rename(columns=bands.titles())


class Evaluation(measured.Evaluation, Shown):
    """Perplexity and KL to the reference on held-out text, by length and condition.

    Attributes:
        rows: one a length and condition: `nll` and its standard error (nats a token), `ppl`, `kl_mean` to the reference
            (nats a token), `same_top1` (a share).
        gain: NLL of the quantized model less that with the transform, nats a token, at the longest length: `delta_nll`,
            `ci_low`, `ci_high`, `significant`; None: no transform was measured.
        gain_by_document: the same with documents as the unit; None: fewer than three.
        gap_recovered: share of what quantization costs that the transform takes back; None: that cost may be 0.
        attribution: how much of the gain repairs quantization and how much retunes the model, nats a token.
        window_nll: "length/model/scales" -> mean NLL of each window, nats a token.
        sentence: the finding; `finding` adds what speaks against it.
    """

    FILE: ClassVar = "an evaluation"

    def _figures(self) -> Figures:
        draws: dict[str, Callable[..., Picture | None]] = {
            "perplexity": evaluated.perplexity_by_length,
            "cost": evaluated.cost_by_length,
            "gain": evaluated.gain_and_attribution,
            "rotation": figure_kl.rotation,
            "divergence": figure_kl.divergence,
            "by_position": evaluated.by_position,
        }
        return {name: partial(there, draw, self) for name, draw in draws.items()}

    def _headline(self) -> str:
        share = tuned_share(self)
        recovered = [] if share is None else [f"NLL gap recovered: {share.words}"]
        return "\n".join([self.finding, *recovered, self.text])

    def table(self) -> pd.DataFrame:
        """One row a length and condition: perplexity, NLL, KL to the reference, same top 1."""
        return figure_kl.readable(figure_kl.table(self))


class Retrieval(answers.Retrieval, Shown):
    """Numbers hidden in held-out text, by task, length and depth.

    Attributes:
        cells: one a task, length, depth and condition: trials, `hits` among them, `log_prob` (nats a token of the
            answer).
        differences: the same trials under two conditions, paired, with intervals.
        findings: one sentence a task and question.
        lengths: tokens, prompt and answer together. `depths`: 0 at the start of the text, 1 at its end.
        choices: candidates a rank is taken among.
    """

    FILE: ClassVar = "a retrieval test"

    def _figures(self) -> Figures:
        return {"retrieval": partial(there, retrieved.gallery, self)}

    def _headline(self) -> str:
        return "\n".join([*(finding.sentence for finding in self.findings), self.text])

    def __repr__(self) -> str:
        hits = [
            f"{cell.task}, {CONDITION_WORDS[f'{cell.model}/{cell.scales}']}: {cell.hits} of {cell.trials}"
            for cell in self.cells
            if cell.length is None and cell.depth is None
        ]
        return f"Retrieval: {'; '.join(hits)}\n{self.text}"

    def table(self) -> pd.DataFrame:
        """One row a task, length, depth and condition."""
        return pd.DataFrame([cell.model_dump() for cell in self.cells])


class Comparison(remedies.Comparison, Shown):
    """What people use already, beside band scales and with band scales on top.

    Attributes:
        rows: one a remedy, alone, and with band scales, with angles, or with a rotation on top: `nll` (nats a token),
            `ppl`, `gain` over the plain quantizer with `gain_low` and `gain_high` (nats a token), `gap_recovered` (a
            share), `added`: what band scales add to the remedy (nats a token), `tie_cost`: what its tied pairs cost
            the unquantized model (nats a token).
        gap: what quantization costs without a remedy, nats a token, from `gap_low` to `gap_high`.
        layers: how layers were chosen where `protected_layers` is among the remedies, see `LayerChoice`.
        reference_nll: of the unquantized model, nats a token.
        sentences: the findings. `length`: tokens of a window.
    """

    FILE: ClassVar = "a comparison of remedies"

    def _figures(self) -> Figures:
        return {
            "gains": partial(there, compared.gains, self),
            "on_top": partial(there, compared.on_top, self),
            "loss_by_memory": partial(there, lambda found: found.layers and figure_layers.curve(found.layers), self),
            "layers": partial(there, lambda found: found.layers and figure_layers.worth(found.layers), self),
        }

    def _headline(self) -> str:
        return "\n".join([*self.sentences, self.text])

    def table(self) -> pd.DataFrame:
        """One row a remedy: perplexity, gap recovered, gain, what band scales add, what it costs at run time."""
        return compared.table(self)


class LayerChoice(result_layers.LayerChoice, Shown):
    """Which layers' K/V cache to keep from quantization under a memory budget; `kept` is what `keep_layers` takes.

    Attributes:
        layers: one entry a layer: `gain` (nats a token of KL to the model whose whole cache is kept) and what keeping
            it takes more, `bytes` a token.
        curve: one point a layer more, the largest gain per byte first: `layers` kept, `bytes` a token of the whole
            cache, `kl` and `lost` NLL (nats a token) on development text.
        kept: the layers that the budget takes; `bytes` a token of the cache with them, at most `budget`.
        first_last: the first and last layers under the same budget.
        rules: no layer, the chosen ones, the first and last, every layer on held-out text: `nll`, `lost` and `gain`
            with their intervals, nats a token.
        sentences: the findings. `flags`: how runtimes are told. `length`: tokens of a window.
    """

    FILE: ClassVar = "a choice of layers"

    def _figures(self) -> Figures:
        return {
            "loss_by_memory": partial(there, figure_layers.curve, self),
            "layers": partial(there, figure_layers.worth, self),
        }

    def _headline(self) -> str:
        return "\n".join([self.words, *self.sentences, *self.flags, self.text])

    def table(self) -> pd.DataFrame:
        """One row a point of the curve and a rule on held-out text: layers, bytes a token, loss."""
        return figure_layers.curve_table(self)


class TieChoice(result_ties.TieChoice, Shown):
    """Which RoPE pairs to tie for a quantizer, and why; `tie` is what `qroar.Rope(..., tie=...)` takes.

    Attributes:
        groups: one entry a group: its pairs, `turn` (a ratio), `wavelength` (tokens), `absmax_share` (of tokens and KV
            heads, those whose largest channel of K it holds), `cost` and `left_without` (shares, as below).
        left_untied: what scales leave without a tie of the squared error that rounding makes in the attention output.
        tried: every choice that was compared: what it costs in full precision and leaves under the quantizer, as shares
            of what rounding makes.
        costs: NLL under the tie minus NLL without it, nothing quantized, nats a token, at a short, the native and the
            full length (tokens), with the ends of a 95 % interval.
        dropped: groups that cost more than is allowed.
    """

    FILE: ClassVar = "a choice of tied pairs"

    def _figures(self) -> Figures:
        return {
            "tied_groups": partial(there, figure_ties.groups, self),
            "tried_ties": partial(there, figure_ties.tried, self),
        }

    def _headline(self) -> str:
        return f"{self.sentence}\n{self.text}"

    def table(self) -> pd.DataFrame:
        """One row a length: what the chosen tie costs, nats."""
        return figure_ties.costs(self)


class RopeSearch(rope_search.RopeSearch, Shown):
    """The interpolation chosen in full precision and under the quantizer; `rope` is what is worth keeping.

    Attributes:
        chosen: the setting's own interpolation and both choices: `spec`, `inv_freq` (rad/token), `attention_factor`.
        judged: one entry a choice and condition: `nll` (nats a token) and `gain` over the setting's own (nats a token,
            with the ends of its interval), and `short_nll` and `short_cost` at short context (nats a token).
        worth: what choosing under the quantizer gains there over choosing in full precision, nats a token, from `low`
            to `high`; `worth_by_document` with documents as its unit.
        studies: every interpolation that was tried, in full precision and under the quantizer.
        kept: `quantizer` where that choice is better than the setting's own under the quantizer, else `setting`.
        absent: methods that were not searched, and why.
        sentences: the findings. `length`, `short_length`: tokens of a window.
    """

    FILE: ClassVar = "a search of interpolations"

    def _figures(self) -> Figures:
        return {
            "gains": partial(there, tuned_rope.gains, self),
            "frequencies": partial(there, tuned_rope.frequencies, self),
            "tried": partial(there, tuned_rope.tried, self),
        }

    def _headline(self) -> str:
        return "\n".join([*self.sentences, self.text])

    def table(self) -> pd.DataFrame:
        """One row a choice and condition: NLL, gain over the setting's own, both at short context too."""
        return tuned_rope.table(self)
