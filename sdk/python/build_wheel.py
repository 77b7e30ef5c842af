# SPDX-License-Identifier: Apache-2.0
"""Builds the wheel with nothing but the standard library (PEP 517), so that `pip install` of this
folder works on a machine without network and without setuptools or wheel."""

import base64
import hashlib
import os
import re
import tarfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = "aeterna"


def _read(*path):
    with open(os.path.join(HERE, *path), "rb") as file:
        return file.read()


def _field(name):
    return re.search(r'^%s = "(.*)"$' % name, _read("pyproject.toml").decode(), re.M).group(1)


def _metadata():
    lines = [
        "Metadata-Version: 2.1",
        "Name: " + _field("name"),
        "Version: " + _field("version"),
        "Summary: " + _field("description"),
        "Requires-Python: " + _field("requires-python"),
        "License: Apache-2.0",
        "Description-Content-Type: text/markdown",
    ]
    return ("\n".join(lines) + "\n\n").encode() + _read("README.md")


def _sources():
    for name in sorted(os.listdir(os.path.join(HERE, PACKAGE))):
        if name.endswith(".py") or name == "py.typed":
            yield PACKAGE + "/" + name, _read(PACKAGE, name)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    stem = "%s-%s" % (PACKAGE, _field("version"))
    info = stem + ".dist-info/"
    files = list(_sources())
    files.append((info + "METADATA", _metadata()))
    wheel = b"Wheel-Version: 1.0\nGenerator: aeterna\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files.append((info + "WHEEL", wheel))
    record = ""
    for name, data in files:
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += "%s,sha256=%s,%d\n" % (name, digest, len(data))
    files.append((info + "RECORD", (record + info + "RECORD,,\n").encode()))
    wheel = stem + "-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, wheel), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return wheel


def build_sdist(sdist_directory, config_settings=None):
    stem = "%s-%s" % (PACKAGE, _field("version"))
    with tarfile.open(os.path.join(sdist_directory, stem + ".tar.gz"), "w:gz") as archive:
        for name in ("pyproject.toml", "README.md", "build_wheel.py", PACKAGE):
            archive.add(os.path.join(HERE, name), stem + "/" + name)
    return stem + ".tar.gz"
