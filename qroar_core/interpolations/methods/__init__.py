"""One file a position interpolation; the name of the file is the name of the method."""
