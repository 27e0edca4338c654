"""Real weights by their name on the hub, here one on this machine."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pretrained
import pytest
from pretrained import is_pretrained, load_pretrained
from their_models import difference, refused, saved, their_model


class Hub(BaseHTTPRequestHandler):
    """Serves a folder as huggingface.co does: large files by a redirect that tells their checksum."""

    def answer(self, with_body):
        self.server.seen.append(f"{self.command} {self.path}")
        file = self.server.folder / self.path.rpartition("/")[2]
        if self.path.startswith("/cdn/") or (self.path.startswith("/me/tiny/resolve/main/") and file.is_file()):
            body = file.read_bytes()
            large = file.suffix == ".safetensors" and not self.path.startswith("/cdn/")
            self.send_response(302 if large else 200)
            if large:
                self.send_header("Location", f"/cdn/{file.name}")
                digest = hashlib.sha256(body + self.server.damage).hexdigest()
                self.send_header("X-Linked-ETag", f'"{digest}"')
            self.send_header("Content-Length", "0" if large else str(len(body)))
            self.end_headers()
            self.wfile.write(body if with_body and not large else b"")
        else:
            self.send_error(404 if self.path.startswith("/me/tiny/") else 401)

    def do_GET(self):
        self.answer(True)

    def do_HEAD(self):
        self.answer(False)

    def log_message(self, *words):
        """The test looks at `seen` instead."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.seen, server.damage = tmp_path / "served", [], b""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(pretrained, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("size", ["1GB", "20KB"])
def test_a_model_of_the_hub_is_downloaded_once(hub, size, monkeypatch):
    theirs = their_model("llama 3")
    theirs.generation_config.eos_token_id = [7, 9]
    saved(theirs, hub.folder, max_shard_size=size)
    model, tokenizer = load_pretrained("me/tiny")
    assert difference(model, theirs) <= 1e-5 and tokenizer.end_tokens == (7, 9)
    seen = len(hub.seen)
    assert not [line for line in hub.seen if line.startswith("HEAD /cdn")], "the redirect has no checksum"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9/")  # now there is no network
    load_pretrained("me/tiny")
    assert len(hub.seen) == seen
    assert "can't reach http://127.0.0.1:9 for me/other" in refused("me/other")


def test_what_the_hub_does_not_have(hub):
    theirs = their_model("llama 3")
    assert "answers 401 for config.json of me/other" in refused("me/other")
    saved(theirs, hub.folder)
    (hub.folder / "generation_config.json").unlink()  # older models have none
    hub.damage = b"x"
    assert "model.safetensors has a wrong checksum" in refused("me/tiny")
    hub.damage = b""
    (hub.folder / "model.safetensors").unlink()
    assert "answers 404 for model.safetensors.index.json of me/tiny" in refused("me/tiny")


def test_a_model_of_the_hub_without_settings_of_generation_needs_no_network_again(hub, monkeypatch):
    saved(their_model("llama 3"), hub.folder)
    (hub.folder / "generation_config.json").unlink()
    load_pretrained("me/tiny")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9/")
    load_pretrained("me/tiny")


def test_what_names_real_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me").mkdir()
    (tmp_path / "me" / "mine").write_bytes(b"")
    for name in ("smollm2", "gpt2", "Qwen/Qwen3-0.6B", "a.gguf", "x/a.gguf", "a.bin", tmp_path):
        assert is_pretrained(name)
    for name in ("untrained", "lm.pt", "checkpoints/lm.pt", "me/mine", "/a/b/c", "a/b/c", "../a"):
        assert not is_pretrained(name)
    assert pretrained.hub_name("gpt2") == "openai-community/gpt2" and pretrained.hub_name("x/a.gguf") is None
