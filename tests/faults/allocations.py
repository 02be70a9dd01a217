"""Every allocation of a run over four ranks fails once: status 3 or 4 with one line, no leak, no hang.

For the build under the address sanitizer with internal checks (make faults); EVERY=n takes each n-th only, FROM=i
begins with the i-th: EVERY=4 with FROM=1 to 4 are all of them in four pieces.
"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from _case import MUSTER, ROOT, Skip, case, finish  # noqa: E402

EVERY, FROM = int(os.environ.get("EVERY", "1")), int(os.environ.get("FROM", "1"))
RANKS = ["--devices", "cpu:4", "--tp", "2", "--pp", "2"]
ENV = dict(os.environ, ASAN_OPTIONS="detect_leaks=1:allocator_may_return_null=1")
LIMIT_S = 300  # far above what a loaded machine needs: only a hang takes so long


def run(words, fault):
    return subprocess.run([MUSTER, *words], env=dict(ENV, MUSTER_FAULT=fault), stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=LIMIT_S, check=False)


def one(words, n):
    """What is wrong with how a run ends whose n-th allocation fails; None if nothing is."""
    try:
        done = run(words, f"alloc:{n}")
    except subprocess.TimeoutExpired:
        return f"alloc:{n} does not end"
    told = done.stderr.decode(errors="replace")
    # 0: threads race to it, and this time there were fewer; or it was what keeps the run's record.
    said = told.count("\n") == 1 and told.startswith("muster: ")
    if (done.returncode in (3, 4) and said) or (done.returncode == 0 and (said or not told)):
        return None
    return f"alloc:{n} ends with {done.returncode}: {told[:2000]}"


def every_allocation(*words):
    found = re.search(rb"fault point alloc passed (\d+)", run(words, "count").stderr)
    if not found:
        raise Skip("this build has no fault points")
    which = range(FROM, int(found[1]) + 1, EVERY)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        wrong = [w for w in pool.map(lambda n: one(words, n), which) if w]
    print(f"# {len(which)} runs of {' '.join(words[:2])}", flush=True)
    assert not wrong, f"{len(wrong)} of {len(which)}:\n" + "\n".join(wrong[:3])


@case
def tensor_and_pipeline_ranks():
    every_allocation("generate", "synth:nano", "--tokens", "1,2", "-n", "2", "--json", *RANKS)


@case
def of_a_model_in_a_folder():
    every_allocation("generate", str(ROOT / "tests/golden/1_tiny/llama_gqa"), "-p", "a b", "-n", "2", *RANKS)


@case
def with_parts_on_the_cpu_and_the_disk():
    device_map = '{"model":0,"lm_head":"cpu","model.layers.1.mlp":"disk","model.layers.0.mlp":1}'
    every_allocation("generate", "synth:nano", "--tokens", "1,2", "-n", "2", "--devices", "cpu:2", "--device-map",
                     device_map)


finish()
