"""Signatures of survey tools: as their documentation writes them, and nothing of the secret elsewhere."""

import base64
import hashlib
import hmac

import pytest
from pydantic import SecretStr

from serving.errors import Stranger
from serving.signatures import SCHEMES, Signatures, sign
from undertone.settings import Settings

SECRET = "between us"


@pytest.fixture
def signatures(tmp_path):
    return Signatures(Settings(home=tmp_path, typeform_secret=SecretStr(SECRET), delighted_secret=SecretStr(SECRET)))


def test_they_are_written_as_the_tools_write_them():
    digest = hmac.new(SECRET.encode(), b"{}", hashlib.sha256)
    assert sign("typeform", SECRET.encode(), b"{}") == "sha256=" + base64.b64encode(digest.digest()).decode()
    assert sign("delighted", SECRET.encode(), b"{}") == "sha256=" + digest.hexdigest()


@pytest.mark.parametrize("tool", SCHEMES)
def test_only_the_right_one_holds(signatures, tool):
    header = SCHEMES[tool].header
    good = sign(tool, SECRET.encode(), b"{}")
    signatures.check(tool, {header: good}, b"{}")
    assert signatures.claimed({header: good}) == tool
    for wrong in (good[:-1], good + " ", good.removeprefix("sha256="), "", "\xff", good.upper()):
        with pytest.raises(Stranger):
            signatures.check(tool, {header: wrong}, b"{}")
    with pytest.raises(Stranger):
        signatures.check(tool, {}, b"{}")


def test_without_a_secret_a_signature_says_nothing(tmp_path):
    signatures = Signatures(Settings(home=tmp_path))
    assert signatures.claimed({SCHEMES["typeform"].header: "sha256=x"}) is None
    assert not signatures.asked_of("typeform")


def test_a_child_process_is_not_told_the_secret(tmp_path):
    settings = Settings(home=tmp_path, typeform_secret=SecretStr(SECRET), delighted_secret=SecretStr(SECRET))
    assert not {name for name in settings.environment() if "SECRET" in name}
    assert SECRET not in repr(settings)
