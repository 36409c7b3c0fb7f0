"""File formats of finished checkpoints, read and written without a model in memory."""
