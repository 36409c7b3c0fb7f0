"""What must not wear out: weights under a thousand changes, files under `kill -9`, a server under several people."""
