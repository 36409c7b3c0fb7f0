"""The parts of the search stage: the cached objective, three ways to descend it, the full objective, the guard."""
