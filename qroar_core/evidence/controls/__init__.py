"""Would an artefact show the same gain? Shuffled scales, other seeds, other texts, other dtypes."""
