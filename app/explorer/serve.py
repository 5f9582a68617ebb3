"""The process that serves the explorer: ``python .../serve.py [--server.port=N ...] -- RUN...``.

It is started by its path, so that nothing of the directory where the user happens to be is run or
read: neither modules there, as ``python -m streamlit`` would import, nor Streamlit's configuration
and secrets.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

FOLDER = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(FOLDER))


def main(arguments: Sequence[str]) -> None:
    """Serve the page until the process is told to end.

    Args:
        arguments: Options of ``streamlit run``, ``--``, and the arguments of the page.
    """
    make_path_safe()
    # Streamlit reads configuration and secrets of the directory it is in.
    os.chdir(FOLDER)
    from app.explorer.launch import read_arguments
    from app.explorer.local_requests import admit_local_only
    from app.explorer.preload import preload

    told = read_arguments(arguments[list(arguments).index("--") + 1 :])
    admit_local_only(told.admitted)
    preload(told.runs)
    from streamlit.web.cli import main as run_streamlit

    page = os.path.join(FOLDER, "page.py")
    run_streamlit(["run", page, *arguments], prog_name="streamlit")


def make_path_safe() -> None:
    """Import what is installed or named by ``PYTHONPATH``, and from no other directory."""
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    wanted = [os.path.abspath(entry) for entry in named if entry]
    # Python puts the folder of a script first, where our modules would hide others of their names,
    # and takes an empty entry of PYTHONPATH, as in "PYTHONPATH=:/more", for the working directory.
    unwanted = [FOLDER, ""]
    if "" in named and wanted and os.getcwd() not in wanted:
        unwanted.append(os.getcwd())
    sys.path[:] = [entry for entry in sys.path if entry not in unwanted]
    # From a checkout that is not installed, `app` lies in no other place of the path.
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    if wanted:
        # Processes that this one starts are in another directory.
        os.environ["PYTHONPATH"] = os.pathsep.join(wanted)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
