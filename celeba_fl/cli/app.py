"""The `celeba-fl` command: what `flwr run` leaves to the user."""

import errno
import gc
import io
import sys

import typer

from celeba_fl.cli import apps, browser, export, membership, models, pages, runs, sites, studies
from celeba_fl.common.errors import InputError

# What is wrong with a disk that the user can mend, and how.
DISK = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room there"),
    **dict.fromkeys((errno.EROFS, errno.EACCES), "have it readable and writable for you"),
}

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
deploy = typer.Typer(help="Run the app on processes of their own.", no_args_is_help=True)
app.add_typer(deploy, name="deploy")
deploy.command()(sites.local)
for command in (
    *(runs.run, runs.runs, studies.baseline, studies.sweep, studies.fairer, studies.contributions),
    *(membership.withdraw, membership.join, membership.serve),
    *(models.predict, models.sample, models.teach),
    *(pages.report, pages.compare, pages.dashboard, browser.browser),
    *(sites.credentials, sites.check_site, sites.split),
    *(export.export, apps.new, apps.keys),
):
    app.command()(command)


def main() -> None:
    """Run the command; an error that the user can mend gets one line and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what it cannot say becomes an escape
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except InputError as error:
        print(f"celeba-fl: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in DISK or not error.filename:
            raise
        what = f"{error.filename}: {error.strerror}; {DISK[error.errno]}, and repeat the command"
        print(f"celeba-fl: {what}", file=sys.stderr)
        raise SystemExit(2) from None
    finally:
        gc.freeze()  # else all that has been imported is searched for cycles as the process ends
