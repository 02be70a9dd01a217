"""A step makes no system call but to wait for another thread: runs in which any other one is trapped.

Needs the build with internal checks, which make test gives. Prints what it counted.
"""
import re

from _case import Skip, case, finish, muster

N = 40
PLACEMENTS = (["-t", "2"], ["-d", "cpu:2", "--tp", "2"], ["-d", "cpu:2", "--pp", "2"])


def futexes_a_token(model, words):
    """Futex calls for each token, inside steps; any other call would have ended the run."""
    _, err = muster("generate", model, "--tokens", ",".join(map(str, range(1, 71))), "-n", str(N), "--greedy",
                    "--ignore-eos", "--prefill-chunk", "32", "--json", *words, env={"MUSTER_FAULT": "calls"})
    if "cannot be trapped" in err:
        raise Skip("system calls cannot be trapped here")
    found = re.search(r"^trapped (\d+) runs of steps: (\d+) futex calls, no others$", err, re.M)
    if not found:
        raise Skip("this build traps no system calls")
    assert int(found[1]) >= N, err
    return int(found[2]) / N


@case
def a_step_of_one_thread_makes_no_system_call():
    for model in ("synth:nano", "synth:nano@q4_0", "synth:nano-moe", "synth:nano-latent"):
        assert futexes_a_token(model, ["-t", "1"]) == 0
        assert futexes_a_token(model, ["-t", "1", "--compute", "f32"]) == 0


@case
def steps_of_several_threads_only_wait_and_wake():
    for model in ("synth:nano", "synth:nano-moe", "synth:nano-latent", "synth:micro"):
        for words in PLACEMENTS:
            print(f"# {model} {' '.join(words)}: {futexes_a_token(model, words):.1f} futex calls a token")


@case
def several_prompts_together_make_none_either():
    assert futexes_a_token("synth:nano", ["-t", "1", "--choices", "4", "--temperature", "1"]) == 0


finish()
