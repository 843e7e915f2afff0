"""Users and groups by the image's own files, strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyrkt.base.errors import ImageRefused, InvalidSpec
from pyrkt.bundle.users import Accounts, Identity
from pyrkt.store.rootfs import Rootfs
from tests.unit.bundle.support import make_rootfs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        pytest.param("", Identity(uid=0, gid=0, name="root", home="/root"), id="nobody-said"),
        pytest.param("root", Identity(uid=0, gid=0, name="root", home="/root"), id="root"),
        pytest.param("web", Identity(uid=33, gid=34, groups=(44, 50), name="web", home="/srv/www"), id="name"),
        pytest.param("web:adm", Identity(uid=33, gid=44, name="web", home="/srv/www"), id="name-and-group"),
        pytest.param("web:9", Identity(uid=33, gid=9, name="web", home="/srv/www"), id="name-and-number"),
        pytest.param("33", Identity(uid=33, gid=34, name="web", home="/srv/www"), id="known-number"),
        pytest.param("33:9", Identity(uid=33, gid=9, name="web", home="/srv/www"), id="two-numbers"),
        pytest.param("5000", Identity(uid=5000, gid=0), id="unknown-number"),
        pytest.param("5000:adm", Identity(uid=5000, gid=44), id="number-and-group"),
        pytest.param("4294967294", Identity(uid=4294967294, gid=0), id="last-id"),
        pytest.param("1234", Identity(uid=1234, gid=0), id="a-number-is-never-a-name"),
        pytest.param("toor", Identity(uid=0, gid=0, name="toor", home="/"), id="another-root"),
    ],
)
def test_oci(tmp_path: Path, text: str, identity: Identity) -> None:
    assert Accounts(make_rootfs(tmp_path)).oci(text) == identity


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("nobody", "user 'nobody' does not exist in the image", id="unknown"),
        pytest.param("web:nobody", "group 'nobody' does not exist in the image", id="unknown-group"),
        pytest.param("broken", "user 'broken' does not exist", id="line-without-number"),
        pytest.param("short", "user 'short' does not exist", id="short-line"),
        pytest.param("huge", "user 'huge' does not exist", id="number-that-wraps"),
        pytest.param("minus", "user 'minus' does not exist", id="negative-number"),
        pytest.param("arabic", "user 'arabic' does not exist", id="arabic-digit"),
        pytest.param("blank", "user 'blank' does not exist", id="number-with-blank"),
        pytest.param("4294967295", "is more than 4294967294", id="minus-one"),
        pytest.param("0:4294967296", "is more than 4294967294", id="group-wraps"),
        pytest.param("1" * 5000, "is more than 4294967294", id="endless"),
    ],
)
def test_oci_refuses(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        Accounts(make_rootfs(tmp_path)).oci(text)
    assert problem in caught.value.message
    assert caught.value.exit_code == 64
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("user", "group", "identity"),
    [
        pytest.param("0", "0", Identity(uid=0, gid=0, groups=(7,), name="root", home="/root"), id="numbers"),
        pytest.param("web", "adm", Identity(uid=33, gid=44, groups=(7,), name="web", home="/srv/www"), id="names"),
        pytest.param("1234", "1234", Identity(uid=77, gid=79, groups=(7,), name="1234", home="/num"), id="names-first"),
        pytest.param("5000", "5001", Identity(uid=5000, gid=5001, groups=(7,)), id="unknown-numbers"),
    ],
)
def test_appc(tmp_path: Path, user: str, group: str, identity: Identity) -> None:
    assert Accounts(make_rootfs(tmp_path)).appc(user, group, (7,)) == identity


def test_appc_owner_of_a_file(tmp_path: Path) -> None:
    rootfs = make_rootfs(tmp_path)
    status = (tmp_path / "bin/tool").stat()
    found = Accounts(rootfs).appc("/bin/tool", "/bin/tool", ())
    assert (found.uid, found.gid) == (status.st_uid, status.st_gid)


@pytest.mark.parametrize(
    ("user", "group", "problem"),
    [
        pytest.param("nobody", "0", "user 'nobody' does not exist", id="user"),
        pytest.param("0", "nobody", "group 'nobody' does not exist", id="group"),
        pytest.param("/none", "0", "user '/none': the image has no such file", id="path"),
        pytest.param("0", "4294967295", "group id 4294967295 is more than", id="beyond"),
        pytest.param("-1", "0", "user '-1' does not exist", id="negative"),
    ],
)
def test_appc_refuses(tmp_path: Path, user: str, group: str, problem: str) -> None:
    with pytest.raises(InvalidSpec, match="image: ") as caught:
        Accounts(make_rootfs(tmp_path)).appc(user, group, ())
    assert problem in caught.value.message


def test_an_image_without_accounts_has_numbers_only(tmp_path: Path) -> None:
    accounts = Accounts(Rootfs((str(tmp_path),)))
    assert accounts.oci("5:6") == Identity(uid=5, gid=6)
    assert accounts.appc("root", "root", ()) == Identity(uid=0, gid=0)
    with pytest.raises(InvalidSpec) as caught:
        accounts.oci("root")
    assert "none at all" in caught.value.hint


def test_the_hint_shows_no_control_characters_of_the_image(tmp_path: Path) -> None:
    accounts = Accounts(
        make_rootfs(
            tmp_path,
            passwd="a\x1b[2J:x:1:1::/:\n\udcff:x:2:2::/:\n".encode("utf-8", "surrogateescape").decode("latin-1"),
        )
    )
    with pytest.raises(InvalidSpec) as caught:
        accounts.oci("b")
    assert caught.value.hint.isprintable()


def test_passwd_through_a_symlink_stays_inside(tmp_path: Path) -> None:
    rootfs = make_rootfs(tmp_path / "root")
    (tmp_path / "outside").write_text("evil:x:1:1::/:\n")
    (tmp_path / "root/etc/passwd").unlink()
    (tmp_path / "root/etc/passwd").symlink_to("../../../../../../../../" + str(tmp_path / "outside"))
    assert Accounts(rootfs).users == ()


@pytest.mark.parametrize("text", ["a:x:1:1::/:" + "x" * (64 << 10), "a:x:1:1::/:\n" * (1 << 17)], ids=["line", "file"])
def test_refuses_endless_accounts(tmp_path: Path, text: str) -> None:
    rootfs = make_rootfs(tmp_path, passwd=text)
    with pytest.raises(ImageRefused, match="/etc/passwd"):
        Accounts(rootfs)
