"""`python -m benchmarks [demo|smollm2|diagnosis|memory|dashboard|llamacpp|families ...]`: no argument runs all of them.

Every figure is a ratio inside one run, or a count; wall seconds are printed beside for the reader.
"""

from __future__ import annotations

import sys

from benchmarks import dashboard, demo, diagnosis, families, llamacpp, memory, smollm2

PARTS = {"demo": demo.main, "smollm2": smollm2.main, "diagnosis": diagnosis.main, "memory": memory.main}
PARTS |= {"dashboard": dashboard.main, "llamacpp": llamacpp.main, "families": families.main}


def main(names: list[str]) -> int:
    """Run the named parts and print their tables."""
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        print(f"unknown part {unknown[0]}; choose from {', '.join(PARTS)}", file=sys.stderr)
        return 2
    for name in names or PARTS:
        print(f"\n## {name}\n", flush=True)
        PARTS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
