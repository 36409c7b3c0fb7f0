"""The lessons of the Learn page, by the name that each has in the address: `/learn?lesson=tying`."""

from typing import NamedTuple


class Lesson(NamedTuple):
    """What the row of lessons calls it, and the question that heads it."""

    name: str
    question: str


LESSONS = {
    "clocks": Lesson("Clocks", "How does RoPE encode the position of a token?"),
    "window": Lesson("Trained window", "What has a model never seen when its context grows?"),
    "interpolation": Lesson("Interpolation", "How do position interpolations bend the frequencies?"),
    "aliasing": Lesson("Aliasing", "When does a far token look near?"),
    "grid": Lesson("Grid", "Why does a quantizer's error depend on the position?"),
    "scale": Lesson("Band scale", "What can one scale per band repair?"),
    "commuting": Lesson("Transforms", "What commutes with a rotation?"),
    "tying": Lesson("Tied pairs", "What does tying two clocks cost and buy?"),
}
FIRST_LESSON = next(iter(LESSONS))


def named(lesson: str) -> str:
    """Its name with its number, as the row of lessons has it."""
    return _numbered(lesson, LESSONS[lesson].name)


def asked(lesson: str) -> str:
    """Its question with its number."""
    return _numbered(lesson, LESSONS[lesson].question)


def _numbered(lesson: str, words: str) -> str:
    return f"{list(LESSONS).index(lesson) + 1}. {words}"
