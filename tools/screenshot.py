#!/usr/bin/env python3
"""A picture of muster top for the docs: what tmux really shows, as SVG.

    tools/screenshot.py [--url URL] [--build DIR] [--size 80x24] [--wait S] SCRIPT OUT.svg

SCRIPT is a machine for the tests' driver (tests/probe/nvml/...), URL an engine that runs. docs/top.svg
came of tests/probe/nvml/h100x8_busy and a llama-server that three clients kept busy.
"""
import argparse
import html
import os
import pathlib
import re
import subprocess
import time

INK, PAPER = "#d8dee9", "#1d2128"
INKS = dict(zip(range(30, 38), ("#5c6370", "#ff6b6b", "#8fce6a", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", INK)))
WIDTH, HEIGHT, EDGE, FONT = 8.4, 18, 14, 14


def runs(line):
    """[(text, colour, bold)] of a line with tmux's colour codes."""
    colour, bold, out = INK, False, []
    for code, text in re.findall(r"(?:\x1b\[([0-9;]*)m)?([^\x1b]*)", line):
        for number in (int(n or 0) for n in code.split(";")) if code is not None and (code or text) else ():
            if number in INKS:
                colour = INKS[number]
            elif number == 39:
                colour = INK
            elif number in (1, 22):
                bold = number == 1
            elif number == 0 and code:
                colour, bold = INK, False
        if text:
            out.append((text, colour, bold))
    return out


def svg(screen, columns, rows, title):
    width, height = columns * WIDTH + 2 * EDGE, rows * HEIGHT + 2 * EDGE
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
             f'height="{height:g}" role="img">\n<title>{html.escape(title)}</title>\n'
             f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>\n'
             f'<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{FONT}" xml:space="preserve">\n']
    for row, line in enumerate(screen.splitlines()[:rows]):
        at = 0
        for text, colour, bold in runs(line):
            shown = text.rstrip()
            if shown:
                weight = ' font-weight="bold"' if bold else ""
                lead = len(shown) - len(shown.lstrip())
                parts.append(f'<text x="{EDGE + (at + lead) * WIDTH:g}" y="{EDGE + (row + 0.75) * HEIGHT:g}" fill="{colour}"'
                             f'{weight} textLength="{(len(shown) - lead) * WIDTH:g}">{html.escape(shown.lstrip())}</text>\n')
            at += len(text)
    return "".join(parts) + "</g>\n</svg>\n"


def capture(muster, env, url, columns, rows, wait):
    socket = f"picture{os.getpid()}"

    def tmux(*words):
        return subprocess.run(["tmux", "-L", socket, "-f", "/dev/null", *words], capture_output=True, text=True, check=True,
                              env=dict(os.environ, **env, TERM="xterm-256color", LC_ALL="C.UTF-8")).stdout
    command = f"{muster} top" + (f" --url {url}" if url else "")
    tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), command)
    try:
        time.sleep(wait)
        return tmux("capture-pane", "-p", "-e")
    finally:
        tmux("kill-server")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url")
    parser.add_argument("--build", type=pathlib.Path, default="build/checks")
    parser.add_argument("--size", default="80x24")
    parser.add_argument("--wait", type=float, default=12)
    parser.add_argument("script", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    columns, rows = map(int, args.size.split("x"))
    build = args.build.resolve()
    env = {"MUSTER_NVML": str(build / "tests/probe/libnvidia-ml.so.1"), "MUSTER_NVML_FAKE": str(args.script.resolve())}
    screen = capture(build / "muster", env, args.url, columns, rows, args.wait)
    args.out.write_text(svg(screen, columns, rows, f"muster top in a terminal of {args.size}"))


if __name__ == "__main__":
    main()
