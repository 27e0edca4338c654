"""What several tests of this chapter use."""

import pytest
import tiktoken
from for_tests import tiktoken_vocabularies


@pytest.fixture(scope="session")
def openai(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabularies")
    patch = pytest.MonkeyPatch()
    for name, value in tiktoken_vocabularies(folder).items():
        patch.setenv(name, value)
    yield tiktoken.get_encoding
    patch.undo()
