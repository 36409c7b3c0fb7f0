"""A run is a folder: manifest, diagnosis, scales, evaluation, report; written atomically, resumable."""
