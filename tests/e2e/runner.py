"""The test runner itself: what must count as a failure does."""
import importlib.util
import pathlib

from _case import ROOT, case, finish

spec = importlib.util.spec_from_file_location("runner", ROOT / "tests/run.py")
runner = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runner)


def counts(script, timeout=20):
    r = runner.run_program("x", ["sh", "-c", script], timeout, pathlib.Path("/nowhere"))
    return (r.passed, r.failed, r.skipped), r.output


@case
def tap_is_counted():
    assert counts("echo 1..3; echo ok 1 - a; echo 'ok 2 - b # SKIP why'; echo ok 3")[0] == (2, 0, 1)
    assert counts("echo 1..2; echo ok 1; echo not ok 2 - b; exit 1")[0] == (1, 1, 0)
    assert counts("echo 1..2; echo ok 1; echo not ok 2 - b")[0] == (1, 1, 0)


@case
def unfinished_plans_and_crashes_fail():
    assert counts("echo 1..3; echo ok 1")[0] == (1, 2, 0)
    assert counts("echo 1..1; echo ok 1; exit 3")[0] == (1, 1, 0)
    (_, failed, _), output = counts("echo 1..1; echo ok 1; kill -SEGV $$")
    assert failed == 1 and "SIGSEGV" in output
    assert counts("kill -ABRT $$")[0] == (0, 1, 0)


@case
def a_hang_fails_and_is_ended():
    (_, failed, _), output = counts("echo before; sleep 60 & wait", timeout=1)
    assert failed == 1 and "before" in output and "no end after 1 s" in output


@case
def scripts_count_by_their_exit_or_last_line():
    assert counts("true")[0] == (1, 0, 0)
    assert counts("exit 77")[0] == (0, 0, 1)
    assert counts("exit 1")[0] == (0, 1, 0)
    assert counts("echo 5 passed, 0 failed, 2 skipped")[0] == (5, 0, 2)
    assert counts("echo 5 passed, 1 failed; exit 1")[0] == (5, 1, 0)
    assert counts("echo 0 passed, 0 failed, 1 skipped")[0] == (0, 0, 1)
    assert counts("echo 5 passed, 0 failed; exit 1")[0] == (5, 1, 0)


finish()
