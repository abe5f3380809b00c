"""MQTT: what a real mosquitto gets, also when it is down, comes back, or refuses the password."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from brokers import Relay, broker, free_port, listener, until
from hypothesis import given
from hypothesis import strategies as st
from notices import event, lost

from panns_litert.errors import PannsLitertError, SettingsError
from panns_litert.escape import escaped, slug
from panns_litert.live import MqttSink, notice_row

BASE = "panns_litert/kitchen"
# Of what Home Assistant's documentation lists (integrations/binary_sensor.mqtt, integrations/sensor.mqtt), the fields
# that are used here; it ignores a misspelled one.
COMMON = {"name", "unique_id", "state_topic", "json_attributes_topic", "availability_topic", "qos", "device", "origin"}
FIELDS = {"binary_sensor": COMMON | {"device_class"}, "sensor": COMMON | {"icon"}}
DEVICE = {"identifiers", "name", "manufacturer", "model"}


def sink(port: int, **options: object) -> MqttSink:
    return MqttSink("127.0.0.1", port, node="kitchen", **options)  # type: ignore[arg-type]


def test_home_assistant_finds_a_class_and_sees_it_start_and_end(tmp_path: Path) -> None:
    with broker(tmp_path) as server, listener(server.port) as home:
        mqtt = sink(server.port)
        until(lambda: "online" in home.of(f"{BASE}/availability"))
        assert [topic for topic, _, _ in home.got if topic.endswith("/config")] == [
            "homeassistant/sensor/kitchen/last_sound/config"
        ], "no sensor of a class before its first event"
        for notice in (event("start"), event("update", score=0.9), lost(), event("end", end=14.5, score=0.93)):
            mqtt.notice(notice)
        until(lambda: len(home.of(f"{BASE}/event")) == 3)
        until(lambda: home.of(f"{BASE}/class/dog/state")[-1:] == ["OFF"])
        mqtt.close()
        until(lambda: home.of(f"{BASE}/availability")[-1] == "offline")
        assert mqtt.problems == ()

        assert home.of(f"{BASE}/class/dog/state") == ["ON", "OFF"]
        assert [json.loads(text) for text in home.of(f"{BASE}/event")] == [
            notice_row(n) for n in (event("start"), lost(), event("end", end=14.5, score=0.93))
        ]
        first, last = (json.loads(text) for text in home.of(f"{BASE}/class/dog/attributes"))
        assert first["since"] == last["since"] == event("start").time
        assert (first["until"], last["until"], last["seconds"]) == (None, event("end", end=14.5).end_time, 4.5)
        assert (first["score"], last["score"], last["source"]) == (0.8, 0.93, "microphone")
        assert home.of(f"{BASE}/last_sound/state") == ["Dog"]
        order = [topic for topic, _, _ in home.got]
        assert order.index(f"{BASE}/class/dog/attributes") < order.index(f"{BASE}/class/dog/state"), "ON may read them"
        assert order.index("homeassistant/binary_sensor/kitchen/dog/config") < order.index(f"{BASE}/class/dog/state")

        for component, name in (("binary_sensor", "dog"), ("sensor", "last_sound")):
            (text,) = home.of(f"homeassistant/{component}/kitchen/{name}/config")
            config = json.loads(text)
            assert set(config) <= FIELDS[component]
            assert set(config["device"]) <= DEVICE
            assert config["device"]["identifiers"] == ["panns_litert_kitchen"]
            assert config["origin"]["name"]
            assert config["unique_id"] == f"panns_litert_kitchen_{name}"
            assert config["availability_topic"] == f"{BASE}/availability"
            assert home.of(config["state_topic"])
            assert home.of(config["json_attributes_topic"])
        # Home Assistant starts later: everything but the events is retained.
        with listener(server.port) as later:
            until(lambda: (f"{BASE}/availability", "offline", True) in later.got)
            until(lambda: (f"{BASE}/class/dog/state", "OFF", True) in later.got)
            until(lambda: len([topic for topic, _, _ in later.got if topic.endswith("/config")]) == 2)
            assert later.of(f"{BASE}/event") == []


def test_only_the_chosen_classes_have_sensors(tmp_path: Path) -> None:
    with broker(tmp_path) as server, listener(server.port) as home:
        mqtt = sink(server.port, classes=["Baby cry, infant cry"], discovery="ha/discovery", prefix="home/sounds")
        until(lambda: "online" in home.of("home/sounds/kitchen/availability"))
        name = "baby-cry-infant-cry"
        assert home.of(f"home/sounds/kitchen/class/{name}/state") == ["OFF"]
        mqtt.notice(event("start"))
        mqtt.notice(event("end"))
        until(lambda: len(home.of("home/sounds/kitchen/event")) == 2)
        mqtt.close()
        found = {topic for topic, _, _ in home.got}
        assert f"ha/discovery/binary_sensor/kitchen/{name}/config" in found
        assert not any("dog" in topic for topic in found)
        assert home.of("home/sounds/kitchen/last_sound/state") == ["Dog"]


def test_without_discovery_there_is_none(tmp_path: Path) -> None:
    with broker(tmp_path) as server, listener(server.port) as home:
        mqtt = sink(server.port, discovery=None)
        mqtt.notice(event("start"))
        until(lambda: home.of(f"{BASE}/class/dog/state") == ["ON"])
        mqtt.close()
        until(lambda: home.of(f"{BASE}/availability")[-1:] == ["offline"])
        assert home.of(f"{BASE}/class/dog/state") == ["ON", "OFF"], "all is off after the end"
        assert not any(topic.endswith("config") for topic, _, _ in home.got)


def test_a_program_that_ends_at_once_still_tells_what_it_heard(tmp_path: Path) -> None:
    with broker(tmp_path) as server, listener(server.port) as home:
        mqtt = sink(server.port)
        for kind in ("start", "end"):
            mqtt.notice(event(kind))  # type: ignore[arg-type]
        mqtt.close()
        assert mqtt.problems == ()
        until(lambda: home.of(f"{BASE}/availability")[-1:] == ["offline"])
        assert len(home.of(f"{BASE}/event")) == 2
        assert home.of(f"{BASE}/class/dog/state")[-1] == "OFF"


def test_labels_of_any_script(tmp_path: Path) -> None:
    labels = ["Собака", "Dog/+/#", "dog", "DOG", "\udce9\x1b[31m", "x" * 300]
    with broker(tmp_path) as server, listener(server.port) as home:
        mqtt = sink(server.port)
        for n, label in enumerate(labels):
            mqtt.notice(event("start", f"e{n}", label))
        until(lambda: len(home.of(f"{BASE}/last_sound/state")) == len(labels))
        mqtt.close()
        names = [json.loads(text)["name"] for topic, text, _ in home.got if topic.startswith("homeassistant/b")]
        assert names == [escaped(label) for label in labels]
        states = {topic for topic, text, _ in home.got if topic.startswith(f"{BASE}/class/") and text == "ON"}
        assert len(states) == len(labels)
        assert {f"{BASE}/class/dog-2/state", f"{BASE}/class/dog-3/state"} < states
        assert all(len(text) <= 255 for text in home.of(f"{BASE}/last_sound/state"))
        assert mqtt.problems == ()


def test_two_sources_hear_one_class(tmp_path: Path) -> None:
    with broker(tmp_path) as server, listener(server.port) as home:
        mqtt = sink(server.port)
        for kind, id, source in (("start", "a", "door"), ("start", "b", "hall"), ("end", "a", "door")):
            mqtt.notice(event(kind, id, source=source))  # type: ignore[arg-type]
        until(lambda: len(home.of(f"{BASE}/event")) == 3)
        assert set(home.of(f"{BASE}/class/dog/state")) == {"ON"}, "the hall still hears it"
        mqtt.notice(event("end", "b", source="hall"))
        until(lambda: home.of(f"{BASE}/class/dog/state")[-1] == "OFF")
        mqtt.close()


def test_a_broker_that_is_down_at_the_start_gets_the_newest_events_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with broker(tmp_path) as server, listener(server.port) as home:
        way = Relay(server.port)
        mqtt = sink(way.port, most_waiting=4)
        until(lambda: mqtt.problems)
        for n in range(10):
            mqtt.notice(event("start", f"e{n}", start=10.0 * n, end=10.0 * n + 1))
            mqtt.notice(event("end", f"e{n}", start=10.0 * n, end=10.0 * n + 1))
        assert any("Connection refused" in problem and "waiting" in problem for problem in mqtt.problems)
        way.open()
        until(lambda: len(home.of(f"{BASE}/event")) >= 4)
        mqtt.close()
        way.close()
        rows = [json.loads(text) for text in home.of(f"{BASE}/event")]
        assert rows[-1] == notice_row(event("end", "e9", start=90.0, end=91.0)), "with its own times"
        got = [(row["id"], row["kind"]) for row in rows]
        assert got[-4:] == [("e8", "start"), ("e8", "end"), ("e9", "start"), ("e9", "end")]
        assert len(got) <= 5, "four waited, and one was on its way"
        assert mqtt.problems[0].startswith(f"mqtt: {20 - len(got)} notices not delivered: ")
        assert home.of(f"{BASE}/class/dog/state")[-1] == "OFF"
    told = [record.getMessage() for record in caplog.records]
    assert len([text for text in told if "Connection refused; it is tried again" in text]) == 1
    assert [text for text in told if "works again" in text] == ["mqtt: works again"]


def test_a_broker_that_stops_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panns_litert.live.mqtt._FRESH", 0.5)
    monkeypatch.setattr("panns_litert.live.mqtt._PAUSES", (0.1, 0.2))
    with broker(tmp_path) as server:
        way = Relay(server.port)
        way.open()
        mqtt = sink(way.port)
        with listener(server.port) as home:
            mqtt.notice(event("start", "before"))
            until(lambda: home.of(f"{BASE}/class/dog/state") == ["ON"])
            until(lambda: not mqtt._outbox.waiting)
        way.close()
        server.stop()  # without persistence: it forgets what was retained
        until(lambda: mqtt.problems)
        mqtt.notice(event("end", "before"))
        mqtt.notice(event("start", "during", "Cat"))
        mqtt.notice(event("end", "during", "Cat"))
        mqtt.notice(event("start", "still", "Bark"))
        time.sleep(0.8)  # older than _FRESH
        server.start()
        with listener(server.port) as home:
            way.open()
            until(lambda: home.of(f"{BASE}/class/bark/state")[-1:] == ["ON"])
            assert [json.loads(text)["id"] for text in home.of(f"{BASE}/event")] == [
                "before", "during", "during", "still"
            ]  # fmt: skip
            assert set(home.of(f"{BASE}/class/dog/state")) == {"OFF"}
            assert set(home.of(f"{BASE}/class/cat/state")) == {"OFF"}, "it was over before anybody could know"
            assert home.of("homeassistant/binary_sensor/kitchen/dog/config")
            assert home.of(f"{BASE}/availability")[-1] == "online"
            assert mqtt.problems == ()
            mqtt.close()
            way.close()


def test_an_on_whose_acknowledgement_was_lost_is_not_sent_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("panns_litert.live.mqtt._FRESH", 0.5)
    monkeypatch.setattr("panns_litert.live.mqtt._PAUSES", (0.1, 0.2))
    with broker(tmp_path) as server, listener(server.port) as home:
        way = Relay(server.port)
        way.open()
        mqtt = sink(way.port)
        until(lambda: mqtt._ready)
        way.mute = True
        mqtt.notice(event("start"))
        until(lambda: home.of(f"{BASE}/class/dog/state") == ["ON"])
        way.close()
        mqtt.notice(event("end"))
        time.sleep(0.8)  # older than _FRESH
        home.got.clear()
        way.mute = False
        way.open()
        until(lambda: len(home.of(f"{BASE}/event")) == 2)
        mqtt.close()
        way.close()
        assert [json.loads(text)["kind"] for text in home.of(f"{BASE}/event")] == ["start", "end"]
        assert set(home.of(f"{BASE}/class/dog/state")) == {"OFF"}
        assert mqtt.problems == ()


def test_a_broker_that_lets_the_sink_only_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panns_litert.live.mqtt._ECHO", 0.3)
    rules = tmp_path / "rules"
    rules.write_text("topic write panns_litert/#\ntopic write homeassistant/#\n")
    with broker(tmp_path, f"allow_anonymous true\nacl_file {rules}") as server:
        mqtt = sink(server.port)
        mqtt.notice(event("start"))
        until(lambda: mqtt._ready)
        mqtt.close()
        assert mqtt.problems == ()


def test_a_killed_program_is_offline_and_leaves_no_state_on(tmp_path: Path) -> None:
    code = """
import sys, time
sys.path.insert(0, sys.argv[2])
from notices import event
from panns_litert.live import MqttSink
sink = MqttSink("127.0.0.1", int(sys.argv[1]), node="kitchen")
sink.notice(event("start", "x", "Smoke alarm"))
time.sleep(60)
"""
    with broker(tmp_path) as server, listener(server.port) as home:
        process = subprocess.Popen([sys.executable, "-c", code, str(server.port), str(Path(__file__).parent)])
        try:
            until(lambda: home.of(f"{BASE}/class/smoke-alarm/state") == ["ON"], 60)
        finally:
            process.kill()
            process.wait()
        until(lambda: home.of(f"{BASE}/availability")[-1] == "offline")
        assert home.of(f"{BASE}/class/smoke-alarm/state") == ["ON"]
        home.got.clear()
        mqtt = sink(server.port)  # the next run, which has not heard a smoke alarm
        until(lambda: "online" in home.of(f"{BASE}/availability"))
        order = [(topic, text) for topic, text, _ in home.got]
        off, online = (f"{BASE}/class/smoke-alarm/state", "OFF"), (f"{BASE}/availability", "online")
        assert order.index(off) < order.index(online), "it must not be seen ON again"
        mqtt.close()


def test_a_connection_whose_end_the_broker_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old connection's will, "offline", comes before the new connection is online, not 45 s later."""
    monkeypatch.setattr("panns_litert.live.mqtt._PAUSES", (0.1, 0.2))
    monkeypatch.setattr("panns_litert.live.mqtt.MqttSink._hear_availability", only_echoes)
    with broker(tmp_path) as server, listener(server.port) as home:
        way = Relay(server.port)
        way.open()
        mqtt = sink(way.port)
        until(lambda: home.of(f"{BASE}/availability") == ["offline", "online"])
        way.forget()
        until(lambda: home.of(f"{BASE}/availability")[2:].count("online") == 1)
        assert home.of(f"{BASE}/availability")[2:] == ["offline", "offline", "online"], "a will, a question, an answer"
        mqtt.close()
        way.close()


def only_echoes(self: MqttSink, online: bool) -> None:
    if not online:
        self._go_online(self._connections)


def test_an_offline_of_an_earlier_run_that_comes_late(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with broker(tmp_path) as server, listener(server.port) as home:
        mqtt = sink(server.port)
        until(lambda: home.of(f"{BASE}/availability") == ["offline", "online"])
        home._client.publish(f"{BASE}/availability", "offline", qos=1, retain=True)
        until(lambda: home.of(f"{BASE}/availability") == ["offline", "online", "offline", "online"])
        mqtt.close()
        until(lambda: home.of(f"{BASE}/availability")[-1] == "offline")
        time.sleep(0.3)
        assert home.of(f"{BASE}/availability")[-1] == "offline"
    assert not caplog.records


def test_two_programs_of_one_node_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with broker(tmp_path) as server, listener(server.port) as home:
        first = sink(server.port)
        until(lambda: first._ready)
        second = sink(server.port)
        until(lambda: second._ready)
        until(lambda: any("another program publishes as kitchen" in one.getMessage() for one in caplog.records))
        second.close()
        until(lambda: not second._connecting.is_alive())
        time.sleep(0.5)
        assert home.of(f"{BASE}/availability")[-1] == "online", "the first is still there"
        first.close()
        until(lambda: home.of(f"{BASE}/availability")[-1] == "offline")
        other = MqttSink("127.0.0.1", server.port, node="garden")
        until(lambda: other._ready)
        other.close()
    assert 1 <= len(caplog.records) <= 2


def test_a_wrong_password_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("panns_litert.live.mqtt._PAUSES", (0.05, 0.1))
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("no mosquitto_passwd: apt-get install mosquitto")
    passwords = tmp_path / "passwords"
    subprocess.run([tool, "-c", "-b", passwords, "me", "right"], check=True, capture_output=True)
    with broker(tmp_path, f"allow_anonymous false\npassword_file {passwords}") as server:
        wrong = sink(server.port, username="me", password="secret-but-wrong")
        wrong.notice(event("start"))
        until(lambda: any("password" in record.getMessage() for record in caplog.records))
        time.sleep(0.5)  # several more tries
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == 1, messages
        assert "check user and password" in messages[0]
        started = time.monotonic()
        wrong.close()
        assert time.monotonic() - started < 10
        assert "1 notice not delivered" in wrong.problems[0]
        assert "secret" not in caplog.text + "".join(wrong.problems)
        right = sink(server.port, username="me", password="right")
        until(lambda: right._ready)
        right.close()
        assert right.problems == ()


def test_something_else_listens_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panns_litert.live.mqtt._ANSWER", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mqtt = sink(silent.getsockname()[1])
        mqtt.notice(event("start"))
        until(lambda: mqtt.problems)
        mqtt.close()
        assert "is it an MQTT broker?" in mqtt.problems[0]


def test_encryption_trusts_only_what_it_was_told_to(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    with broker(tmp_path, f"allow_anonymous true\ncertfile {certificate}\nkeyfile {key}") as server:
        told, untold = sink(server.port, tls=certificate), sink(server.port, tls=True)
        until(lambda: told._ready)
        until(lambda: any("not trusted" in problem for problem in untold.problems))
        told.close()
        untold.close()
        assert told.problems == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"node": "my kitchen"}, "such as my-kitchen"),
        ({"node": ""}, "node"),
        ({"prefix": "home/#"}, "without"),
        ({"prefix": "/home"}, "prefix"),
        ({"prefix": ""}, "prefix"),
        ({"discovery": "home assistant"}, "discovery"),
        ({"most_waiting": 0}, "at least 1"),
        ({"port": 0}, "1 … 65535"),
        ({"tls": Path("missing.pem")}, "missing.pem"),
        ({"tls": Path(__file__)}, "expected certificates"),
    ],
)
def test_wrong_settings(options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        MqttSink("127.0.0.1", **({"port": free_port()} | options))  # type: ignore[arg-type]
    for host in ("", "a b", "mqtt://host"):
        with pytest.raises(PannsLitertError, match="expected a name or an address"):
            MqttSink(host)


def test_without_paho(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(PannsLitertError, match="extra mqtt"):
        MqttSink("127.0.0.1")


@given(labels=st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=4, unique=True))
def test_every_class_has_a_name_of_its_own_in_topics(labels: list[str]) -> None:
    mqtt = MqttSink.__new__(MqttSink)
    mqtt._slugs = {}
    names = [mqtt._slug(label) for label in labels]
    assert len(set(names)) == len(labels)
    for name, label in zip(names, labels, strict=True):
        assert name.startswith(slug(label))
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert 1 <= len(slug(label)) <= 48
