"""Loss against memory of the K/V cache: which formats are on the front, and the cheapest that loses little enough."""
