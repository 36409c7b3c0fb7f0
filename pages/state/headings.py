"""Headings of pages that are not their names in the menu; app.py shows them before anything large is imported."""

HEADINGS = {
    "Start": "Where does your long-context model lose, and what can be repaired?",  # without a model
    "Learn": "The mechanism by hand",
    "Remedies": "Compare remedies",
}
