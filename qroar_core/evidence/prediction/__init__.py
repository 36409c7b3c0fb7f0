"""Do the diagnostics predict which band costs?"""
