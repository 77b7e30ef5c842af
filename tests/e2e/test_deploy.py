# SPDX-License-Identifier: Apache-2.0
"""The files of deploy/: each is checked as far as a machine without Docker, Kubernetes and systemd can."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from aether import BINARY, PATIENCE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def yaml():
    return pytest.importorskip("yaml", reason="python3-yaml is not installed")


def validates(path):
    return subprocess.run([str(BINARY), "validate", str(path), "-o", "json"], capture_output=True, text=True,
                          timeout=PATIENCE)


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


# ---- systemd


def test_the_systemd_unit_has_no_mistakes(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed (package systemd)")
    text = (DEPLOY / "systemd" / "aether@.service").read_text()
    unit = tmp_path / "aether@web.service"
    for broken, mistakes in ((False, 0), (True, 1)):
        unit.write_text(text.replace("/usr/local/bin/aether", str(BINARY)) + ("\n[Service]\nKilMode=mixed\n" * broken))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True,
                              timeout=PATIENCE)
        ours = [line for line in done.stderr.splitlines() if "aether@" in line]
        assert len(ours) == mistakes, done.stderr


def test_the_systemd_unit_uses_commands_that_there_are():
    text = (DEPLOY / "systemd" / "aether@.service").read_text()
    for key in ("ExecStart", "ExecReload"):
        words = shlex.split(re.search(rf"^{key}=(.*)$", text, re.M).group(1))
        options = [word for word in words[2:] if word.startswith("-")]
        help_text = subprocess.run([str(BINARY), words[1], "--help"], capture_output=True, text=True, check=True).stdout
        help_text += subprocess.run([str(BINARY), "--help"], capture_output=True, text=True, check=True).stdout
        assert all(re.search(rf"(^|\s){option}\b", help_text) for option in options), (key, options)


# ---- the image


def instructions():
    text = (DEPLOY / "container" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def test_the_image_copies_what_there_is_and_starts_aether_as_pid_1():
    known = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"}
    assert {name for name, _ in instructions()} <= known
    for name, rest in instructions():
        if name == "RUN":
            assert subprocess.run(["sh", "-n", "-c", rest]).returncode == 0, rest
        if name == "COPY" and not rest.startswith("--from"):
            assert (ROOT / rest.split()[0]).exists(), rest
    entry = next(rest for name, rest in instructions() if name == "ENTRYPOINT")
    assert entry.startswith('["/usr/local/bin/aether", "up", "-f"'), "exec form: no shell before it"
    assert any(name == "USER" and rest != "root" for name, rest in instructions())


def test_the_images_configuration_is_valid():
    done = validates(DEPLOY / "container" / "aeterna.yaml")
    assert done.returncode == 0 and not '"warnings":[{' in done.stdout, done.stdout + done.stderr


def test_the_image_has_the_libraries_that_the_program_needs():
    release = Path("/etc/os-release").read_text()
    if "VERSION_ID=\"12\"" not in release or shutil.which("dpkg") is None:
        pytest.skip("the image is Debian 12, and this machine is not")
    listed = next(rest for name, rest in instructions() if name == "RUN" and "libfmt9" in rest).split()
    linked = subprocess.run(["ldd", str(BINARY)], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"=> (/\S+)", linked):
        owner = subprocess.run(["dpkg", "-S", str(Path(library).resolve())], capture_output=True, text=True).stdout
        package = owner.split(":")[0]
        in_every_image = package in ("", "libc6", "libgcc-s1", "libstdc++6", "zlib1g")
        assert in_every_image or package in listed, f"{library} is of {package}"
    assert "libpq5" in listed, "opened only when a store is a PostgreSQL, so ldd does not tell"


# ---- Kubernetes


def manifests():
    return {one["kind"]: one for one in yaml().safe_load_all((DEPLOY / "kubernetes" / "agent.yaml").read_text())}


def test_the_manifests_fit_together(tmp_path):
    kinds = manifests()
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    config = kinds["ConfigMap"]["data"]["aeterna.yaml"]
    (tmp_path / "aeterna.yaml").write_text(config)
    done = validates(tmp_path / "aeterna.yaml")
    assert done.returncode == 0 and not '"warnings":[{' in done.stdout, done.stdout + done.stderr
    config = yaml().safe_load(config)

    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert config["service"]["listen"] == [f":{ports['http']}"]
    assert config["observability"]["metrics_port"] == f":{ports['metrics']}"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
        assert container[probe]["httpGet"]["path"] in ("/health", "/metrics")
    asleep = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > asleep + seconds(config["service"]["stop_timeout"])

    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts.values()) == set(volumes) and not any("subPath" in mount for mount in container["volumeMounts"])
    assert mounts[container["env"][0]["value"]] == "run"
    token = config["api"]["tokens"][0]["file"]
    assert mounts[str(Path(token).parent)] == "token" and Path(token).name in kinds["Secret"]["stringData"]
    assert volumes["token"]["secret"]["defaultMode"] & 0o007 == 0
    assert kinds["Deployment"]["spec"]["selector"]["matchLabels"] == \
        kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert not pod.get("shareProcessNamespace")


# ---- the page


def test_the_page_of_operations_links_to_what_there_is():
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / "docs" / "operations.md").read_text()):
        assert (ROOT / "docs" / link).exists(), link
