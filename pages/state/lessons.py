"""The questions of the Learn page, by the name that each has in the address: `/learn?lesson=tying`."""

QUESTIONS = {
    "clocks": "How does RoPE encode the position of a token?",
    "window": "What has a model never seen when its context grows?",
    "interpolation": "How do position interpolations bend the frequencies?",
    "aliasing": "When does a far token look near?",
    "grid": "Why does a quantizer's error depend on the position?",
    "scale": "What can one scale per band repair?",
    "commuting": "What commutes with a rotation?",
    "tying": "What does tying two clocks cost and buy?",
}
FIRST_LESSON = next(iter(QUESTIONS))


def numbered(lesson: str) -> str:
    """Its question with its number."""
    return f"{list(QUESTIONS).index(lesson) + 1}. {QUESTIONS[lesson]}"
