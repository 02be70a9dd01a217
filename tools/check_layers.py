#!/usr/bin/env python3
"""Who may include whom: check_layers.py SRC ALLOW

ALLOW holds lines "room: dep dep ...". A file of a room may include files of its own room, any header
of base, and the public header dep/dep.h of each dep named; a header *_int.h never leaves its room.
The rooms must not form a circle.
"""
import pathlib
import re
import sys

INCLUDE = re.compile(r'\s*#\s*include\s+"([^"]+)"')
SOURCES = {".c", ".h", ".cu", ".cuh"}


def read_allowed(path):
    allowed = {}
    for line in pathlib.Path(path).read_text().splitlines():
        room, colon, deps = line.partition("#")[0].partition(":")
        if colon:
            allowed[room.strip()] = set(deps.split())
    return allowed


def circle_in(allowed):
    """Rooms are taken away once all their deps are gone; what cannot be taken away is a circle."""
    left = dict(allowed)
    while True:
        free = [room for room, deps in left.items() if not deps & left.keys()]
        if not free:
            return sorted(left)
        for room in free:
            del left[room]


def faults_of(src, allowed):
    for room, deps in allowed.items():
        for dep in sorted(deps - allowed.keys()):
            yield f"{room} names the unknown room {dep}"
    if circle_in(allowed):
        yield f"these rooms wait for each other: {' '.join(circle_in(allowed))}"
    for path in sorted(p for p in pathlib.Path(src).rglob("*") if p.suffix in SOURCES):
        room = path.relative_to(src).parts[0]
        if room not in allowed:
            yield f"{path}: the allow list has no room '{room}'"
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            included = match[1]
            dep, slash, name = included.partition("/")
            if not slash:
                yield f"{path}:{number}: write the room's name too: \"{room}/{included}\""
            elif dep == room:
                continue
            elif dep not in allowed[room]:
                yield f"{path}:{number}: {room} may not include {dep}"
            elif name.endswith("_int.h") or (dep != "base" and name != f"{dep}.h"):
                yield f"{path}:{number}: {included} is private to {dep}; use {dep}/{dep}.h"


def main():
    src, allow = sys.argv[1:]
    faults = list(faults_of(src, read_allowed(allow)))
    print("\n".join(faults), end="\n" if faults else "")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
