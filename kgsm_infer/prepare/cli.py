"""``kgsm-infer prepare``: parse, call one function of this wing, print."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def prepare() -> None:
    """The inputs: from products and archives to what `map` and `paddocks` read."""
