#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when an #include goes up or across the rooms, when headers include one another in a circle, when a library's
headers leave their place, or when a source file has no SPDX line. `--self-test` shows that each rule can fail."""

import argparse
import fnmatch
import pathlib
import re
import sys
import tempfile

# What each room may include besides itself and the rooms under it: design, "Rooms".
ROOMS_BELOW = {
    "core": set(),
    "meta": {"core"},
    "net": {"core", "meta"},
    "node": {"core", "meta", "net"},
    "fs": {"core", "meta", "net"},
    "mount-helpers": {"core", "meta", "net", "node", "fs"},
}
ROOMS_BELOW["tests"] = set(ROOMS_BELOW)

# Headers of libraries, and the only files that may include them.
LIBRARY_PLACES = [
    (re.compile(r"^(fuse|fuse3/|fuse_)"), ["fs/fuse_*.hpp", "fs/fuse_*.cpp"], "FUSE"),
    (re.compile(r"^sqlite3\.h$"), ["meta/*", "node/*", "tests/*"], "SQLite"),
]

# Folders without headers of their own, whose files need their SPDX line too.
OTHER_FOLDERS = ["cmake", "packaging"]
SOURCE_SUFFIXES = {".hpp", ".cpp", ".h", ".c", ".proto", ".cmake", ".py", ".sh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
SPDX = re.compile(r"SPDX-License-Identifier: Apache-2\.0\s*$", re.MULTILINE)


def source_files(root):
    for folder in [*ROOMS_BELOW, *OTHER_FOLDERS]:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and (path.suffix in SOURCE_SUFFIXES or path.name == "CMakeLists.txt"):
                yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def check_spdx(name, text):
    head = "\n".join(text.splitlines()[:3])
    if not SPDX.search(head):
        yield f"{name}:1: no SPDX line in its first three lines"


def check_include(root, name, line, own, library):
    place = f"{name}:{line}"
    room = name.split("/")[0]
    if own is None:
        for pattern, allowed, title in LIBRARY_PLACES:
            if pattern.match(library) and not any(fnmatch.fnmatch(name, glob) for glob in allowed):
                yield f"{place}: {title} headers belong in {', '.join(allowed)}"
        return
    target = own.split("/")[0]
    if target not in ROOMS_BELOW:
        yield f'{place}: "{own}" does not start with a room: includes are from the root of the checkout'
    elif target != room and target not in ROOMS_BELOW[room]:
        yield f"{place}: {room}/ may not include {own}"
    elif ".." in own.split("/"):
        yield f'{place}: "{own}" climbs'
    elif not own.endswith(".pb.h") and not (root / own).is_file():
        yield f"{place}: {own} does not exist"


def find_cycle(graph):
    """A list of headers that include one another in a circle, or None."""
    done = set()
    for start in sorted(graph):
        path, stack = [], [(start, iter(sorted(graph[start])))]
        on_path = {start}
        path.append(start)
        while stack:
            node, rest = stack[-1]
            child = next((c for c in rest if c in graph and c not in done), None)
            if child is None:
                done.add(node)
                on_path.discard(node)
                path.pop()
                stack.pop()
            elif child in on_path:
                return path[path.index(child):] + [child]
            else:
                on_path.add(child)
                path.append(child)
                stack.append((child, iter(sorted(graph[child]))))
    return None


def check(root):
    mistakes = []
    headers = {}
    for name, text in source_files(root):
        mistakes.extend(check_spdx(name, text))
        if not name.endswith((".hpp", ".cpp")):
            continue
        own_includes = set()
        for match in INCLUDE.finditer(text):
            own, library = match.groups()
            line = text.count("\n", 0, match.start(0) + len(match.group(0))) + 1
            if own is not None:
                own_includes.add(own)
                # A library's header in quotes is still a library's header.
                if any(pattern.match(own) for pattern, _, _ in LIBRARY_PLACES):
                    own, library = None, own
            mistakes.extend(check_include(root, name, line, own, library))
        if name.endswith(".hpp"):
            headers[name] = own_includes
    cycle = find_cycle(headers)
    if cycle:
        mistakes.append(f"{cycle[0]}:1: include cycle: {' -> '.join(cycle)}")
    return mistakes


SPDX_LINE = "// SPDX-License-Identifier: Apache-2.0\n"
# A tree that breaks one rule, and a word of the complaint it has to cause.
BAD_TREES = [
    ({"core/a.hpp": '#include "meta/b.hpp"\n', "meta/b.hpp": ""}, "core/a.hpp:2: core/ may not include"),
    ({"meta/a.cpp": '#include "net/b.hpp"\n', "net/b.hpp": ""}, "meta/ may not include"),
    ({"fs/a.cpp": '#include "node/b.hpp"\n', "node/b.hpp": ""}, "fs/ may not include"),
    ({"node/a.cpp": '#include "fs/b.hpp"\n', "fs/b.hpp": ""}, "node/ may not include"),
    ({"net/a.cpp": '#  include "node/b.hpp"\n', "node/b.hpp": ""}, "net/ may not include"),
    ({"fs/a.cpp": '#include "tests/b.hpp"\n', "tests/b.hpp": ""}, "fs/ may not include"),
    ({"fs/a.cpp": '#include "b.hpp"\n', "fs/b.hpp": ""}, "does not start with a room"),
    ({"fs/a.cpp": '#include "fs/../node/b.hpp"\n', "node/b.hpp": ""}, "climbs"),
    ({"fs/a.cpp": '#include "fs/b.hpp"\n'}, "does not exist"),
    ({"core/a.hpp": '#include "core/b.hpp"\n', "core/b.hpp": '#include "core/a.hpp"\n'}, "include cycle"),
    ({"fs/engine.cpp": "#include <fuse3/fuse_lowlevel.h>\n"}, "FUSE headers"),
    ({"fs/engine.cpp": "#include <fuse_lowlevel.h>\n"}, "FUSE headers"),
    ({"fs/fuse_x.cpp": "#include <sqlite3.h>\n"}, "SQLite headers"),
    ({"net/a.cpp": '#include "sqlite3.h"\n'}, "SQLite headers"),
]
GOOD_TREE = {
    "core/a.hpp": "#include <vector>\n",
    "meta/b.hpp": '#include <sqlite3.h>\n#include "core/a.hpp"\n#include "meta/m.pb.h"\n',
    "fs/fuse_c.cpp": '#include <fuse3/fuse_lowlevel.h>\n#include "meta/b.hpp"\n',
    "node/d.cpp": '#include "core/a.hpp"\n',
    "mount-helpers/e.cpp": '#include "node/d.hpp"\n#include "core/a.hpp"\n',
    "node/d.hpp": "",
}


def check_tree(files, spdx=SPDX_LINE):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(spdx + text, encoding="utf-8")
        return check(root)


def self_test():
    failures = []
    if mistakes := check_tree(GOOD_TREE):
        failures.append(f"a good tree was refused: {mistakes}")
    for files, complaint in BAD_TREES:
        if not any(complaint in mistake for mistake in check_tree(files)):
            failures.append(f"nobody said '{complaint}' of {files}")
    if not any("SPDX" in mistake for mistake in check_tree({"core/a.hpp": "int a;\n"}, spdx="")):
        failures.append("a missing SPDX line was not seen")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    mistakes = self_test() if options.self_test else check(options.root)
    for mistake in mistakes:
        print(mistake)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
