"""Whole models quantised in the manner of transformers' libraries, made here by other code than reads
them: the logits are those of the same values in fp32, and their bits do not depend on the devices."""
import array
import json
import os
import pathlib
import random
import struct
import tempfile

from _case import CASES, case, finish, muster

ROWS = {"self_attn.q_proj": (128, 128), "self_attn.k_proj": (64, 128), "self_attn.v_proj": (64, 128),
        "self_attn.o_proj": (128, 128), "mlp.gate_proj": (256, 128), "mlp.up_proj": (256, 128),
        "mlp.down_proj": (128, 256)}
VOCABULARY = 96
CONFIG = {"model_type": "llama", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1,
          "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCABULARY,
          "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
          "tie_word_embeddings": False, "hidden_act": "silu"}


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def half(x):
    return struct.unpack("<e", struct.pack("<e", x))[0]


def i32(words):
    return struct.pack(f"<{len(words)}I", *[w & 0xffffffff for w in words])


def halves(values):
    return struct.pack(f"<{len(values)}e", *values)


def f32s(values):
    return array.array("f", values).tobytes()


def stream(codes, bits):
    """Codes in words one after the other, low bits first, a code in two words where it falls so."""
    number = sum(c << i * bits for i, c in enumerate(codes))
    return [number >> 32 * w & 0xffffffff for w in range(len(codes) * bits // 32)]


def awq(rng, rows, cols, group):
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    word = lambda codes: sum(codes[order[i]] << 4 * i for i in range(8))
    q = [[rng.randrange(16) for _ in range(cols)] for _ in range(rows)]
    z = [[rng.randrange(16) for _ in range(rows)] for _ in range(cols // group)]
    s = [[half(rng.uniform(0.005, 0.02)) for _ in range(rows)] for _ in range(cols // group)]
    parts = {
        "qweight": ("I32", [cols, rows // 8],
                    i32([word([q[8 * w + j][k] for j in range(8)]) for k in range(cols)
                         for w in range(rows // 8)])),
        "qzeros": ("I32", [cols // group, rows // 8],
                   i32([word(line[8 * w:8 * w + 8]) for line in z for w in range(rows // 8)])),
        "scales": ("F16", [cols // group, rows], halves([x for line in s for x in line])),
    }
    values = [(q[o][k] - z[k // group][o]) * s[k // group][o] for o in range(rows) for k in range(cols)]
    return parts, values


def gptq(rng, rows, cols, bits, group, less=1, shuffled=False):
    groups = cols // group
    of = [k // group for k in range(cols)]
    if shuffled:
        rng.shuffle(of)
    q = [[rng.randrange(1 << bits) for _ in range(cols)] for _ in range(rows)]
    z = [[rng.randrange(1 << bits) for _ in range(rows)] for _ in range(groups)]
    s = [[half(rng.uniform(0.16, 0.3) / (1 << bits)) for _ in range(rows)] for _ in range(groups)]
    columns = [stream(row, bits) for row in q]
    parts = {
        "qweight": ("I32", [cols * bits // 32, rows],
                    i32([columns[o][line] for line in range(cols * bits // 32) for o in range(rows)])),
        "qzeros": ("I32", [groups, rows * bits // 32],
                   i32([w for line in z for w in stream(line, bits)])),
        "scales": ("F16", [groups, rows], halves([x for line in s for x in line])),
    }
    if shuffled or bits == 4:
        parts["g_idx"] = ("I32", [cols], i32(of))
    values = [(q[o][k] - z[of[k]][o] - less) * s[of[k]][o] for o in range(rows) for k in range(cols)]
    return parts, values


def nf4(rng, rows, cols, block):
    number = [-1, -.6961928009986877, -.5250730514526367, -.39491748809814453, -.28444138169288635,
              -.18477343022823334, -.09105003625154495, 0, .07958029955625534, .16093020141124725,
              .24611230194568634, .33791524171829224, .44070982933044434, .5626170039176941,
              .7229568362236023, 1]
    q = [rng.randrange(16) for _ in range(rows * cols)]
    s = [f32(rng.uniform(0.1, 0.3)) for _ in range(rows * cols // block)]
    state = json.dumps({"quant_type": "nf4", "blocksize": block, "dtype": "float16",
                        "shape": [rows, cols]}).encode()
    parts = {"weight": ("U8", [rows * cols // 2, 1],
                        bytes(q[2 * i] << 4 | q[2 * i + 1] for i in range(rows * cols // 2))),
             "weight.absmax": ("F32", [len(s)], f32s(s)),
             "weight.quant_map": ("F32", [16], f32s(number)),
             "weight.quant_state.bitsandbytes__nf4": ("U8", [len(state)], state)}
    return parts, [f32(number[c]) * s[i // block] for i, c in enumerate(q)]


def int8(rng, rows, cols):
    q = [rng.randrange(-127, 128) for _ in range(rows * cols)]
    s = [f32(rng.uniform(0.1, 0.3)) for _ in range(rows)]
    parts = {"weight": ("I8", [rows, cols], array.array("b", q).tobytes()),
             "SCB": ("F32", [rows], f32s(s)), "weight_format": ("U8", [], b"\0")}
    return parts, [c * f32(s[i // cols] / 127) for i, c in enumerate(q)]


def fp8(rng, rows, cols):
    def number(code):
        e, m = code >> 3 & 15, code & 7
        v = (8 + m) * 2.0 ** (e - 10) if e else m * 2.0 ** -9
        return -v if code & 128 else v

    q = [rng.randrange(112) | rng.randrange(2) << 7 for _ in range(rows * cols)]
    down, across = -(-rows // 128), -(-cols // 128)
    s = [f32(rng.uniform(0.0004, 0.001)) for _ in range(down * across)]
    parts = {"weight": ("F8_E4M3", [rows, cols], bytes(q)),
             "weight_scale_inv": ("F32", [down, across], f32s(s))}
    return parts, [number(c) * s[i // cols // 128 * across + i % cols // 128] for i, c in enumerate(q)]


def packed(rng, rows, cols, group):
    """compressed-tensors with zero points."""
    q = [[rng.randrange(16) for _ in range(cols)] for _ in range(rows)]
    z = [[rng.randrange(16) for _ in range(cols // group)] for _ in range(rows)]
    s = [[half(rng.uniform(0.005, 0.02)) for _ in range(cols // group)] for _ in range(rows)]
    down = [stream([z[o][g] for o in range(rows)], 4) for g in range(cols // group)]
    parts = {"weight_packed": ("I32", [rows, cols // 8], i32([w for row in q for w in stream(row, 4)])),
             "weight_scale": ("F16", [rows, cols // group], halves([x for row in s for x in row])),
             "weight_shape": ("I64", [2], struct.pack("<2q", rows, cols)),
             "weight_zero_point": ("I32", [rows // 8, cols // group],
                                   i32([down[g][w] for w in range(rows // 8)
                                        for g in range(cols // group)]))}
    return parts, [(q[o][k] - z[o][k // group]) * s[o][k // group]
                   for o in range(rows) for k in range(cols)]


def gptq_config(bits, group, **more):
    return {"quant_method": "gptq", "bits": bits, "group_size": group, **more}


SCHEMES = {
    "awq 128": (lambda r, o, i: awq(r, o, i, 128),
                {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "GEMM"}),
    "awq 32": (lambda r, o, i: awq(r, o, i, 32),
               {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}),
    "gptq 2": (lambda r, o, i: gptq(r, o, i, 2, 64), gptq_config(2, 64)),
    "gptq 3": (lambda r, o, i: gptq(r, o, i, 3, 32), gptq_config(3, 32)),
    "gptq 4, shuffled": (lambda r, o, i: gptq(r, o, i, 4, 32, shuffled=True),
                         gptq_config(4, 32, desc_act=True)),
    "gptq 8, shuffled": (lambda r, o, i: gptq(r, o, i, 8, 64, shuffled=True),
                         gptq_config(8, 64, desc_act=True)),
    "gptq 8, version 2": (lambda r, o, i: gptq(r, o, i, 8, 64, less=0),
                          gptq_config(8, 64, checkpoint_format="gptq_v2")),
    "nf4": (lambda r, o, i: nf4(r, o, i, 64),
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
    "int8": (int8, {"quant_method": "bitsandbytes", "load_in_8bit": True}),
    "fp8": (fp8, {"quant_method": "fp8", "weight_block_size": [128, 128]}),
    "packed": (lambda r, o, i: packed(r, o, i, 64),
               {"quant_method": "compressed-tensors", "format": "pack-quantized"}),
}


def save(folder, tensors, quantisation):
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    config = dict(CONFIG, **({"quantization_config": quantisation} if quantisation else {}))
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def make(folder, make_matrix, quantisation):
    """The quantised model, and its twin in fp32."""
    rng = random.Random(7)
    plain, quantised = {}, {}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        plain[name] = ("F32", [VOCABULARY, 128], f32s([rng.gauss(0, 0.5) for _ in range(VOCABULARY * 128)]))
    for name in ("model.norm.weight", "model.layers.0.input_layernorm.weight",
                 "model.layers.0.post_attention_layernorm.weight"):
        plain[name] = ("F32", [128], f32s([1 + rng.random() for _ in range(128)]))
    quantised.update(plain)
    for name, (rows, cols) in ROWS.items():
        parts, values = make_matrix(rng, rows, cols)
        name = "model.layers.0." + name
        quantised.update({f"{name}.{part}": t for part, t in parts.items()})
        plain[name + ".weight"] = ("F32", [rows, cols], f32s(values))
    return save(folder / "quantised", quantised, quantisation), save(folder / "plain", plain, None)


TOKENS = ",".join(str(i * 37 % VOCABULARY) for i in range(40))


def logits(model):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "logits.safetensors")
        muster("logits", model, "--tokens", TOKENS, "--positions", "all", "--compute", "f32", "--out", out)
        raw = pathlib.Path(out).read_bytes()
    values = array.array("f")
    values.frombytes(raw[8 + struct.unpack("<Q", raw[:8])[0]:])
    return values


def digest(model, *words):
    out, _ = muster("generate", model, "--json", "--ignore-eos", "--greedy", "--tokens", TOKENS,
                    "-n", "12", *words)
    return json.loads(out)["digest"]


def add_case(name):
    @case
    def check():
        with tempfile.TemporaryDirectory() as folder:
            quantised, plain = make(pathlib.Path(folder), *SCHEMES[name])
            got, want = logits(quantised), logits(plain)
            worst = max(abs(a - b) for a, b in zip(got, want))
            assert len(got) == len(want) and worst < 1e-4, worst
            assert max(want) - min(want) > 0.1
            for compute in ("default", "f32"):
                one = digest(quantised, "--compute", compute, "--devices", "cpu:1")
                for n in (2, 3, 4):
                    many = digest(quantised, "--compute", compute, "--devices", f"cpu:{n}")
                    assert many == one, (compute, n)

    words = name.replace(",", "").replace(" ", "_")
    CASES[-1].__name__ = words + "_is_its_values_and_the_same_bits_on_any_devices"


for scheme in SCHEMES:
    add_case(scheme)


@case
def what_is_not_read_is_refused_by_name_and_still_inspected():
    with tempfile.TemporaryDirectory() as folder:
        model, _ = make(pathlib.Path(folder), SCHEMES["awq 32"][0],
                        {"quant_method": "awq", "bits": 4, "version": "gemv"})
        out, err = muster("generate", model, "--tokens", "1", status=3)
        assert "'awq'" in err and "'gemv'" in err and "awq (gemm)" in err, err
        out, _ = muster("inspect", model, "--json")
        assert json.loads(out)["quantisation_form"] == "gemv"
        assert "not read" in muster("inspect", model)[0]


finish()
