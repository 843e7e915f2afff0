"""actool, appc's own tool, beside `pyrkt validate`: where both refuse, where only we do, and what we are milder in.

Source: appc 0.8.11; the tables hold actool's verdict too, so that a change of it is seen.
"""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, PyrktError
from pyrkt.cli.validate import validate
from tests.strategies import archive, file, folder, hardlink, symlink

pytestmark = [pytest.mark.peers]

ID = "sha512-" + "ab" * 64
IMAGE: dict[str, Any] = {
    "acKind": "ImageManifest",
    "acVersion": "0.8.11",
    "name": "example.com/app",
    "labels": [{"name": "version", "value": "1.0"}, {"name": "os", "value": "linux"}, {"name": "arch", "value": "amd64"}],
}  # fmt: skip
APP: dict[str, Any] = {"exec": ["/bin/app"], "user": "0", "group": "0"}
POD: dict[str, Any] = {
    "acKind": "PodManifest",
    "acVersion": "0.8.11",
    "apps": [{"name": "one", "image": {"id": ID, "name": "example.com/app"}}],
    "volumes": [{"name": "data", "kind": "empty"}],
}
ROOTFS = folder(b"rootfs")
GOOD = file(b"manifest", json.dumps(IMAGE | {"app": APP}).encode())


def actool(path: Path) -> tuple[int, str]:
    """Return actool's verdict on a file: 0 is good."""
    done = subprocess.run(["actool", "validate", str(path)], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def ours(path: Path) -> tuple[int, list[str]]:
    """Return the verdict of `pyrkt validate` on a file, and what it prints."""
    done = CliRunner().invoke(validate, [str(path)], standalone_mode=False)
    code = done.exception.exit_code if isinstance(done.exception, PyrktError) else done.exit_code
    assert done.exception is None or isinstance(done.exception, PyrktError), done.exception
    return code, done.output.splitlines()


def judged(path: Path, theirs: int, problem: str) -> None:
    """Check both verdicts: ``theirs`` is actool's code; ``problem`` is in our one line, or empty for what is good."""
    code, said = actool(path)
    assert (code != 0) == bool(theirs), said
    code, lines = ours(path)
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"{path}: ")
    if problem:
        assert code == InvalidSpec.exit_code
        assert problem in lines[0]
    else:
        assert code == 0, lines
        assert ": valid (" in lines[0]


def image(**changes: Any) -> dict[str, Any]:
    """Return the image manifest with these members instead; None takes one away."""
    return {name: value for name, value in (IMAGE | changes).items() if value is not None}


def app(**changes: Any) -> dict[str, Any]:
    """Return the image manifest with these members of its app instead; None takes one away."""
    return image(app={name: value for name, value in (APP | changes).items() if value is not None})


def isolator(name: str, value: Any, *more: tuple[str, Any]) -> dict[str, Any]:
    """Return the image manifest with these isolators."""
    return app(isolators=[{"name": each, "value": said} for each, said in ((name, value), *more)])


def pod(**changes: Any) -> dict[str, Any]:
    """Return the pod manifest with these members instead."""
    return POD | changes


def in_pod(**changes: Any) -> dict[str, Any]:
    """Return the pod manifest with these members of its one app instead."""
    return pod(apps=[POD["apps"][0] | changes])


CAPS = {"set": ["CAP_KILL"]}
CALLS = {"set": ["mount"]}
PORT = {"name": "www", "protocol": "tcp", "port": 80}


@pytest.mark.parametrize("document", [
    pytest.param(image(), id="image-without-app"),
    pytest.param(app(), id="image"),
    pytest.param(app(exec=["app"], workingDirectory="/srv", supplementaryGIDs=[7]), id="searched-in-path"),
    pytest.param(isolator("resource/memory", {"request": "1M", "limit": "1G"}, ("resource/cpu", {"limit": "250m"})), id="isolators"),
    pytest.param(isolator("resource/block-bandwidth", {"default": True, "limit": "1M"}), id="block-bandwidth"),
    pytest.param(image(dependencies=[{"imageName": "example.com/base", "imageID": ID, "size": 10}], pathWhitelist=["/bin/app"]), id="dependency"),
    pytest.param(pod(), id="pod"),
    pytest.param(pod(ports=[{"name": "www", "hostPort": 8080, "hostIP": "127.0.0.1"}], userLabels={"a": "b"}), id="pod-port"),
])  # fmt: skip
def test_what_is_good(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "manifest"
    path.write_text(fastjson.dumps(document))
    judged(path, 0, "")


@pytest.mark.parametrize(("document", "problem"), [
    pytest.param(image(name=None), "name", id="no-name"),
    pytest.param(image(name="Example.com/App"), "name", id="name"),
    pytest.param(image(acVersion=None), "acVersion", id="no-version"),
    pytest.param(image(acVersion="one"), "acVersion", id="version"),
    pytest.param(image(labels=[{"name": "os", "value": "linux"}] * 2), "labels[1]", id="label-twice"),
    pytest.param(image(labels=[{"name": "name", "value": "x"}]), "labels[0].name", id="label-name"),
    pytest.param(image(labels=[{"name": "os", "value": "beos"}]), "labels", id="os"),
    pytest.param(image(labels=[{"name": "os", "value": "linux"}, {"name": "arch", "value": "m68k"}]), "labels", id="arch"),
    pytest.param(image(labels=[{"name": "Version", "value": "1"}]), "labels[0].name", id="label"),
    pytest.param(app(user=None), "app: 'user'", id="no-user"),
    pytest.param(app(group=None), "app: 'group'", id="no-group"),
    pytest.param(app(workingDirectory="srv"), "app.workingDirectory", id="working-directory"),
    pytest.param(app(eventHandlers=[{"name": "post-start", "exec": ["/x"]}]), "app.eventHandlers[0].name", id="handler"),
    pytest.param(app(eventHandlers=[{"name": "pre-start", "exec": ["/x"]}] * 2), "app.eventHandlers[1].name", id="handler-twice"),
    pytest.param(app(environment=[{"name": "A B", "value": ""}]), "app.environment[0].name", id="variable"),
    pytest.param(isolator("os/linux/seccomp-retain-set", CALLS, ("os/linux/seccomp-remove-set", CALLS)), "app.isolators[1].name", id="both-seccomp-sets"),
    pytest.param(isolator("os/linux/seccomp-retain-set", {"set": []}), "app.isolators[0].value.set", id="seccomp-empty"),
    pytest.param(isolator("resource/memory", {"limit": "much"}), "app.isolators[0].value.limit", id="quantity"),
    pytest.param(isolator("resource/block-iops", {"limit": "10"}), "app.isolators[0].value.default", id="block-no-default"),
    pytest.param(isolator("resource/block-iops", {"default": True, "limit": "10", "request": "5"}), "app.isolators[0].value.request", id="block-request"),
    pytest.param(app(ports=[PORT | {"port": 0}]), "app.ports[0].port", id="port-0"),
    pytest.param(app(ports=[PORT | {"port": 65536}]), "app.ports[0].port", id="port-65536"),
    pytest.param(app(ports=[PORT | {"name": "www_"}]), "app.ports[0].name", id="port-name"),
    pytest.param(app(mountPoints=[{"name": "-data", "path": "/data"}]), "app.mountPoints[0].name", id="mount-point-name"),
    pytest.param(image(dependencies=[{"labels": []}]), "dependencies[0]: 'imageName'", id="dependency-no-name"),
    pytest.param(image(dependencies=[{"imageName": "example.com/x", "imageID": "sha256-" + "0" * 64}]), "dependencies[0].imageID", id="dependency-sha256"),
    pytest.param(image(annotations=[{"name": "authors", "value": "x"}] * 2), "annotations[1].name", id="annotation-twice"),
    pytest.param(image(annotations=[{"name": "created", "value": "yesterday"}]), "annotations: created", id="created"),
    pytest.param(image(annotations=[{"name": "homepage", "value": "example.com"}]), "annotations: homepage", id="homepage"),
    pytest.param(pod(apps=POD["apps"] * 2), "apps[1].name", id="pod-app-twice"),
    pytest.param(pod(volumes=POD["volumes"] * 2), "volumes[1].name", id="pod-volume-twice"),
    pytest.param(pod(volumes=[{"name": "data", "kind": "host", "source": "srv"}]), "volumes[0].source", id="pod-source-relative"),
    pytest.param(pod(volumes=[{"name": "data", "kind": "host"}]), "volumes[0]: 'source'", id="pod-no-source"),
    pytest.param(pod(volumes=[{"name": "data", "kind": "empty", "source": "/srv"}]), "volumes[0].source", id="pod-empty-with-source"),
    pytest.param(pod(volumes=[{"name": "data", "kind": "tmpfs"}]), "volumes[0].kind", id="pod-volume-kind"),
    pytest.param(pod(ports=[{"name": "www", "hostPort": 80, "hostIP": "localhost"}]), "ports[0].hostIP", id="pod-host-ip"),
    pytest.param(pod(userLabels={"a": 1}), "userLabels", id="pod-user-label"),
    pytest.param(in_pod(image={"id": "sha256-" + "0" * 64}), "apps[0].image.id", id="pod-image-sha256"),
])  # fmt: skip
def test_documents_that_both_refuse(document: dict[str, Any], problem: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest"
    path.write_text(fastjson.dumps(document))
    judged(path, 1, problem)


@pytest.mark.parametrize(("document", "problem"), [
    pytest.param(isolator("os/linux/capabilities-retain-set", CAPS, ("os/linux/capabilities-remove-set", CAPS)), "app.isolators[1].name", id="both-capability-sets"),
    pytest.param(isolator("resource/memory", {"request": "2G", "limit": "1G"}), "app.isolators[0].value.request", id="request-beyond-limit"),
    pytest.param(app(exec=[""]), "app.exec", id="exec-empty"),
    pytest.param(app(exec=["bin/app"]), "app.exec", id="exec-relative"),
    pytest.param(image(pathWhitelist=["bin/app"]), "pathWhitelist[0]", id="whitelist-relative"),
    pytest.param(app(mountPoints=[{"name": "data", "path": "data"}]), "app.mountPoints[0].path", id="mount-point-relative"),
    pytest.param(image(labels=[{"name": "arch", "value": "amd64"}]), "labels", id="arch-without-os"),
    pytest.param(image(acVersion="1.0.0"), "acVersion", id="newer-major"),
    pytest.param(pod(apps=[]), "apps", id="pod-no-apps"),
    pytest.param(in_pod(image={"name": "example.com/app"}), "apps[0].image", id="pod-no-image-id"),
    pytest.param(in_pod(image={"id": ID[:20]}), "apps[0].image.id", id="pod-image-id-cut"),
    pytest.param(in_pod(mounts=[{"volume": "none", "path": "/data"}]), "apps[0].mounts[0].volume", id="pod-mount-of-nothing"),
    pytest.param(in_pod(mounts=[{"volume": "data"}]), "apps[0].mounts[0]", id="pod-mount-without-path"),
    pytest.param(pod(ports=[{"name": "www", "hostPort": 0}]), "ports[0].hostPort", id="pod-host-port-0"),
    pytest.param(pod(ports=[{"name": "www", "hostPort": 70000}]), "ports[0].hostPort", id="pod-host-port-70000"),
    pytest.param(pod(isolators=[{"name": "example.com/none", "value": 1}]), "isolators[0].name", id="pod-isolator"),
])  # fmt: skip
def test_documents_that_only_we_refuse(document: dict[str, Any], problem: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest"
    path.write_text(fastjson.dumps(document))
    judged(path, 0, problem)


def test_a_kind_that_neither_knows(tmp_path: Path) -> None:
    path = tmp_path / "manifest"
    path.write_text(fastjson.dumps(image(acKind="Image")))
    assert actool(path)[0]
    with pytest.raises(InvalidSpec, match="looks like no document we know"):
        CliRunner().invoke(validate, [str(path)], standalone_mode=False, catch_exceptions=False)


def test_an_unknown_isolator_of_an_image_is_for_the_executor_to_ignore(tmp_path: Path) -> None:
    path = tmp_path / "manifest"
    path.write_text(fastjson.dumps(isolator("example.com/colour", "green")))
    judged(path, 1, "")


@pytest.mark.parametrize("entries", [
    pytest.param((GOOD, ROOTFS, file(b"rootfs/bin/app", b"x")), id="plain"),
    pytest.param((GOOD, ROOTFS, symlink(b"rootfs/etc", b"/usr/etc"), symlink(b"rootfs/up", b"../../..")), id="links-of-the-root"),
    pytest.param((GOOD, ROOTFS, folder(b"rootfs/usr/lib"), symlink(b"rootfs/lib", b"/usr/lib"), file(b"rootfs/lib/x", b"x")), id="through-a-link-that-stays"),
    pytest.param((GOOD, ROOTFS, file(b"rootfs/a", b"x"), hardlink(b"rootfs/b", b"rootfs/a")), id="hard-link"),
])  # fmt: skip
def test_archives_that_are_good(entries: tuple[bytes, ...], tmp_path: Path) -> None:
    path = tmp_path / "image.aci"
    path.write_bytes(archive(*entries))
    judged(path, 0, "")


@pytest.mark.parametrize(("entries", "problem"), [
    pytest.param((GOOD, ROOTFS, file(b"rootfs/a"), file(b"rootfs/a")), "rootfs/a: is there twice", id="file-twice"),
    pytest.param((GOOD, ROOTFS, file(b"other")), "other: does not belong", id="beside"),
    pytest.param((GOOD, ROOTFS, file(b"/rootfs/a")), "/rootfs/a: does not belong", id="absolute"),
    pytest.param((GOOD, ROOTFS, file(b"rootfs/../../x")), "rootfs/../../x", id="climbing"),
    pytest.param((ROOTFS,), "no manifest", id="no-manifest"),
    pytest.param((GOOD, ROOTFS, GOOD), "manifest: is there twice", id="manifest-twice"),
    pytest.param((GOOD,), "no rootfs", id="no-rootfs"),
    pytest.param((GOOD, file(b"rootfs")), "rootfs must be a directory", id="rootfs-file"),
    pytest.param((symlink(b"manifest", b"rootfs/m"), ROOTFS), "must be a regular file", id="manifest-link"),
    pytest.param((GOOD, symlink(b"rootfs", b"/")), "rootfs must be a directory", id="rootfs-link"),
    pytest.param((file(b"manifest", b"name: app"), ROOTFS), "manifest: ", id="manifest-no-json"),
    pytest.param((file(b"manifest", json.dumps(image(name="X")).encode()), ROOTFS), "manifest: name", id="manifest-wrong"),
])  # fmt: skip
def test_archives_that_both_refuse(entries: tuple[bytes, ...], problem: str, tmp_path: Path) -> None:
    path = tmp_path / "image.aci"
    path.write_bytes(archive(*entries))
    judged(path, 1, problem)


@pytest.mark.parametrize(("entries", "problem"), [
    pytest.param((GOOD, ROOTFS, symlink(b"rootfs/out", b"../.."), file(b"rootfs/out/evil", b"x")), "out/evil: leads out of rootfs", id="through-a-link"),
    pytest.param((GOOD, ROOTFS, folder(b"rootfs/a"), symlink(b"rootfs/a/out", b"../.."), file(b"rootfs/a/out/b", b"x")), "a/out/b: leads out of rootfs", id="through-a-link-below"),
    pytest.param((GOOD, ROOTFS, hardlink(b"rootfs/a", b"/etc/passwd")), "rootfs/a", id="hard-link-absolute"),
    pytest.param((GOOD, ROOTFS, hardlink(b"rootfs/a", b"../../etc/passwd")), "../../etc/passwd", id="hard-link-out"),
    pytest.param((GOOD, ROOTFS, file(b"rootfs-evil/x")), "rootfs-evil/x: does not belong", id="rootfs-evil"),
    pytest.param((GOOD, ROOTFS, ROOTFS), "rootfs: is there twice", id="rootfs-twice"),
])  # fmt: skip
def test_archives_that_only_we_refuse(entries: tuple[bytes, ...], problem: str, tmp_path: Path) -> None:
    path = tmp_path / "image.aci"
    path.write_bytes(archive(*entries))
    judged(path, 0, problem)


def test_an_encrypted_image_is_said_to_be(tmp_path: Path) -> None:
    path, home = tmp_path / "image.aci", tmp_path / "gpg"
    path.write_bytes(archive(GOOD, ROOTFS))
    home.mkdir(mode=0o700)
    subprocess.run(
        ["gpg", "--homedir", str(home), "--batch", "--pinentry-mode", "loopback", "--passphrase", "x", "--symmetric",
         "--cipher-algo", "AES256", "--output", str(tmp_path / "dark.aci"), str(path)],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    code, said = actool(tmp_path / "dark.aci")
    assert code
    assert "unable to detect" in said
    with pytest.raises(InvalidSpec, match="is encrypted"):
        CliRunner().invoke(validate, [str(tmp_path / "dark.aci")], standalone_mode=False, catch_exceptions=False)
