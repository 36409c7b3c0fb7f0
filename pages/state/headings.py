"""The heading of every page by its name in the menu; app.py shows it before anything large is imported."""

HEADINGS = {
    "Start": "Where does your long-context model lose, and what can be repaired?",  # without a model
    "Overview": "Overview",
    "Learn": "The mechanism by hand",
    "Bands": "Bands",
    "Pressure": "Pressure",
    "Tails": "Tails",
    "Outliers": "Outliers",
    "Noise": "Noise",
    "Tune": "Tune",
    "Evaluate": "Evaluate",
    "Remedies": "Compare remedies",
    "Sweep": "Measure many setups",
    "Trade-off": "Loss against memory",
    "Retrieval": "Retrieval",
    "Evidence": "Evidence",
    "Export": "Export",
    "Runs": "Runs",
}
