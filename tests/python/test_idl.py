"""Our flyteidl against the published package."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def test_descriptors_and_messages_are_those_of_the_published_package():
    program = HERE.parents[1] / "target" / "debug" / "examples" / "reencode"
    assert program.exists(), f"{program} is not built; run `make test`"
    answer = subprocess.run(
        [sys.executable, str(HERE / "idl_conformance.py"), str(program)], capture_output=True, text=True, timeout=300
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
