"""Layer groups of a planted diagnosis, each with a noise of its own."""

from qroar_core.diagnostics.logit_noise.result import NoiseCurves
from qroar_core.diagnostics.result import Diagnosis, LayerGroupDiagnosis


def two_groups(
    of: Diagnosis, levels: dict[str, float], windows: tuple[int | None, int | None] = (None, None), nulls=(None, None)
) -> Diagnosis:
    """`of` with two groups of one layer each: name -> logit noise, nats, the windows they see, and their nulls."""
    groups = [
        LayerGroupDiagnosis(
            name=name,
            layers=[i],
            theta=1e4,
            window=window,
            interpolated=True,
            reach=64,
            bands=of.bands,
            pairs=of.pairs,
            kernel=of.kernel,
            noise=NoiseCurves(
                rms=[level, level],
                attention_kl=[0, 0],
                rms_by_distance=[0, 0],
                by_band_position=[],
                by_band_distance=[],
                null=null,
            ),
        )
        for i, ((name, level), window, null) in enumerate(zip(levels.items(), windows, nulls, strict=True))
    ]
    return of.model_copy(update={"groups": groups})
