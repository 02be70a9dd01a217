"""What the end-to-end scripts share: the program, and cases that print TAP.

A script defines functions with @case and ends with finish(). A case fails by an exception, and is
skipped by raising Skip.
"""
import os
import pathlib
import subprocess
import sys
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MUSTER = os.environ.get("MUSTER", str(ROOT / "build/muster"))
CASES = []


class Skip(Exception):
    pass


def case(function):
    CASES.append(function)
    return function


def muster(*words, status=0, stdin="", env=None):
    """Runs the program and returns (stdout, stderr) once its exit status is the one wanted."""
    done = subprocess.run([MUSTER, *words], input=stdin, capture_output=True, text=True, timeout=120,
                          env=dict(os.environ, **(env or {})))
    assert done.returncode == status, (
        f"muster {' '.join(words)}: exit {done.returncode}, not {status}\n{done.stdout}{done.stderr}")
    return done.stdout, done.stderr


def finish():
    failed = 0
    print(f"1..{len(CASES)}")
    for number, function in enumerate(CASES, 1):
        try:
            function()
            print(f"ok {number} - {function.__name__}")
        except Skip as why:
            print(f"ok {number} - {function.__name__} # SKIP {why}")
        except Exception:
            failed += 1
            print(f"not ok {number} - {function.__name__}")
            print("".join("# " + line + "\n" for line in traceback.format_exc().splitlines()), end="")
    sys.exit(1 if failed else 0)
