# SPDX-License-Identifier: Apache-2.0
"""check_skips.py SKIPS JUNIT-FOLDER: fails if a test was skipped that SKIPS does not allow."""
import fnmatch
import pathlib
import sys
import xml.etree.ElementTree as xml


def allowed_patterns(text):
    """Gives (pattern, reason) of each line; a line without a reason is an error."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        pattern, separator, reason = line.partition(": ")
        if not separator or not reason.strip():
            raise SystemExit(f"line {number} of the skips has no reason: {line}")
        rows.append((pattern.strip(), reason.strip()))
    return rows


def skipped_tests(folder):
    """Gives (name, what the test said) of each skipped test in the folder's JUnit files."""
    for path in sorted(pathlib.Path(folder).glob("*.xml")):
        for case in xml.parse(path).iter("testcase"):
            skip = case.find("skipped")
            if skip is None:
                continue
            # ctest names a test alone, pytest by file and function.
            name = case.get("name")
            if path.stem != "ctest":
                name = f"{path.stem}::{name}"
            output = case.findtext("system-out") or ""
            yield name, skip.get("message") or output.strip().splitlines()[-1:]


def main():
    patterns = allowed_patterns(pathlib.Path(sys.argv[1]).read_text())
    skipped = list(skipped_tests(sys.argv[2]))
    bad = [(name, said) for name, said in skipped
           if not any(fnmatch.fnmatchcase(name, pattern) for pattern, _ in patterns)]
    print(f"skips: {len(skipped)} skipped, {len(skipped) - len(bad)} of them allowed")
    for name, said in bad:
        print(f"skips: {name} was skipped and is not in {sys.argv[1]}: {said}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
