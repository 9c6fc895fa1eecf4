"""Keys: who counts, in which role, and who never again."""

from pathlib import Path

import pytest

from undertone import identity, keys
from undertone.errors import ConfigError, DecisionError
from undertone.keys import Trust
from undertone.settings import Settings

LONG = "correct horse battery"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, actor="ann")


@pytest.fixture
def team(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, actor="ann", profile="team")


def enrol(settings: Settings, name: str, role: keys.Role = "approver", passphrase: str | None = None) -> keys.Key:
    return keys.trust(settings, name, keys.make(settings, name, passphrase)[1], role)


def test_the_first_key_of_a_single_person_makes_itself(settings: Settings) -> None:
    signer = identity.approver(settings, "ann")
    assert signer.key.stat().st_mode & 0o077 == 0
    assert [key.name for key in keys.approvers(settings)] == ["ann"]
    assert not keys.separate(settings)
    with pytest.raises(ConfigError, match="trusted approvers are ann"):
        identity.approver(settings, "bo")


def test_two_approvers_separate_duties(settings: Settings) -> None:
    enrol(settings, "ann")
    enrol(settings, "tom", "trainer")
    assert not keys.separate(settings)
    enrol(settings, "bo")
    assert keys.separate(settings)
    keys.revoke(settings, "bo")
    assert not keys.separate(settings)
    assert keys.separate(settings.model_copy(update={"profile": "team"}))


def test_the_same_key_under_two_names_is_one_person(settings: Settings) -> None:
    ann = enrol(settings, "ann")
    with pytest.raises(ConfigError, match="already counts as 'ann'"):
        keys.trust(settings, "anna", ann.path, "approver")
    (settings.trusted_dir / "anna.pub").write_bytes(ann.path.read_bytes())  # by hand
    assert not keys.separate(settings)


def test_a_revoked_key_never_counts_again(settings: Settings) -> None:
    ann = enrol(settings, "ann")
    (gone,) = keys.revoke(settings, "ann")
    assert gone.fingerprint == ann.fingerprint
    assert keys.approvers(settings) == []
    assert [key.name for key in Trust.of(settings).revoked()] == ["ann"]
    for name in ("ann", "another"):
        with pytest.raises(DecisionError, match="never revoked"):
            keys.trust(settings, name, settings.keys_dir / "ann.pub", "approver")
        (settings.trusted_dir / f"{name}.pub").write_bytes((settings.keys_dir / "ann.pub").read_bytes())  # by hand
        assert Trust.of(settings).approver(name) is None
    with pytest.raises(ConfigError, match="keys of nobody"):
        keys.revoke(settings, "ann")
    with pytest.raises(ConfigError, match="trusted approvers are nobody"):  # no new key makes itself
        identity.approver(settings, "mallory")


def test_a_name_keeps_its_key(settings: Settings) -> None:
    enrol(settings, "ann")
    other = Settings(home=settings.home / "elsewhere", actor="ann")
    _, public = keys.make(other, "ann")
    with pytest.raises(ConfigError, match="no other key of 'ann'"):
        keys.trust(settings, "ann", public, "approver")
    with pytest.raises(ConfigError, match="no key of 'ann' yet"):
        keys.make(settings, "ann")


@pytest.mark.parametrize("name", ["", "../ann", "a/b", ".hidden", "a b", "x" * 65, "ann\n"])
def test_a_name_is_no_path(settings: Settings, name: str) -> None:
    with pytest.raises(ConfigError, match="a name of letters"):
        keys.make(settings, name)


@pytest.mark.parametrize("passphrase", [None, "", "short"])
def test_a_team_needs_passphrases(team: Settings, passphrase: str | None) -> None:
    with pytest.raises(ConfigError, match="at least 12"):
        keys.make(team, "ann", passphrase)


def test_a_passphrase_proves_the_name(team: Settings) -> None:
    enrol(team, "ann", passphrase=LONG)
    assert b"ENCRYPTED" in (team.keys_dir / "ann.key").read_bytes()
    assert identity.approver(team, "ann", LONG).name == "ann"
    assert LONG not in repr(identity.approver(team, "ann", LONG))
    with pytest.raises(DecisionError, match=r"the passphrase of ann\.key"):
        identity.approver(team, "ann", "another passphrase")
    with pytest.raises(ConfigError, match=r"the passphrase of ann\.key"):
        identity.approver(team, "ann")
    assert identity.approver(team.model_copy(update={"passphrase": _secret(LONG)}), "ann").passphrase == LONG


def test_a_key_without_passphrase_does_not_count_in_a_team(settings: Settings, team: Settings) -> None:
    enrol(settings, "ann")
    with pytest.raises(ConfigError, match="with a passphrase in the team profile"):
        identity.approver(team, "ann")


def test_the_name_of_another_needs_their_key(settings: Settings) -> None:
    enrol(settings, "ann")
    enrol(settings, "bo")
    (settings.keys_dir / "bo.key").write_bytes((settings.keys_dir / "ann.key").read_bytes())
    with pytest.raises(DecisionError, match="another's"):
        identity.approver(settings, "bo")


def test_a_trainer_is_asked_for_proof_where_duties_are_separated(settings: Settings) -> None:
    enrol(settings, "ann")
    assert identity.trainer(settings, "tom") is None
    enrol(settings, "bo")
    with pytest.raises(ConfigError, match="proves that 'tom' trains"):
        identity.trainer(settings, "tom")
    enrol(settings, "tom", "trainer")
    assert identity.trainer(settings, "tom").name == "tom"
    with pytest.raises(ConfigError, match="trusted approvers are ann, bo"):
        identity.approver(settings, "tom")


@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_a_file_that_is_no_key_counts_for_nothing(settings: Settings, content: bytes) -> None:
    settings.trusted_dir.mkdir(parents=True)
    (settings.trusted_dir / "eve.pub").write_bytes(content)
    assert keys.approvers(settings) == []
    with pytest.raises(ConfigError, match="public key in PEM form"):
        keys.trust(settings, "eve", settings.trusted_dir / "eve.pub", "approver")


def test_a_key_of_another_kind_is_told(settings: Settings) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    path = settings.home / "ed.key"
    path.write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(ConfigError, match="a key of another kind"):
        keys.unlock(path, None)
    path.write_text("nothing")
    with pytest.raises(ConfigError, match="a file that is none"):
        keys.unlock(path, None)
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        keys.unlock(settings.home / "gone.key", None)


def test_mlflow_without_a_server_knows_nobody(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="an MLflow server with basic-auth"):
        identity.mlflow_user(settings, "ann", "secret")


def _secret(value: str):
    from pydantic import SecretStr

    return SecretStr(value)
