"""Intervals, correlations and proportions from paired windows."""
