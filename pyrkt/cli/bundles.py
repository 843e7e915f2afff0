"""``pyrkt bundle``: bundles on disk, as pyrkt-oci and its peers run them."""

from __future__ import annotations

from pathlib import Path

import click

from pyrkt.base.errors import printable
from pyrkt.cli import show


@click.command()
@click.option("--to", "form", type=click.Choice(["2015", "1.x"]), help="Default: the form that it has not.")
@click.option("--drop", is_flag=True, help="Leave out what the form of 2015 cannot say, and list it.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("dest", type=click.Path(path_type=Path), required=False)
def convert(form: str | None, drop: bool, bundle: Path, dest: Path | None) -> None:
    """Rewrite the documents of BUNDLE: config.json of today, or config.json and runtime.json of 2015 (OCI 0.1, 0.2).

    With DEST they are written there, and name the root file system of BUNDLE by its full path.
    """
    from pyrkt.bundle.convert import convert as rewrite

    for place in rewrite(bundle, dest or bundle, form or "", drop=drop):
        show.out(f"left out: {printable(place)}\n")
