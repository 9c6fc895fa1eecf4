"""Who may come in: keys on disk, the ring that follows them, a proxy's word, rates."""

import json
import os
import stat
import threading
from datetime import UTC, datetime

import pytest

from serving import access, api_keys
from serving.access import Access, KeyRing, Limiter
from serving.errors import NoKeys, Stranger, TooOften
from serving.http import Call
from serving.metrics import Metrics
from undertone.errors import ConfigError
from undertone.settings import Settings


def call(peer="10.0.0.9", **headers):
    return Call(
        method="POST", path="/v1/score", query="", headers={n.replace("_", "-"): v for n, v in headers.items()},
        received_at=datetime(2026, 11, 2, tzinfo=UTC), request_id="r", deadline=0.0, peer=peer,
    )  # fmt: skip


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


@pytest.fixture
def path(settings):
    return api_keys.path_of(settings)


def doors(settings, **changes):
    return Access(settings.model_copy(update=changes), Metrics())


# keys on disk


def test_the_file_keeps_no_key(path):
    key = api_keys.create(path, "shop", "20/minute")
    assert key.startswith("undertone_")
    assert len(key) > 50
    text = path.read_text()
    assert key not in text
    assert key.removeprefix("undertone_") not in text
    (row,) = json.loads(text)["keys"]
    assert (row["name"], row["sha256"], row["rate"], row["revoked"]) == (
        "shop",
        api_keys.hashed(key),
        "20/minute",
        None,
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_names_and_rates_are_checked(path):
    api_keys.create(path, "shop")
    with pytest.raises(ConfigError, match="revoke shop"):
        api_keys.create(path, "shop")
    for name, rate in (("../x", None), ("a:b", None), ("bot", "often"), ("bot", "0/second"), ("bot", "5 per second")):
        with pytest.raises(ConfigError):
            api_keys.create(path, name, rate)
    assert [key.name for key in api_keys.read(path)] == ["shop"]


def test_a_revoked_name_may_get_a_new_key_and_the_old_row_stays(path):
    api_keys.create(path, "shop")
    assert api_keys.revoke(path, "shop").revoked is not None
    with pytest.raises(ConfigError, match="nobody"):
        api_keys.revoke(path, "shop")
    api_keys.create(path, "shop")
    assert [key.revoked is None for key in api_keys.read(path)] == [False, True]


def test_changes_at_the_same_time_lose_none(path):
    threads = [threading.Thread(target=api_keys.create, args=(path, f"bot-{number}")) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in api_keys.read(path)} == {f"bot-{number}" for number in range(12)}
    assert [child.name for child in path.parent.iterdir() if child.name.startswith(".")] == []


@pytest.mark.parametrize("text", ["{", '{"keys": [{"name": "x"}]}', "[]", '{"keys": [], "more": 1}'])
def test_a_broken_file_says_so(path, text):
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ConfigError, match="put back a copy"):
        api_keys.read(path)


# the ring


def test_the_ring_follows_the_file(path):
    ring = KeyRing(path, look_s=0)
    assert not ring.exists
    shop, bot = api_keys.create(path, "shop"), api_keys.create(path, "bot")
    assert ring.exists
    assert [ring.find(key).name for key in (shop, bot)] == ["shop", "bot"]
    api_keys.revoke(path, "shop")
    assert ring.find(shop) is None
    assert ring.find(bot).name == "bot"


def test_the_ring_looks_once_a_second_at_most(path):
    ring = KeyRing(path, look_s=3_600)
    assert not ring.exists
    api_keys.create(path, "shop")
    assert not ring.exists


def test_a_file_that_breaks_or_goes_keeps_the_keys_that_were_read(path, caplog):
    ring = KeyRing(path, look_s=0)
    key = api_keys.create(path, "shop")
    assert ring.find(key)
    path.write_text("{")
    assert ring.find(key)
    assert ring.find("undertone_other") is None
    path.unlink()
    assert ring.exists
    assert ring.find(key)
    assert "is gone" in caplog.text


def test_a_file_that_never_could_be_read_lets_nobody_in(path):
    path.parent.mkdir(parents=True)
    path.write_text("{")
    ring = KeyRing(path, look_s=0)
    assert ring.exists
    with pytest.raises(NoKeys):
        ring.find("anything")


# the door


def test_without_keys_everyone_comes_in(settings):
    assert doors(settings).admit(call()) is None
    assert doors(settings).admit(call(authorization="Bearer whatever")) is None


def test_with_keys_only_their_holders_come_in(settings, path):
    key = api_keys.create(path, "shop")
    door = doors(settings)
    assert door.admit(call(authorization=f"Bearer {key}")) == "shop"
    assert door.admit(call(authorization=f"bearer  {key} ")) == "shop"
    assert door.admit(call(x_api_key=key)) == "shop"
    for headers in (
        {}, {"authorization": key}, {"authorization": f"Basic {key}"}, {"x_api_key": key[:-1]},
        {"x_api_key": key + "x"}, {"authorization": "Bearer "}, {"x_api_key": api_keys.hashed(key)},
        {"x_api_key": "\ud800"},
    ):  # fmt: skip
        with pytest.raises(Stranger, match="apikeys create"):
            door.admit(call(**headers))


def test_all_keys_revoked_is_not_an_open_door(settings, path):
    key = api_keys.create(path, "shop")
    api_keys.revoke(path, "shop")
    with pytest.raises(Stranger):
        doors(settings).admit(call(x_api_key=key))


def test_a_key_may_be_required_before_there_is_one(settings):
    with pytest.raises(Stranger, match="found none"):
        doors(settings, require_api_key=True).admit(call())


@pytest.mark.parametrize(
    ("peer", "person"),
    [
        ("10.1.2.3", "ann"), ("::ffff:10.1.2.3", "ann"), ("fd00::1", "ann"), ("10.2.0.1", None), ("", None),
        ("unix", None),
    ],
)  # fmt: skip
def test_a_proxys_word_counts_only_from_its_address(settings, peer, person):
    door = doors(settings, proxy_identity_header="X-Forwarded-User", proxy_addresses=("10.1.0.0/16", "fd00::1"))
    named = call(peer, x_forwarded_user="ann", x_forwarded_for="10.1.2.3")
    if person:
        assert door.admit(named) == person
    else:
        with pytest.raises(Stranger):
            door.admit(named)
    for wrong in ("", "a\x00b", "x" * 201):
        with pytest.raises(Stranger):
            door.admit(call("10.1.2.3", x_forwarded_user=wrong))


def test_without_the_setting_no_header_names_anybody(settings, path):
    api_keys.create(path, "shop")
    with pytest.raises(Stranger):
        doors(settings, proxy_addresses=("10.0.0.0/8",)).admit(call(x_forwarded_user="ann"))


def test_rates_are_the_settings_or_the_keys_own(settings, path):
    shop, bot = api_keys.create(path, "shop"), api_keys.create(path, "bot", "2/hour")
    door = doors(settings, rate_limit="5/hour")
    for key, most in ((shop, 5), (bot, 2)):
        for _ in range(most):
            door.admit(call(x_api_key=key))
        with pytest.raises(TooOften, match=f"at most {most}/hour") as refused:
            door.admit(call(x_api_key=key))
        assert 0 < refused.value.after_s <= 2 * 3_600


def test_rates_count_each_person_and_each_stranger_alone(settings):
    door = doors(
        settings, rate_limit="1/hour", proxy_identity_header="x-user", proxy_addresses=("10.0.0.0/8",)
    )  # fmt: skip
    for person in ("ann", "ben"):
        assert door.admit(call(x_user=person)) == person
        with pytest.raises(TooOften):
            door.admit(call(x_user=person))
    everyone = doors(settings, rate_limit="1/hour")
    for peer in ("10.0.0.1", "10.0.0.2"):
        everyone.admit(call(peer))
        with pytest.raises(TooOften):
            everyone.admit(call(peer))


def test_without_a_rate_nothing_is_counted_or_imported():
    limiter = Limiter("")
    for _ in range(100):
        limiter.count("ann", None)
    assert limiter._limiter is None


@pytest.mark.parametrize(
    ("host", "warned"),
    [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True), ("host.lan", True)],
)  # fmt: skip
def test_a_door_open_to_other_machines_is_warned_of(settings, path, host, warned):
    there = settings.model_copy(update={"host": host})
    assert (access.warning(there) is not None) is warned
    api_keys.create(path, "shop")
    assert access.warning(there) is None


def test_settings_refuse_what_is_no_rate_or_network(tmp_path):
    with pytest.raises(ConfigError, match="200/second"):
        Settings(home=tmp_path, rate_limit="fast")
    with pytest.raises(ValueError, match="proxy_addresses"):
        Settings(home=tmp_path, proxy_addresses=("nowhere",))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_rights_lets_nobody_in(settings, path):
    key = api_keys.create(path, "shop")
    path.chmod(0)
    with pytest.raises(NoKeys):
        doors(settings).admit(call(x_api_key=key))
