"""``pyrkt validate``: what a document is, and all that is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec
from pyrkt.cli.validate import judge, recognise, validate
from pyrkt.spec.example import example_config

DIGEST = "sha256:" + "0" * 64
DESCRIPTOR = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 1}
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": DIGEST, "size": 1}
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": DESCRIPTOR,
    "layers": [LAYER],
}
ACI = {"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "example.com/app"}


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        pytest.param(ACI, "appc-image", id="aci"),
        pytest.param(MANIFEST, "oci-manifest", id="manifest"),
        pytest.param({"schemaVersion": 2, "manifests": []}, "oci-index", id="index"),
        pytest.param({"imageLayoutVersion": "1.0.0"}, "oci-layout", id="layout"),
        pytest.param({"default": [{"type": "reject"}]}, "containers-policy", id="policy"),
        pytest.param(example_config().dump(), "oci-runtime", id="bundle"),
    ],
)
def test_a_right_document_is_recognised_and_valid(document: dict[str, Any], kind: str) -> None:
    assert judge(fastjson.dumps(document).encode(), "x.json") == (kind, [])


def test_every_violation_is_named_with_its_place() -> None:
    wrong = MANIFEST | {"config": DESCRIPTOR | {"size": -1}, "layers": [LAYER | {"digest": "md5:0"}]}
    _, problems = judge(fastjson.dumps(wrong).encode(), "x.json")
    assert len(problems) == 2
    assert problems[0].startswith("x.json: config.size: ")
    assert problems[1].startswith("x.json: layers[0].digest: ")


def test_what_a_schema_cannot_say_is_said_by_the_reader() -> None:
    labels = [{"name": "os", "value": "linux"}, {"name": "os", "value": "linux"}]
    _, problems = judge(fastjson.dumps(ACI | {"labels": labels}).encode(), "x.json")
    assert len(problems) == 1
    assert "labels[1]" in problems[0]


@pytest.mark.parametrize("text", ["{}", "[]", "1", '{"x":1}'], ids=["empty", "array", "number", "other"])
def test_what_looks_like_nothing_is_said_so(text: str) -> None:
    with pytest.raises(InvalidSpec):
        recognise(fastjson.loads(text), "x.json")


def test_a_directory_is_the_bundle_in_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(fastjson.pretty(example_config().dump()))
    done = CliRunner().invoke(validate, [str(tmp_path)], standalone_mode=False)
    assert done.exception is None
    assert done.output.startswith(f"{tmp_path}/config.json: valid")


def test_one_bad_document_of_two_is_an_error_after_both_are_judged(tmp_path: Path) -> None:
    (tmp_path / "good").write_text(fastjson.dumps(MANIFEST))
    (tmp_path / "bad").write_text(fastjson.dumps(MANIFEST | {"layers": 1}))
    done = CliRunner().invoke(validate, [str(tmp_path / "bad"), str(tmp_path / "good")], standalone_mode=False)
    assert isinstance(done.exception, InvalidSpec)
    assert "bad: layers" in done.output
    assert "good: valid" in done.output
