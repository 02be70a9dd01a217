"""muster template: the expressions whose results jinja2 gave, refusals, and every failing allocation."""
import json
import os
import subprocess
import sys
import tempfile

from _case import MUSTER, ROOT, Skip, case, finish, muster

sys.path.insert(0, str(ROOT / "tests/oracle"))
import templates  # noqa: E402  (the runner whose cases these are)


def render(template, conversation, *words, status=0):
    with tempfile.NamedTemporaryFile("w", suffix=".jinja", encoding="utf-8") as file:
        file.write(template)
        file.flush()
        return muster("template", "--template", file.name, *words, status=status, stdin=json.dumps(conversation))


@case
def behaviours_are_those_of_jinja2():
    count = templates.Count(MUSTER)
    count.check("behaviours", templates.behaviour_cases(templates.GOLDEN / "jinja_behaviours.txt"))
    assert count.failed == 0 and count.passed > 130, (count.passed, count.failed)


@case
def text_and_document():
    talk = {"messages": [{"role": "user", "content": "é\n"}], "now": "2025-03-14T15:09:26"}
    template = "{{ messages[0].content }}{{ strftime_now('%H') }}{{ tools }}{{ add_generation_prompt }}"
    assert render(template, talk)[0] == "é\n15NoneFalse"
    assert json.loads(render(template, talk, "--json")[0]) == {"text": "é\n15NoneFalse"}
    assert json.loads(render(template, talk, "--json", "--now", "2025-03-14T16:00:00")[0])["text"] == "é\n16NoneFalse"


@case
def refusals():
    told = render("\n{{ raise_exception('not today') }}", {"messages": []}, status=3)[1]
    assert told.startswith("muster: ") and told.endswith("line 2, column 19: not today\n"), told
    assert "endfor" in render("{% for m in messages %}", {"messages": []}, status=3)[1]
    assert "range too big" in render("{% for i in range(99999999999) %}x{% endfor %}", {}, status=3)[1]
    assert render("{{ ''.__class__.__mro__ }}", {}, status=3)[0] == ""
    render("{{ 1 }}", {"messages": 5}, status=3)
    muster("template", status=2, stdin="{}")


@case
def lines_go_on_after_a_failure():
    asked = [{"template": "{{ 1 }}"}, {"template": "{{ 1"}, {"template": "{{ 2 }}"}]
    out = muster("template", "--lines", stdin="".join(json.dumps(a) + "\n" for a in asked))[0]
    first, second, third = map(json.loads, out.splitlines())
    assert first == {"text": "1"} and "error" in second and third == {"text": "2"}


@case
def every_failing_allocation_ends_in_order():
    template = ("{% macro f(a, b=1) %}{{ a|upper }}{{ caller() if caller }}{% endmacro %}"
                "{% for k, v in d|dictsort if k %}{{ f(k) }}{{ v|tojson }}{{ loop.length }}{% endfor %}"
                "{% set n = namespace(s='') %}{% for m in l %}{% set n.s = n.s ~ m %}{% endfor %}{{ n.s }}"
                "{{ l|map('string')|join(',') }}{{ '%s'|format(1) }}{{ '{}'.format(2) }}{{ {'a': [1]} }}")
    asked = json.dumps({"template": template, "variables": {"l": list(range(40)), "d": {"b": 1, "a": [2]}}})

    def run(fault):
        return subprocess.run([MUSTER, "template", "--lines"], env=dict(os.environ, MUSTER_FAULT=fault),
                              input=asked.encode(), capture_output=True, timeout=60)
    good = run("count")
    words = good.stderr.decode().split()
    if "alloc" not in words:
        raise Skip("this build has no fault points")
    total = int(words[words.index("alloc") + 2])
    for n in range(1, total + 1, max(1, total // 400)):
        done = run(f"alloc:{n}")
        assert done.returncode in (0, 3, 4), (n, done.returncode, done.stderr)
        assert done.stdout in (b"", good.stdout) or b"out of memory" in done.stdout, (n, done.stdout)


finish()
