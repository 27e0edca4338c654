"""Downloads that survive a bad network: resumed, retried, checked, and never half there."""

import shutil
import sys
import time
from hashlib import sha256
from pathlib import Path

import requests
from filelock import FileLock
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))
from flags import UserError

ATTEMPTS = 5
TIMEOUTS = (10, 60)  # seconds to connect, and to wait for the next bytes
PIECE = 1 << 16


class Incomplete(Exception):
    """The connection ended before the file did, or the server asked to come back later."""


PASSING = (Incomplete, requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def checksum(path):
    digest = sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def check(path, source, expected_sha256, expected_size):
    """Delete the file and raise UserError if it is not what was expected."""
    size = path.stat().st_size
    if expected_size is not None and size != expected_size:
        problem = f"{size:,} bytes instead of {expected_size:,}"
    elif expected_sha256 is not None and checksum(path) != expected_sha256:
        problem = "a wrong checksum (the file has changed there, or was damaged on the way)"
    else:
        return
    path.unlink()
    raise UserError(f"{source} has {problem}: try again, or name another source with --mirror")


def fetch(url, part, first_bytes, announced):
    """Append to `part` what it still lacks of the file at `url`. Raises Incomplete if it may be tried again."""
    have = part.stat().st_size if part.exists() else 0
    if first_bytes is not None and have >= first_bytes:
        return
    headers = {"Accept-Encoding": "identity"}  # so that bytes on the wire are bytes of the file
    if have or first_bytes is not None:
        headers["Range"] = f"bytes={have}-{first_bytes - 1 if first_bytes else ''}"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUTS) as response:
        if response.status_code == 416:  # nothing beyond what we have; whether that is right is checked later
            return
        if response.status_code in (429, 500, 502, 503, 504):
            raise Incomplete(f"the server answered {response.status_code}")
        if response.status_code not in (200, 206):
            answer = f"{response.status_code} {response.reason}"
            raise UserError(f"{url} answered {answer}: name another source with --mirror")
        if response.status_code == 200:  # the server does not resume: from the start
            have = 0
        length = int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
        end = first_bytes or (have + length if length is not None else None)
        if end and end - have > shutil.disk_usage(part.parent).free:
            raise UserError(f"{end - have:,} bytes don't fit on the disk of {part.parent}: make room, then try again")
        progress = tqdm(desc=announced, total=end, initial=have, unit="B", unit_scale=True, leave=False)
        with open(part, "ab" if have else "wb") as file, progress:
            for piece in response.iter_content(PIECE):
                piece = piece[: end - have] if end else piece
                file.write(piece)
                have += len(piece)
                progress.update(len(piece))
                if have == end:
                    return
        if end is not None:
            raise Incomplete(f"the connection ended after {have:,} of {end:,} bytes")


def download(url, path, expected_sha256=None, expected_size=None, first_bytes=None):
    """Bring the file at `url` (its first bytes only, if told) to `path`; do nothing if it is there.

    What arrives is kept in `path`.part, to be resumed by a range request, until it is whole and right.
    Raises UserError if it can't be had: no network, not found, wrong checksum or size, disk full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with FileLock(f"{path}.lock"):  # a second script waits for the first one's download
        if path.exists():
            return
        for attempt in range(ATTEMPTS):
            try:
                fetch(url, part, first_bytes, path.name)
                break
            except PASSING as error:
                problem = error
            except requests.RequestException as error:
                raise UserError(f"{url} is no address to download from: {error}") from error
            except OSError as error:
                raise UserError(f"can't write {part}: {error.strerror}; make room, then try again") from error
            if attempt < ATTEMPTS - 1:
                time.sleep(2**attempt)
        else:
            reason = problem if isinstance(problem, Incomplete) else "no connection"
            raise UserError(f"can't download {url}: {reason}; what came is kept, so try again later, or use --mirror")
        check(part, url, expected_sha256, expected_size)
        part.replace(path)


def copy(source, path, expected_sha256=None, expected_size=None):
    """The same from a folder: bring the file `source` to `path`, whole and right."""
    if not source.is_file():
        raise UserError(f"no file {source} in the mirror: name another with --mirror")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with FileLock(f"{path}.lock"):
        if not path.exists():
            shutil.copyfile(source, part)
            check(part, source, expected_sha256, expected_size)
            part.replace(path)
