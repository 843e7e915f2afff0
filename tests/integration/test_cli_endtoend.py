"""From a name to a running program by the command line alone: a real registry over TLS, a real signature, a limit."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import keys, registry, skopeo, tls
from tests.support.pods import Pyrkt, make_layout

pytestmark = [pytest.mark.root, pytest.mark.peers]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A registry with a signed image ``good`` and an unsigned one ``bad``; a configuration that wants signatures."""
    base = tmp_path_factory.mktemp("served")
    authority = tls.Authority(base / "ca")
    layout = make_layout(base / "layout")
    with registry.running(base / "registry", authority) as server, keys.gpg_home() as gpg:
        gpg.key("signer", at=0)
        etc = base / "etc"
        certs = etc / "certs.d" / server.host
        certs.mkdir(parents=True)
        shutil.copy(authority.cert, certs / "ca.crt")
        (etc / "registries.d").mkdir()
        lookaside = f"file://{base}/lookaside"
        (etc / "registries.d/tests.yaml").write_text(
            f"docker:\n  {server.host}:\n    lookaside: {lookaside}\n    lookaside-staging: {lookaside}\n"
        )
        (base / "signer.asc").write_bytes(gpg.public("signer"))
        wanted = [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(base / "signer.asc")}]
        policy = {"default": [{"type": "reject"}], "transports": {"docker": {server.host: wanted}}}
        (etc / "policy.json").write_text(json.dumps(policy))
        copy = [
            "--registries.d",
            str(etc / "registries.d"),
            "--insecure-policy",
            "copy",
            "-q",
            f"--dest-cert-dir={certs}",
        ]
        home = {**os.environ, "GNUPGHOME": str(gpg.home)}
        sign = ["--sign-by", "signer@example.com"]
        skopeo.run(*copy, *sign, f"oci:{layout}:bb", f"docker://{server.host}/good:1", env=home)
        skopeo.run(*copy, f"oci:{layout}:bb", f"docker://{server.host}/bad:1", env=home)
        yield base, server.host


@pytest.fixture
def tool(tmp_path: Path, served: tuple[Path, str]) -> Iterator[Pyrkt]:
    """The command with that configuration, every check on, and an empty store."""
    (tmp_path / "etc").symlink_to(served[0] / "etc")
    made = Pyrkt(tmp_path, insecure="")
    yield made
    assert made.clean() == []


def test_one_command_from_a_name_to_a_running_program(tool: Pyrkt, served: tuple[Path, str]) -> None:
    name = f"docker://{served[1]}/good:1"
    assert tool.ok("run", name, "--memory=64Mi", "--", "echo", "fetched and run") == "fetched and run\n"
    record = json.loads(tool.ok("image", "list", "--format=json"))[0]
    assert [signer["format"] for signer in record["signers"]] == ["simple"]
    assert (record["insecure"], record["reference"]) == ([], name)
    # From now on the registry is not asked.
    assert tool.ok("run", "--pull-policy=never", name, "--", "echo", "stored") == "stored\n"
    assert tool.ok("run", record["id"][:20], "--", "echo", "by id") == "by id\n"
    text = tool.call("--debug", "fetch", "--json", name)
    assert json.loads(text.out)["id"] == record["id"]


@pytest.mark.parametrize("verb", [["run"], ["fetch"], ["prepare"], ["plan"]])
def test_an_unsigned_image_is_refused_with_the_reason_and_nothing_is_stored(
    tool: Pyrkt, served: tuple[Path, str], verb: list[str]
) -> None:
    answer = tool.call(*verb, f"docker://{served[1]}/bad:1")
    assert answer.code == 78
    assert (answer.out, answer.err.count("\n")) == ("", 2)
    assert "signed" in answer.err
    assert json.loads(tool.ok("image", "list", "--format=json")) == []
    assert tool.pods() == []


def test_what_is_not_there_is_named(tool: Pyrkt, served: tuple[Path, str]) -> None:
    answer = tool.call("run", f"docker://{served[1]}/none:1")
    assert answer.code in {66, 78}
    assert f"{served[1]}/none" in answer.err
    assert "Traceback" not in answer.err


def test_a_registry_that_does_not_answer_is_named(tool: Pyrkt) -> None:
    answer = tool.call("run", f"docker://127.0.0.1:{registry.free_port()}/x")
    assert answer.code in {69, 78}
    assert "127.0.0.1" in answer.err


def test_fetch_in_a_pipe_is_quiet(tool: Pyrkt, served: tuple[Path, str]) -> None:
    answer = tool.call("fetch", f"docker://{served[1]}/good:1")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("sha256-")
