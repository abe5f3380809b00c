"""A sink that publishes notices to an MQTT broker, as sensors that Home Assistant finds by itself."""

from __future__ import annotations

import json
import logging
import random
import re
import secrets
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panns_litert.errors import SettingsError, importing
from panns_litert.escape import escaped, slug
from panns_litert.live.lines import json_line
from panns_litert.live.outbox import NotNow, Outbox
from panns_litert.live.parts import EventNotice, Notice, Sink

if TYPE_CHECKING:
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

_LOG = logging.getLogger(__name__)
_FRESH = 10.0  # seconds; an ON that is older would switch on a light long after the sound
_PAUSES = 1.0, 60.0  # the first and the longest between two connections, seconds
_ANSWER = 10.0  # seconds to wait for the broker's first answer
_ECHO = 3.0  # seconds to wait for a message of our own, which some brokers' rules keep from us
_ID = re.compile(r"[a-zA-Z0-9_-]+")


class MqttSink(Sink):
    """Publishes events to a broker. Home Assistant shows a binary sensor for each class, and the last sound.

    Topics, below PREFIX/NODE:

    - `availability`: "online", and "offline" when the program has ended, by itself or not (the broker's last will).
    - `event`: each start and end of an event and each loss, as JSON (`notice_row`), also those of other classes.
    - `class/CLASS/state`: "ON" while any source hears the class, else "OFF"; `class/CLASS/attributes`: the event, JSON.
    - `last_sound/state`, `last_sound/attributes`: the class of the last start, and that event.

    All but `event` are retained. CLASS is the name in a … z, 0 … 9 and hyphens (`escape.slug`).

    While the broker cannot be reached, notices are kept and published later, in their order and with their times, and
    perhaps twice. A state is then that of now: an event that has begun and ended meanwhile is never ON. With a wrong
    password, the sink says so once and goes on trying, after pauses of up to a minute: a broker may learn it later.

    Args:
        host, port: the broker; port 1883, or 8883 with TLS, if None.
        username, password: None for a broker without.
        tls: whether to encrypt; a path is a file with the certificates to trust (PEM) instead of the system's.
        prefix: first levels of all topics but those of discovery.
        discovery: Home Assistant's discovery prefix; None for no discovery.
        node: name of this device in topics, of a … z, A … Z, 0 … 9, _ and -; by default from the computer's name. Two
            programs need two: each would take the other's states for those of a run that was killed. It is logged.
        classes: the classes that get sensors. If None, a class gets one with its first event: AudioSet has 527.
        most_waiting: how many notices may wait before the oldest is lost, ≥ 1.

    Raises:
        SettingsError: a value is not valid, or the certificates cannot be read.
        MissingDependencyError: paho-mqtt is not installed.
    """

    name = "mqtt"

    def __init__(
        self,
        host: str,
        port: int | None = None,
        *,
        username: str | None = None,
        password: str | None = None,
        tls: bool | Path = False,
        prefix: str = "panns_litert",
        discovery: str | None = "homeassistant",
        node: str | None = None,
        classes: Sequence[str] | None = None,
        most_waiting: int = 1000,
    ) -> None:
        with importing("paho-mqtt", extra="mqtt", purpose="the MQTT sink needs"):
            import paho.mqtt.client  # noqa: F401 (later only used)
        self._node = slug(socket.gethostname()) if node is None else node
        # Two of one name end each other. Its own next connection has to: the broker may not know yet that the last one
        # has ended, and would publish its will, "offline", long after the new one is online.
        self._client_id = f"panns-litert-{self._node[:32]}-{secrets.token_hex(4)}"
        self._port = (8883 if tls else 1883) if port is None else port
        _check(host, self._port, self._node, prefix, discovery, most_waiting)
        self._host, self._discovery, self._classes = host, discovery, classes
        self._base = f"{prefix}/{self._node}"
        self._lock = threading.RLock()
        self._open: dict[str, dict[str, EventNotice]] = {}  # by class, by id: what sounds now
        self._slugs: dict[str, str] = {}  # of the classes that have a sensor
        self._on: set[str] = set()  # slugs whose state was last "ON"
        self._acknowledged: set[int] = set()
        self._news = threading.Condition()  # an acknowledgement, a connection, the end
        self._ready = False  # connected, and all states are published
        self._lost = False  # the connection has ended
        self._closing = self._ended = False
        self._refused = self._accepted = self._worked = False  # this connection
        self._connections = 0
        self._echoes: deque[bool] = deque(maxlen=64)  # availabilities of this connection that it will send back
        self._told_of_another = False
        self._why = ""
        for label in classes or ():
            self._slug(label)

        self._login = None if username is None else (username, password)
        self._tls = _tls_context(tls) if tls else None
        self._client = self._new_client()
        self._outbox: Outbox[tuple[Notice, float]] = Outbox(self.name, self._deliver, most_waiting=most_waiting)
        self._connecting = threading.Thread(target=self._connect, name="panns-litert mqtt connection", daemon=True)
        self._connecting.start()

    def notice(self, notice: Notice) -> None:
        """Takes a notice, but for updates."""
        if isinstance(notice, EventNotice):
            if notice.kind == "update":
                return
            with self._lock:
                sounding = self._open.setdefault(notice.label, {})
                if notice.kind == "start":
                    sounding[notice.id] = notice
                else:
                    sounding.pop(notice.id, None)
        self._outbox.put((notice, time.monotonic()))

    def close(self) -> None:
        """Publishes what waits, all states as "OFF", and "offline". Takes at most about five seconds."""
        self._closing = True
        self._tell_news()
        self._outbox.close(2.0)
        if self._ready:
            with self._lock:
                self._acknowledged.clear()
                mids = [self._publish(f"class/{name}/state", "OFF") for name in sorted(self._on)]
                self._on.clear()
            mids.append(self._publish_availability(online=False))
            self._await(mids, self._connections, seconds=1.0)
        self._ended = True
        self._tell_news()
        self._client.disconnect()
        self._connecting.join(2.0)

    @property
    def problems(self) -> tuple[str, ...]:
        return self._outbox.problems

    # What the outbox delivers

    def _deliver(self, item: tuple[Notice, float]) -> None:
        notice, came = item
        with self._news:
            # A program that ends soon after its start waits for its first connection, as long as `close` lets it.
            self._news.wait_for(lambda: self._ready or self._ended or (self._closing and self._why))
        if not self._ready:
            raise NotNow(self._why or f"{self._place}: no connection yet")
        connection = self._connections
        with self._lock:
            self._acknowledged.clear()  # those of earlier messages, which nobody waits for
            mids = [self._publish("event", json_line(notice), retain=False)]
            if isinstance(notice, EventNotice):
                mids += self._publish_state(notice, fresh=time.monotonic() - came < _FRESH)
            if self._outbox.waiting <= 1:  # notices may have been lost: an "end", too
                mids += [self._set(name, on=False) for name in self._on - self._sounding()]
        if not self._await(mids, connection):
            raise NotNow(self._why or f"{self._place}: no answer")

    def _publish_state(self, notice: EventNotice, *, fresh: bool) -> list[int]:
        """Publishes the state of an event's class, and the last sound."""
        mids = []
        attributes = _attributes(notice)
        if self._classes is None or notice.label in self._classes:
            if notice.label not in self._slugs:
                self._slug(notice.label)
                mids += self._announce(notice.label)
            name = self._slugs[notice.label]
            on = bool(self._open.get(notice.label)) or (fresh and notice.kind == "start")
            mids.append(self._publish(f"class/{name}/attributes", attributes))  # first: "ON" may trigger what reads it
            mids.append(self._set(name, on=on))
        if notice.kind == "start":
            mids.append(self._publish("last_sound/attributes", attributes))
            mids.append(self._publish("last_sound/state", escaped(notice.label)[:255]))  # Home Assistant takes no more
        return mids

    def _set(self, name: str, *, on: bool) -> int:
        (self._on.add if on else self._on.discard)(name)
        return self._publish(f"class/{name}/state", "ON" if on else "OFF")

    def _sounding(self) -> set[str]:
        """Returns the slugs of the classes that sound now."""
        return {name for label, name in self._slugs.items() if self._open.get(label)}

    def _await(self, mids: list[int], connection: int, *, seconds: float | None = None) -> bool:
        """Waits until the broker has acknowledged messages. Returns False if the connection ends before it does."""

        def ended() -> bool:
            return not self._ready or self._connections != connection

        with self._news:
            self._news.wait_for(lambda: self._acknowledged.issuperset(mids) or ended(), seconds)
            return self._acknowledged.issuperset(mids)

    # Topics and messages

    @property
    def _place(self) -> str:
        return f"{escaped(self._host)}:{self._port}"

    def _topic(self, rest: str) -> str:
        return f"{self._base}/{rest}"

    def _slug(self, label: str) -> str:
        """Gives a class its name in topics, which no other class has."""
        name, number = slug(label), 2
        while name in self._slugs.values():
            name, number = f"{slug(label)}-{number}", number + 1
        self._slugs[label] = name
        return name

    def _publish(self, rest: str, payload: str, *, retain: bool = True) -> int:
        return self._client.publish(self._topic(rest), payload, qos=1, retain=retain).mid

    def _announce(self, label: str | None) -> list[int]:
        """Publishes what Home Assistant's discovery needs for a class, or for the last sound.

        A message for each component, not one for the device: each is retained by itself, so that the sensors of
        classes that only an earlier run has heard stay. Topics and fields:
        https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery, …/binary_sensor.mqtt/ and …/sensor.mqtt/
        """
        if self._discovery is None:
            return []
        component, name = ("sensor", "last_sound") if label is None else ("binary_sensor", self._slugs[label])
        folder = self._topic(name if label is None else f"class/{name}")
        config: dict[str, Any] = {
            "name": "Last sound" if label is None else escaped(label),
            "unique_id": f"panns_litert_{self._node}_{name}",
            "state_topic": f"{folder}/state",
            "json_attributes_topic": f"{folder}/attributes",
            "availability_topic": self._topic("availability"),
            "qos": 1,
            "device": {
                "identifiers": [f"panns_litert_{self._node}"],
                "name": f"panns-litert {self._node}",
                "manufacturer": "panns-litert",
                "model": "audio tagger",
            },
            "origin": {"name": "panns-litert"},
        }
        config |= {"icon": "mdi:ear-hearing"} if label is None else {"device_class": "sound"}
        topic = f"{self._discovery}/{component}/{self._node}/{name}/config"
        return [self._client.publish(topic, json.dumps(config), qos=1, retain=True).mid]

    # The connection, in threads of its own

    def _new_client(self) -> Client:
        """Returns a client for one connection. It has nothing left from an earlier one, such as an "ON" of then."""
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            reconnect_on_failure=False,  # `_connect` does it: it knows why a connection failed
        )
        if self._login is not None:
            client.username_pw_set(*self._login)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.will_set(self._topic("availability"), "offline", qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    def _connect(self) -> None:
        """Connects, and again whenever the connection ends, until the sink is closed."""
        pause, longest = _PAUSES
        while True:
            self._lost = self._refused = self._accepted = self._worked = False
            self._client = self._new_client()
            self._echoes.clear()
            try:
                self._client.connect(self._host, self._port, keepalive=30)
                self._client.loop_start()
                with self._news:
                    if not self._news.wait_for(lambda: self._lost or self._ended or self._accepted, _ANSWER):
                        self._client.disconnect()
                    self._news.wait_for(lambda: self._lost or self._ended)
                self._client.loop_stop()
            except (OSError, ValueError) as error:
                self._fail(_cause(error))
            pause = _PAUSES[0] if self._worked else min(2 * pause, longest)
            with self._news:
                self._news.wait_for(lambda: self._closing, pause * random.uniform(0.5, 1.0))
            if self._closing:
                return

    def _on_connect(
        self, _client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, _more: Properties | None
    ) -> None:
        if reason.is_failure:
            self._refused = True
            hint = "; check user and password" if re.search("authori[sz]ed|password", str(reason), re.I) else ""
            self._fail(f"the broker refuses the connection: {reason}{hint}")
            return
        with self._news:
            self._connections, self._accepted = self._connections + 1, True
            self._news.notify_all()
        # An earlier run that was killed may have left a state "ON". The broker sends the retained states first and then
        # this message of ours, so that the sensors become available only when all states are right.
        self._client.subscribe([(topic, 1) for topic in self._kept])
        self._publish_availability(online=False)
        timer = threading.Timer(_ECHO, self._go_online, (self._connections,))
        timer.daemon = True
        timer.start()

    @property
    def _kept(self) -> list[str]:
        return [self._topic("class/+/state"), self._topic("availability")]

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], _more: Any) -> None:
        if any(reason.is_failure for reason in reasons):  # the broker's rules; states of an earlier run stay
            self._go_online(self._connections)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if message.topic == self._topic("availability"):
            if not message.retain:
                self._hear_availability(message.payload == b"online")
        elif message.retain and message.payload == b"ON":
            with self._lock:
                self._on.add(message.topic.split("/")[-2])

    def _go_online(self, connection: int) -> None:
        """Publishes discovery, all states and "online", once for each connection."""
        with self._lock:
            if self._ready or self._lost or self._ended or connection != self._connections:
                return
            self._client.unsubscribe(self._kept[0])
            for label in (None, *self._slugs):
                self._announce(label)
            sounding = self._sounding()
            for name in sorted(self._on | set(self._slugs.values())):
                self._set(name, on=name in sounding)
            self._publish_availability(online=True)
            self._ready = self._worked = True
        self._outbox.working()
        self._tell_news()

    def _hear_availability(self, online: bool) -> None:
        """Takes an availability of this node: an answer to one of our own, or one of somebody else."""
        with self._lock:
            mine = bool(self._echoes) and self._echoes[0] == online
            if mine:
                self._echoes.popleft()
            elif online and not self._told_of_another:
                self._told_of_another = True
                _LOG.warning(
                    "mqtt: another program publishes as %s, and each overwrites the other's states; "
                    "expected a node of its own for each (--mqtt-node)",
                    self._node,
                )
            elif not online and self._ready and not self._closing:  # also the will of an earlier run, which comes late
                self._publish_availability(online=True)
        if mine:
            self._go_online(self._connections)

    def _publish_availability(self, *, online: bool) -> int:
        with self._lock:
            self._echoes.append(online)
            return self._publish("availability", "online" if online else "offline")

    def _on_publish(self, _client: Client, _data: Any, mid: int, _reason: ReasonCode, _more: Properties) -> None:
        self._acknowledged.add(mid)
        self._tell_news()

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, reason: ReasonCode, _more: Properties | None
    ) -> None:
        if not self._refused:
            self._fail(f"the connection ended ({reason})" if self._ready else "no answer; is it an MQTT broker?")
        with self._lock:  # `_go_online` may run in another thread
            self._ready, self._lost = False, True
        self._tell_news()

    def _fail(self, why: str) -> None:
        if not self._ended:
            self._why = f"{self._place}: {why}"
            self._outbox.failing(self._why)

    def _tell_news(self) -> None:
        with self._news:
            self._news.notify_all()


def _attributes(event: EventNotice) -> str:
    """Returns the attributes of a sensor as JSON."""
    return json.dumps(
        {
            "label": escaped(event.label),
            "score": round(event.score, 3),
            "source": escaped(event.source),
            "since": event.time,
            "until": event.end_time if event.kind == "end" else None,
            "seconds": round(event.end - event.start, 3) if event.kind == "end" else None,
            "id": event.id,
        }
    )


def _check(host: str, port: int, node: str, prefix: str, discovery: str | None, most_waiting: int) -> None:
    if not host or not host.isprintable() or " " in host or "/" in host:
        raise SettingsError(f"mqtt: host {escaped(host)!r}; expected a name or an address, such as 192.168.1.5")
    if not 1 <= port <= 65535 or most_waiting < 1:
        raise SettingsError(
            f"mqtt: port {port}, most_waiting {most_waiting}; expected 1 … 65535, and at least 1 notice"
        )
    if not _ID.fullmatch(node):
        raise SettingsError(
            f"mqtt: node {escaped(node)!r}; expected letters a … z, A … Z, digits, _ and -, such as {slug(node)}"
        )
    for what, topic in (("prefix", prefix), ("discovery", discovery)):
        if topic is not None and not all(re.fullmatch(r"[^+#/\s\0$]+", level) for level in topic.split("/")):
            raise SettingsError(f"mqtt: {what} {escaped(topic)!r}; expected levels as in home/sounds, without + # $")


def _tls_context(tls: bool | Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if tls is True else str(tls))
    except OSError as error:  # also what is no certificate
        raise SettingsError(
            f"mqtt: {escaped(str(tls))}: {error.strerror or error}; expected certificates (PEM)"
        ) from error


def _cause(error: Exception) -> str:
    """Returns why no connection was made."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}"
