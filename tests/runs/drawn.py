"""Everything that the pages, the report and the command line make of one file of a run, by the file's kind."""

from __future__ import annotations

from qroar_core.cli import rope_command, tables, tables_of_evidence
from qroar_core.diagnostics.band_table import band_table, to_csv
from qroar_core.diagnostics.bands import figure as bands
from qroar_core.diagnostics.dilation import figure as dilation
from qroar_core.diagnostics.logit_noise import figure as noise
from qroar_core.diagnostics.logit_noise import figure_split
from qroar_core.diagnostics.outliers import figure as outliers
from qroar_core.diagnostics.outliers import figure_rules
from qroar_core.diagnostics.tail_inflation import figure as tails
from qroar_core.evaluation import figure as evaluated
from qroar_core.evaluation import figure_kl
from qroar_core.evaluation.headline import headline
from qroar_core.evidence.controls import figure as controls
from qroar_core.evidence.prediction import figure as prediction
from qroar_core.evidence.replication import figure as replication
from qroar_core.figures import runs
from qroar_core.figures.gallery import diagnosed
from qroar_core.figures.nulls import null_table
from qroar_core.remedies import figure as comparison_figure
from qroar_core.retrieval import figure as retrieval
from qroar_core.rope_search import figure as rope_figures
from qroar_core.scale_search import figure as trace
from qroar_core.transforms.kinds.angles import figure as figure_angles
from qroar_core.transforms.kinds.scales import figure as scaled


def of_diagnosis(found):
    diagnosed(found)
    bands.alone(found)
    bands.order(bands.table(found))
    bands.shortened(found)
    to_csv(band_table(found))
    null_table(found.null_rows())
    noise.by_position(found, found)
    noise.by_distance(found, found)
    figure_split.split(found, "layer")
    for which in found.tails:
        for layer in range(len(found.dilation.absmax)):
            tails.survival(found, (which, layer, tails.loudest_head(found, which, layer, 0), 0))
    for layer in range(len(found.dilation.absmax)):
        dilation.by_position(found, layer)
    for other in found.outliers.others:
        if other.parameter is not None:
            seen = figure_rules.seen(found, other.rule, other.parameter)
            for which in seen.outliers.jaccard:
                figure_rules.shift(seen, which)
    for which in found.outliers.maps:
        layer = outliers.loudest_layer(found, which)
        outliers.channel_map(found, which, layer, outliers.loudest_head(found, which, layer))
        outliers.layers(found, which)


def of_evaluation(found):
    evaluated.perplexity_by_length(found)
    evaluated.cost_by_length(found)
    evaluated.gain_and_attribution(found)
    evaluated.by_position(found)
    headline(found)
    figure_kl.readable(figure_kl.table(found))
    figure_kl.kl_report(found)
    figure_kl.divergence(found)
    figure_kl.rotation(found)
    runs.gains([("a", found), ("b", found)])
    tables.evaluation(found, False)
    tables.evaluation(found, True)


def of_search(found):
    trace.candidates(found.history, found.objective)
    trace.summary(found)


def of_scales(found):
    scaled.by_layer_and_band(found)
    figure_angles.by_layer_and_pair(found)
    runs.scales([("a", found), ("b", found)])


def of_retrieval(found):
    retrieval.gallery(found)
    for task in found.tasks:
        retrieval.answers(found, task)
    tables.retrieval(found, False)
    tables.retrieval(found, True)


def of_comparison(found):
    comparison_figure.table(found)
    comparison_figure.gains(found)
    comparison_figure.on_top(found)
    tables.comparison(found, False)
    tables.comparison(found, True)


def of_controls(found):
    controls.forest(found)
    controls.number_formats(found)
    tables_of_evidence.controls(found, False)
    tables_of_evidence.controls(found, True)


def of_replication(found):
    replication.matrix(found)
    replication.table(found)
    tables_of_evidence.replication(found, False)
    tables_of_evidence.replication(found, True)


def of_prediction(found):
    prediction.pictures(found)
    tables.prediction(found, False)
    tables.prediction(found, True)


def of_rope_search(found):
    rope_figures.gains(found)
    rope_figures.frequencies(found)
    rope_figures.tried(found)
    rope_figures.table(found)
    rope_command.show(found, False)
    rope_command.show(found, True)
