"""What a visitor has chosen, clicked and opened; no widget of its own."""
