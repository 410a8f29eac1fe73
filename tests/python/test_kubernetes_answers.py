"""The recorded answers of a real API server are those to today's table of objects."""

import pathlib
import subprocess
import sys

RECORD = pathlib.Path(__file__).parents[1] / "kubernetes" / "record.py"


def test_every_case_of_the_table_is_answered():
    checked = subprocess.run([sys.executable, RECORD, "--check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
