"""The downloader against a real HTTP server on loopback that serves real files, and misbehaves on demand."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import corpora
import download as downloads
import pytest
from download import download
from flags import UserError
from for_tests import shared

FILE = "tinyshakespeare/input.txt"
SIZE = 1_115_394
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


class Handler(BaseHTTPRequestHandler):
    """Serves the shared data with range requests; `server.faults` says how each coming request fails."""

    def do_GET(self):
        fault = self.server.faults.pop(0) if self.server.faults else None
        self.server.seen.append((self.path, self.headers.get("Range")))
        path = shared(self.path.lstrip("/")) if (self.server.root / self.path.lstrip("/")).is_file() else None
        if isinstance(fault, int) or path is None:
            self.send_error(fault or 404)
            return
        body = path.read_bytes()
        start, end = 0, len(body)
        if (range := self.headers.get("Range")) and fault != "no ranges":
            first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", range).groups()
            start, end = int(first), min(end, int(last) + 1) if last else end
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        self.wfile.write(body[start : start + 262_144] if fault == "cut" else body[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads.time, "sleep", lambda seconds: server.waits.append(seconds))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.faults, server.seen, server.waits = [], [], []
    server.root = shared("MANIFEST.md").parent
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_whole_file_once(server, tmp_path):
    download(f"{server.url}/{FILE}", tmp_path / "a", SHA256, SIZE)
    download(f"{server.url}/{FILE}", tmp_path / "a", SHA256, SIZE)
    assert (tmp_path / "a").stat().st_size == SIZE and len(server.seen) == 1 and names(tmp_path) == ["a"]


def test_a_cut_connection_is_resumed_where_it_broke(server, tmp_path):
    server.faults = ["cut", "cut"]
    download(f"{server.url}/{FILE}", tmp_path / "a", SHA256)
    assert [range for _, range in server.seen] == [None, "bytes=262144-", "bytes=524288-"]
    assert server.waits == [1, 2], "each wait is longer than the one before"


def test_a_server_that_does_not_resume_starts_over(server, tmp_path):
    server.faults = ["cut", "no ranges"]
    download(f"{server.url}/{FILE}", tmp_path / "a", SHA256)
    assert (tmp_path / "a").stat().st_size == SIZE


def test_what_came_is_kept_when_it_gives_up_and_used_the_next_time(server, tmp_path):
    server.faults = ["cut", 500, 503, 502, 504]
    with pytest.raises(UserError, match="try again later"):
        download(f"{server.url}/{FILE}", tmp_path / "a", SHA256)
    assert names(tmp_path) == ["a.part"] and (tmp_path / "a.part").stat().st_size == 262_144
    download(f"{server.url}/{FILE}", tmp_path / "a", SHA256)
    assert server.seen[-1][1] == "bytes=262144-" and names(tmp_path) == ["a"]


def test_500_then_200(server, tmp_path):
    server.faults = [500, 429]
    download(f"{server.url}/{FILE}", tmp_path / "a", SHA256)
    assert len(server.seen) == 3


def test_404_is_not_tried_again(server, tmp_path):
    with pytest.raises(UserError, match="404"):
        download(f"{server.url}/missing", tmp_path / "a")
    assert len(server.seen) == 1 and names(tmp_path) == []


def test_a_wrong_checksum_or_size_is_never_taken_for_data(server, tmp_path):
    with pytest.raises(UserError, match="wrong checksum"):
        download(f"{server.url}/{FILE}", tmp_path / "a", "0" * 64)
    with pytest.raises(UserError, match=r"1,115,394 bytes instead of 5"):
        download(f"{server.url}/{FILE}", tmp_path / "a", None, 5)
    assert names(tmp_path) == []


def test_a_finished_part_is_not_fetched_again(server, tmp_path):
    (tmp_path / "a.part").write_bytes(shared(FILE).read_bytes())
    download(f"{server.url}/{FILE}", tmp_path / "a", SHA256)
    assert server.seen == [(f"/{FILE}", f"bytes={SIZE}-")] and names(tmp_path) == ["a"]


def test_first_bytes_only(server, tmp_path):
    expected = shared(FILE).read_bytes()[:400_000]
    for faults in ([], ["no ranges"], ["cut"]):
        server.faults = faults
        download(f"{server.url}/{FILE}", tmp_path / "a", None, 400_000, first_bytes=400_000)
        assert (tmp_path / "a").read_bytes() == expected
        (tmp_path / "a").unlink()


def test_no_space(server, tmp_path, monkeypatch):
    full = downloads.shutil._ntuple_diskusage(10**9, 10**9, 1000)
    with monkeypatch.context() as patch:
        patch.setattr(downloads.shutil, "disk_usage", lambda path: full)
        with pytest.raises(UserError, match="make room"):
            download(f"{server.url}/{FILE}", tmp_path / "a")
    if downloads.Path("/dev/full").exists():
        (tmp_path / "b.part").symlink_to("/dev/full")
        with pytest.raises(UserError, match="No space left"):
            download(f"{server.url}/{FILE}", tmp_path / "b")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_no_network_and_no_address(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads.time, "sleep", lambda seconds: None)
    with pytest.raises(UserError, match="no connection"):
        download("http://127.0.0.1:9/file", tmp_path / "a")
    with pytest.raises(UserError, match="no address"):
        download("file-without-scheme", tmp_path / "a")


def test_a_mirror_serves_named_corpora(server, tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "DATA", tmp_path)
    corpora.find("mmlu/dev/formal_logic_dev.csv", server.url)
    corpora.find("tinystories", server.url + "/")
    assert [path for path, _ in server.seen] == ["/mmlu/dev/formal_logic_dev.csv", "/tinystories/train_2MiB.txt"]
    with pytest.raises(UserError, match="404"):
        corpora.find("wikitext-2", server.url)
    with pytest.raises(UserError, match="mirror"):
        corpora.find("wikitext-2", str(tmp_path))
