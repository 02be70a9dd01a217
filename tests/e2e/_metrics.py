"""Reads metrics as Prometheus and OpenMetrics describe them, and refuses what they do not allow."""
import collections
import re

Family = collections.namedtuple("Family", "type samples")

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL}(?:,{LABEL})*)?)\}})? (\S+)")
TYPES = {False: {"counter", "gauge", "histogram", "summary", "untyped"},
         True: {"counter", "gauge", "histogram", "summary", "unknown", "info", "stateset", "gaugehistogram"}}


def number(text):
    if text in ("NaN", "+Inf", "-Inf"):
        return float(text)
    assert re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text), f"{text} is no number"
    return float(text)


def labels_of(text):
    found = re.findall(LABEL, text or "")
    names = [name for name, _ in found]
    assert len(set(names)) == len(names) and not any(name.startswith("__") for name in names), text
    escapes = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
    return {name: re.sub(r"\\.", lambda m: escapes[m[0]], value) for name, value in found}


def parse(text, openmetrics=False):
    """{name: Family}; each family is whole, in one place, and begins with HELP and TYPE."""
    assert text.endswith("\n"), "the last line has no end"
    lines = text.split("\n")[:-1]
    if openmetrics:
        assert lines.pop() == "# EOF", "there is no # EOF"
    families, helped, current, seen = {}, set(), None, set()
    for line in lines:
        assert line and line == line.strip() and "\t" not in line, line
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert re.fullmatch(NAME, name) and name not in helped, line
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, current, kind = line.split(" ")
            assert current not in families and kind in TYPES[openmetrics] and current in helped, line
            families[current] = Family(kind, [])
        else:
            assert not line.startswith("#"), line
            found = SAMPLE.fullmatch(line)
            assert found and current, f"no sample: {line}"
            labels = labels_of(found[2])
            counter = openmetrics and families[current].type == "counter"
            assert found[1] == current + ("_total" if counter else ""), f"{line} is not of {current}"
            key = (found[1], *sorted(labels.items()))
            assert key not in seen, f"twice: {line}"
            seen.add(key)
            value = number(found[found.lastindex])
            assert families[current].type != "counter" or value >= 0, line
            families[current].samples.append((found[1], labels, value))
    assert all(family.samples for family in families.values()), "a family without samples"
    return families
