"""Commands on stored images, and ``unpack``, which needs no store."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyrkt.base import fastjson
from pyrkt.base.errors import CannotCreate, ImageRefused, NotFound, NotTrusted, PyrktError, UsageError
from pyrkt.base.log import note, warn
from pyrkt.base.units import human_bytes
from pyrkt.cli import show
from pyrkt.cli.clicks import format_option, pass_settings
from pyrkt.cli.fetch import summary
from pyrkt.cli.pods import DURATION
from pyrkt.pod.directory import Pods
from pyrkt.pod.lifecycle import failures
from pyrkt.pod.replay import sweep
from pyrkt.store import ImageRecord, Store
from pyrkt.store.gc import Problem
from pyrkt.store.gc import collect as collect_store
from pyrkt.store.gc import discard as discard_damaged
from pyrkt.store.gc import verify as verify_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrkt.cli.settings import Settings
    from pyrkt.pod.ask import Pull


def _moment(seconds: float, *, full: bool) -> str:
    return show.moment(seconds, now=None if full else time.time())


def _signer(record: ImageRecord) -> str:
    return ", ".join(signer.name or signer.fingerprint for signer in record.signers) or "-"


_FIELDS: dict[str, tuple[str, Callable[[ImageRecord], float | str], Callable[[ImageRecord, bool], str]]] = {
    "id": ("ID", lambda r: r.id, lambda r, full: r.id if full else r.id[:19]),
    "name": ("NAME", lambda r: r.reference or r.name, lambda r, _: r.reference or r.name),
    "importtime": ("IMPORT TIME", lambda r: r.imported, lambda r, full: _moment(r.imported, full=full)),
    "lastused": ("LAST USED", lambda r: r.last_used, lambda r, full: _moment(r.last_used, full=full)),
    "size": ("SIZE", lambda r: r.size, lambda r, full: str(r.size) if full else human_bytes(r.size)),
    "latest": ("LATEST", lambda r: r.latest, lambda r, _: str(r.latest).lower()),
    "signer": ("SIGNER", _signer, lambda r, _: _signer(r)),
}
_SHOWN = "id,name,size,importtime,lastused"
_GRACE_S = 24 * 3600.0


def _store(settings: Settings) -> Store:
    return Store(settings.data).open()


@click.command()
@click.option("--fields", default=_SHOWN, show_default=True, help=f"Columns, of {','.join(_FIELDS)}.")
@click.option("--sort", "keys", default="importtime", show_default=True, help="Fields to sort by.")
@click.option("--order", type=click.Choice(["asc", "desc"]), default="asc", show_default=True, help="Direction.")
@click.option("--full", is_flag=True, help="Whole ids, times and sizes.")
@click.option("--no-legend", is_flag=True, help="Leave out the heading.")
@format_option
@pass_settings
def list_images(settings: Settings, fields: str, keys: str, order: str, full: bool, no_legend: bool, form: str) -> None:
    """List the stored images."""
    chosen = [_field(name) for name in fields.split(",")]
    found = _store(settings).images.all()
    for name in reversed(keys.split(",")):
        found.sort(key=_field(name)[1], reverse=order == "desc")
    if form != "table":
        show.out(show.as_json([summary(record) for record in found], form))
        return
    rows = [[cell(record, full) for _, _, cell in chosen] for record in found]
    show.out(show.table([heading for heading, _, _ in chosen], rows, legend=not no_legend))


def _field(name: str) -> tuple[str, Callable[[ImageRecord], float | str], Callable[[ImageRecord, bool], str]]:
    if name.strip() not in _FIELDS:
        raise UsageError(f"unknown field {name!r}", hint=f"the fields are {', '.join(_FIELDS)}")
    return _FIELDS[name.strip()]


@click.command()
@click.argument("images", nargs=-1, required=True)
@pass_settings
def remove(settings: Settings, images: tuple[str, ...]) -> None:
    """Remove IMAGES from the store. What pods use of them stays until they are gone."""
    store, errors, count = _store(settings), list[PyrktError](), 0
    for text in images:
        try:
            record = store.images.find(text)
            store.images.remove(record.id)
            show.out(f"{record.id[:19]}\n")
            count += 1
        except PyrktError as error:
            errors.append(error)
    if count:
        note(f"{count} image(s) successfully removed")
        sweep(Pods(settings.data))
    failures(errors)


@click.command()
@click.option(
    "--grace-period", type=DURATION, default=_GRACE_S, show_default="24h", help="Time that unused images are kept."
)
@click.option("--all", "everything", is_flag=True, help="Also images that were used lately, if no pod uses them.")
@pass_settings
def collect(settings: Settings, grace_period: float, everything: bool) -> None:
    """Remove images that nothing used for the grace time, and trees, blobs and parts that nothing needs."""
    from pyrkt.pod.status import trees

    store, pods = _store(settings), Pods(settings.data)
    grace = 0.0 if everything else grace_period
    used = {tree for pod in pods.each() for tree in trees(pod)}
    needed = {identity for record in store.images.all() for identity in record.dependencies}
    now = time.time()
    for record in store.images.all():
        idle = now - max(record.last_used, record.imported)
        if idle >= grace and record.id not in needed and not used & set(record.trees):
            store.images.remove(record.id)
            show.out(f"image {record.id[:19]} {record.reference or record.name}\n")
    sweep(pods)
    for line in collect_store(store, used, min(grace, _GRACE_S), wait=True):
        show.out(f"{line}\n")


@click.command()
@click.argument("image")
@click.option("--pretty-print/--no-pretty-print", default=True, show_default=True, help="Indent it.")
@pass_settings
def cat_manifest(settings: Settings, image: str, pretty_print: bool) -> None:
    """Print the manifest of IMAGE: an appc image manifest, or an OCI one."""
    store = _store(settings)
    record = store.images.find(image)
    with store.blobs.open(record.manifest) as file:
        data = file.read()
    if pretty_print:
        show.out(fastjson.pretty(fastjson.loads(data, f"manifest of {record.id[:19]}")))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)  # to the byte, so that its digest can be checked


@click.command()
@click.argument("image")
@click.argument("target", metavar="DIR")
@click.option("--rootfs-only", is_flag=True, help="Write the root file system alone.")
@click.option("--overwrite", is_flag=True, help="Replace DIR if it exists.")
@pass_settings
def render(settings: Settings, image: str, target: str, rootfs_only: bool, overwrite: bool) -> None:
    """Write IMAGE, with what it depends on, to DIR."""
    from pyrkt.pod.imagetree import write_image

    store = _store(settings)
    record = store.images.find(image)
    write_image(store, record, Path(target), whole=True, rootfs_only=rootfs_only, overwrite=overwrite)


@click.command()
@click.argument("image")
@click.argument("target", metavar="DIR")
@click.option("--rootfs-only", is_flag=True, help="Write the root file system alone.")
@click.option("--overwrite", is_flag=True, help="Replace DIR if it exists.")
@pass_settings
def extract(settings: Settings, image: str, target: str, rootfs_only: bool, overwrite: bool) -> None:
    """Write IMAGE, without what it depends on, to DIR."""
    from pyrkt.pod.imagetree import write_image

    store = _store(settings)
    record = store.images.find(image)
    write_image(store, record, Path(target), whole=False, rootfs_only=rootfs_only, overwrite=overwrite)


@click.command()
@click.argument("image")
@click.argument("target", metavar="FILE")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@pass_settings
def export(settings: Settings, image: str, target: str, overwrite: bool) -> None:
    """Write IMAGE to FILE: an ACI as an uncompressed tar of the same id, an OCI image as a layout in a tar."""
    from pyrkt.pod.imagetree import export_image

    if Path(target).exists() and not overwrite:
        raise CannotCreate(f"{target} exists", hint="--overwrite replaces it")
    store = _store(settings)
    export_image(store, store.images.find(image), Path(target))


@click.command()
@click.argument("images", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Check the whole store; the default without IMAGES.")
@click.option("--discard", is_flag=True, help="Take away what is damaged: the next fetch brings it anew.")
@click.option("--repair", is_flag=True, help="Make damaged trees anew from the stored blobs, as rkt does unasked.")
@pass_settings
def verify(settings: Settings, images: tuple[str, ...], everything: bool, discard: bool, repair: bool) -> None:
    """Check IMAGES (all, if none is named): blobs are hashed again, trees compared with what was unpacked."""
    store = _store(settings)
    chosen = set() if everything else {store.images.find(text).id for text in images}
    problems = _problems(store, chosen)
    for problem in problems:
        show.out(f"{problem}\n")
    if repair and problems:
        _repair(store, problems)
        problems = _problems(store, chosen)
    for line in discard_damaged(store, problems) if discard else ():
        show.out(f"{line}\n")
    if problems:
        hint = "" if discard else "--repair makes trees anew, --discard takes away what is damaged; "
        raise ImageRefused(
            f"{len(problems)} problem(s) in the store",
            hint=f"{hint}then fetch the images named above again: pyrkt fetch, or --pull-policy=update",
        )
    count = len(chosen) or len(store.images.all())
    show.out(f"successfully verified {count} image(s)\n")


def _problems(store: Store, chosen: set[str]) -> list[Problem]:
    """Return what is wrong with the images ``chosen``; with any, if there is none."""
    return [problem for problem in verify_store(store) if not chosen or problem.image in chosen]


def _repair(store: Store, problems: list[Problem]) -> None:
    """Make the trees anew that are damaged or gone. What cannot be (a pod uses it, a blob is damaged, too) is said."""
    from pyrkt.image.remake import remake

    damaged = [problem for problem in problems if problem.damaged is None or problem.damaged.kind == "tree"]
    for line in discard_damaged(store, damaged):
        show.out(f"{line}\n")
    for identity in dict.fromkeys(problem.image for problem in damaged):
        try:
            remake(store, store.images.get(identity))
            show.out(f"image {identity}: made anew\n")
        except PyrktError as error:
            warn(f"image {identity[:19]}: {error.message}")


@click.command()
@click.argument("reference", metavar="REF")
@click.argument("target", metavar="DEST")
@click.option("--signature", default="", metavar="FILE", help="Detached signature of the image.")
@click.option("--decryption-key", "keys", multiple=True, metavar="KEY", help="As for fetch; may be repeated.")
@click.option("--authfile", default="", metavar="FILE", help="Registry credentials.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@pass_settings
def unpack(
    settings: Settings, reference: str, target: str, signature: str, keys: tuple[str, ...], authfile: str, quiet: bool
) -> None:
    """Make the bundle DEST (rootfs, config.json, runtime.json) of any image: a stored one, or one proven as by fetch.

    No store is needed, and nothing is added to one.
    """
    from pyrkt.cli.progress import progress
    from pyrkt.pod.ask import Pull
    from pyrkt.pod.export import new_directory
    from pyrkt.pod.images import Source
    from pyrkt.pod.imagetree import write_bundle

    place = new_directory(Path(target))
    pull = Pull(policy="update", decryption_keys=keys, authfile=authfile, insecure=settings.insecure)
    # Beside its destination, so that there is as much room and the layers need not cross file systems.
    with tempfile.TemporaryDirectory(prefix=".pyrkt-unpack-", dir=place.absolute().parent) as scratch:
        try:
            if (stored := _stored(settings, reference, pull)) is not None:
                write_bundle(*stored, place)
                return
            source = Source(f"{scratch}/store", settings.dirs, pull, progress(quiet=quiet))
            write_bundle(source.store, source.fetch(reference, signature), place)
        except BaseException:
            if not any(place.iterdir()):
                place.rmdir()
            raise


def _stored(settings: Settings, reference: str, pull: Pull) -> tuple[Store, ImageRecord] | None:
    """Return the store and the image in it that ``run`` would take, if there are; never by the network."""
    from pyrkt.cli.progress import progress
    from pyrkt.image.reference import FileRef, LayoutRef, parse
    from pyrkt.pod.images import Source

    # What lies on this host is asked itself: it may be younger than what the store has of it.
    if isinstance(parse(reference), LayoutRef | FileRef) or not (Path(settings.data) / "images").is_dir():
        return None
    source = Source(settings.data, settings.dirs, pull.replace(policy="never"), progress(quiet=True))
    try:
        return source.store, source.fetch(reference)
    except (NotFound, NotTrusted):
        return None
