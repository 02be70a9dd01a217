"""muster prove as a user runs it, data parallel runs, and budgets that are walls."""
import json
import pathlib
import tempfile

from _case import ROOT, Skip, case, finish, muster

TINY = ROOT / "tests/golden/1_tiny"


def prove(model, *words, status=0):
    return json.loads(muster("prove", str(model), *words, "--json", status=status)[0])


@case
def placements_leave_no_trace_in_small_models_of_every_kind():
    for model in (TINY / "llama_gqa", TINY / "mixtral", TINY / "deepseek_v3",
                  ROOT / "tests/golden/6_quant/gguf/legacy_mix.gguf", "synth:micro@q4_k"):
        found = prove(model, "--quick", "-n", "6", "--placements",
                      "tp1xt1,tp3,tp2xpp2xdp2xt1,tp1xt3,dp2")
        ran = [p for p in found["placements"] if "refused" not in p]
        assert found["same_bits"] and len(ran) >= 3, found
        assert len({p["digest"] for p in ran}) == 1
        for p in ran:
            assert p["measured"]["devices"] == p["predicted"]["devices"], p
            assert p["measured"]["together_tokens_per_s"] > 0 and p["efficiency"] > 0


@case
def what_a_model_cannot_have_is_refused_with_the_reason():
    found = prove("synth:nano", "--quick", "-n", "2", "--placements", "tp1,tp5,pp3,tp2")
    reasons = {p["placement"]: p.get("refused") for p in found["placements"]}
    assert reasons["tp1"] is None and reasons["tp2"] is None
    assert "3 pipeline stages" in reasons["pp3"] and "5" in reasons["tp5"], reasons
    muster("prove", "synth:nano", "--placements", "pp3", status=2)


@case
def bits_of_other_arithmetic_are_other_bits():
    """What is compared does tell arithmetics apart."""
    a, b = (prove("synth:nano", "--quick", "-n", "2", "--placements", "tp1", *words)
            for words in ((), ("--compute", "f32")))
    assert a["placements"][0]["digest"] != b["placements"][0]["digest"]


@case
def one_other_bit_is_found_and_named():
    """Two placements of three ways, five prompts and four tokens each: 120 rows."""
    words = ["prove", "synth:nano", "--quick", "-n", "4", "--placements", "tp1,tp2"]
    if "fault point bits" not in muster(*words, env={"MUSTER_FAULT": "count"})[1]:
        raise Skip("this build has no fault points")
    for row in (61, 90, 120):
        out, _ = muster(*words, status=1, env={"MUSTER_FAULT": f"bits:{row}"})
        assert "tp2: prompt " in out and "BITS DIFFER in 1 of 2" in out and "DIFFER" in out, out
        found = json.loads(muster(*words, "--json", status=1, env={"MUSTER_FAULT": f"bits:{row}"})[0])
        assert found["same_bits"] is False
        tp1, tp2 = found["placements"]
        assert tp1["same_bits"] and not tp2["same_bits"] and tp2["differs"]["prompt"] < 5, found


@case
def people_get_a_table_and_the_refusals():
    out, err = muster("prove", "synth:nano", "--quick", "-n", "2", "--placements", "tp1,pp3,dp2")
    assert "same bits in all 2 placements" in out and "pp3 is refused: 3 pipeline" in out, out
    assert err == "", err
    with tempfile.TemporaryDirectory() as folder:
        prompts = pathlib.Path(folder, "prompts")
        prompts.write_text("one two\n\nthree\n")
        found = prove(TINY / "llama_gqa", "--prompts", str(prompts), "-n", "2", "--placements", "tp1,tp2")
        assert len(found["prompt_tokens"]) == 2 and found["same_bits"]
        prompts.write_text("\n")
        muster("prove", str(TINY / "llama_gqa"), "--prompts", str(prompts), status=3)


@case
def wrong_words_are_told():
    for words in (["--placements", "tp"], ["--placements", "tp2xq3"], ["--placements", "tp0"],
                  ["--placements", ""], ["--placements", "tp9xpp9"], ["-n", "0"]):
        muster("prove", "synth:nano", *words, status=2)
    muster("prove", "synth:nano", "-n", "9999", status=3)
    muster("prove", "/nonexistent", status=3)


@case
def replicas_answer_as_one_device_does():
    words = ["generate", str(TINY / "llama_gqa"), "--tokens", "5,6,7", "-n", "8", "--ignore-eos",
             "--seed", "3", "--json"]
    one, two = (json.loads(muster(*words, *more)[0])
                for more in ([], ["--devices", "cpu:4", "--dp", "2", "--tp", "2"]))
    assert one["digest"] == two["digest"] and one["ids"] == two["ids"]
    assert len(two["predicted"]["devices"]) == 4
    assert "--devices cpu:6" in muster(*words, "--dp", "3", "--tp", "2", status=2)[1]


@case
def a_budget_is_a_wall():
    words = ["generate", str(TINY / "llama_gqa"), "--tokens", "5,6,7", "-n", "8", "--ignore-eos",
             "--json", "--devices"]
    need = max(d["total_bytes"] for d in json.loads(muster(*words, "cpu:2")[0])["predicted"]["devices"])
    assert json.loads(muster(*words, f"cpu:2x{need}")[0])["ids"]
    _, err = muster(*words, f"cpu:2x{need - 1}", status=4)
    assert "too little" in err and "would fit: --devices cpu:" in err, err
    # What is named as the nearest does fit.
    nearest = next(l for l in err.splitlines() if "would fit: --devices" in l).split(",")[0].split()
    assert json.loads(muster(*words[:-1], *nearest[2:])[0])["ids"]


finish()
