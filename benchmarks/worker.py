"""One contender at one work, in a process of its own: a line comes in, a turn's figures go out.

So no contender's threads, garbage or size slow another one.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path


def main() -> None:
    """Do a turn for each line, until there are no more."""
    work, name, port = sys.argv[1], sys.argv[2], sys.argv[3]
    warnings.simplefilter("ignore")
    try:
        sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
        from contenders import ENTRIES
        from works import WORKS

        turn = WORKS[work](ENTRIES[name], int(port) if port else None)
        print(json.dumps("ready"), flush=True)
        for _ in sys.stdin:
            print(json.dumps(turn()), flush=True)
    except Exception as error:
        print(json.dumps(f"{type(error).__name__}: {error}"), flush=True)
        raise


if __name__ == "__main__":
    main()
