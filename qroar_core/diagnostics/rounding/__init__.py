"""What rounding does to the coordinates and lengths of q and K."""
