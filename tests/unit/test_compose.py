"""docker-compose.kafka.yml, Dockerfile and .dockerignore: what `make up` promises, checked without an engine."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import compose_reader
import pytest

from mdstream.cli import cli
from mdstream.config import NAMES
from mdstream.db.connection import options, place
from mdstream.ingest.plan import plan

PROJECT = Path(__file__).resolve().parents[2]
DOCKERFILE = (PROJECT / "Dockerfile").read_text()
FILE = PROJECT / "docker-compose.kafka.yml"
COMPOSE = compose_reader.expand(compose_reader.load(FILE.read_text()))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("mdstream:")}
ONCE = {name: service for name, service in SERVICES.items() if service["restart"] == "no"}
LASTING = {name: service for name, service in SERVICES.items() if name not in ONCE}
FOREIGN = {"PGPASSWORD": "libpq's"}
CONNECTING = ("sink-timescale", "db-upgrade", "api")
"""Who connects to the database."""

every = pytest.mark.parametrize("name", SERVICES)
every_lasting = pytest.mark.parametrize("name", LASTING)
every_of_ours = pytest.mark.parametrize("name", OURS)


def parse(args: list[str], command: click.Command = cli, name: str = "mdstream") -> click.Context:
    """The innermost context of a command line, nothing being run. Raises click.UsageError."""
    with command.make_context(name, list(args)) as context:
        if not isinstance(command, click.Group):
            return context
        found, inner, rest = command.resolve_command(context, args)
        assert inner is not None
        return parse(rest, inner, found or name)


def given_to(name: str) -> dict[str, Any]:
    """What a service's command line says, by the names of its command's parameters."""
    return parse(SERVICES[name]["command"]).params


# -- what runs


@pytest.mark.parametrize(
    "name", [name for name, service in OURS.items() if service["command"][:2] == ["worker", "core"]]
)
def test_core_worker_advertises_its_own_address(name: str) -> None:
    """0.0.0.0, where it listens, is every container's: half of the instruments would be asked for in vain."""
    environment = SERVICES[name]["environment"]
    assert environment["HTTP_HOST"] == "0.0.0.0"
    assert environment["NODE_CANONICAL_URL"] == f"http://{name}:{environment['HTTP_PORT']}"


def test_all_parts_of_the_platform_are_there() -> None:
    """One `make up` starts the servers, an ingestor for each venue, every role, and the repair."""
    assert set(SERVICES) - set(OURS) == {"kafka", "timescale", "nats"}
    commands = {tuple(service["command"][:2]) for service in OURS.values()}
    assert {("worker", role) for role in ("core", "timescale", "nats", "files")} < commands
    ingestors = [name for name in OURS if name.startswith("ingest-")]
    assert {given_to(name)["provider"] for name in ingestors} == {"binance", "okx", "coinbase"}
    assert {"repair", "senpai", "api"} < set(SERVICES)


@every_of_ours
def test_command_is_understood(name: str) -> None:
    """A container whose command is none would be restarted for ever."""
    parse(SERVICES[name]["command"])


@pytest.mark.parametrize("name", [name for name in OURS if name.startswith("ingest-")])
def test_default_symbols_are_the_venues_and_the_same(name: str) -> None:
    """Venues stand in for one another where they have the same instruments."""
    given = given_to(name)
    (wanted,) = plan(given["provider"], given["symbols"].split(","))
    assert wanted.symbols == ("BTCUSDT", "ETHUSDT")


@every_of_ours
def test_environment_holds_settings_only(name: str) -> None:
    """A name that mdstream does not know would change nothing, in silence."""
    assert set(SERVICES[name]["environment"]) - set(FOREIGN) <= set(NAMES.values())


def test_all_data_is_in_volumes() -> None:
    """`make down` and `make up` lose nothing, and no volume is left over."""
    mounted = {name: volume.split(":") for name, service in SERVICES.items() for volume in service.get("volumes", [])}
    assert {name: path for name, (_, path) in mounted.items()} == {
        "kafka": "/var/lib/kafka/data",
        "timescale": "/var/lib/postgresql/data",
        "nats": "/data",
        **{name: "/data" for name in OURS if name.startswith("ingest-")},
        "sink-files": "/data",
    }
    assert {volume for volume, _ in mounted.values()} == set(COMPOSE["volumes"])


# -- in which order


@every
def test_dependency_is_one_that_compose_can_wait_for(name: str) -> None:
    """A server is waited for until it is healthy, a command until it has succeeded."""
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        assert wait == {"condition": "service_completed_successfully" if other in ONCE else "service_healthy"}
        assert other in ONCE or "test" in SERVICES[other]["healthcheck"]


def test_nothing_of_ours_starts_before_what_it_cannot_do_without() -> None:
    """Topics before all who use them, the tables before who writes them, NATS before who publishes to it."""
    needs = {name: set(service["depends_on"]) for name, service in OURS.items()}
    assert set(ONCE) == {"topics", "db-upgrade"}
    assert needs.pop("topics") == {"kafka"}
    assert needs.pop("db-upgrade") == {"topics", "timescale"}
    assert needs.pop("sink-timescale") == needs.pop("api") == {"topics", "db-upgrade"}
    assert needs.pop("sink-nats") == needs.pop("senpai") == {"topics", "nats"}
    assert set(map(frozenset, needs.values())) == {frozenset({"topics"})}


# -- how it is kept running


@every_lasting
def test_lasting_service_is_restarted_checked_and_stopped_in_time(name: str) -> None:
    """It comes back after a crash and a reboot, says how it is, and gets the time that its data needs."""
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert set(service["healthcheck"]) == {"test", "interval", "timeout", "retries", "start_period"}
    assert int(service["stop_grace_period"].removesuffix("s")) >= 30


@every
def test_memory_and_logs_are_bounded(name: str) -> None:
    """One service cannot take the machine with it."""
    service = SERVICES[name]
    assert re.fullmatch(r"[1-9]\d*[mg]", service["mem_limit"])
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}


@pytest.fixture(params=[200, 503])
def answering(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """The port of a server, and the status with which it answers /ready."""

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param if self.path == "/ready" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield server.server_port, request.param
        thread.join()


def test_health_check_fails_unless_ready_says_200(answering: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program, as the containers run it, against a server that answers."""
    port, status = answering
    kind, interpreter, option, program = SERVICES["core"]["healthcheck"]["test"]
    assert (kind, interpreter, option) == ("CMD", "python", "-c")
    monkeypatch.setenv("HTTP_PORT", str(port))
    with pytest.raises(SystemExit) as caught:
        exec(program)
    assert bool(caught.value.code) == (status != 200)


# -- who can reach it, and what it can reach


@every
def test_ports_are_published_on_loopback_alone(name: str) -> None:
    """The passwords' defaults, and servers without any, are safe for this reason."""
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


def test_the_database_has_one_password_and_its_url_none() -> None:
    """One variable sets it for the server and for those who connect, whatever characters it has."""
    given = [SERVICES[name]["environment"] for name in CONNECTING]
    assert {place(each["MARKET_DATA_DATABASE_URL"]) for each in given} == {"mdstream@timescale:5432/mdstream"}
    assert not any("password" in options(each["MARKET_DATA_DATABASE_URL"]) for each in given)
    written = compose_reader.load(FILE.read_text())["services"]
    passwords = [written[name]["environment"]["PGPASSWORD"] for name in CONNECTING]
    assert {*passwords, written["timescale"]["environment"]["POSTGRES_PASSWORD"]} == {
        "${MDSTREAM_DB_PASSWORD:-mdstream}"
    }


def test_no_port_is_published_twice() -> None:
    """The second service could not start."""
    published = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == len(set(published))


@every
def test_no_service_can_gain_rights(name: str) -> None:
    """Not by a program that is setuid, not by the host's namespaces."""
    service = SERVICES[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)


@every_of_ours
def test_our_containers_have_no_rights_and_write_their_data_only(name: str) -> None:
    """A fault in a parser of what venues send gets nobody far."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["init"] is True
    writable = [path.split(":")[0] for path in service["tmpfs"]] + [
        volume.split(":")[1] for volume in service.get("volumes", [])
    ]
    assert sorted(writable) == ["/data", "/tmp"]


# -- the image


def test_image_is_built_once_and_runs_as_the_user_who_owns_its_data() -> None:
    """The folder /data is the image's user's, as a volume takes it over and as the other containers mount it."""
    assert [name for name, service in OURS.items() if "build" in service] == ["topics"]
    assert len({service["image"] for service in OURS.values()}) == 1
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    (uid,) = re.findall(r"^USER (\d+):\1$", final, re.MULTILINE)
    assert int(uid) > 999
    assert f"useradd --uid {uid} " in final
    assert f"/data:uid={uid},gid={uid},mode=0755,size=16m" in SERVICES["core"]["tmpfs"]
    assert 'ENTRYPOINT ["mdstream"]' in final


def test_image_holds_locked_packages_only() -> None:
    """Each package's hash is checked; after that nothing is asked of an index any more."""
    _, build, final = DOCKERFILE.split("\nFROM ")
    first, second = re.findall(r"\bpip (?:.*\\\n)*.*", build)
    assert "--require-hashes -r requirements.lock" in first
    assert "--no-index" in second
    assert "pip" not in final


def test_what_the_image_is_built_from_reaches_the_engine_and_nothing_else() -> None:
    """A .env or a data folder must not end in a layer."""
    copied = {
        path for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE) for path in line.split()[:-1]
    }
    everything, *rules = [
        line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert everything == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == copied
    assert all((PROJECT / path).exists() for path in copied)


# -- the reader


@pytest.mark.parametrize(
    "text",
    [
        "a: no",
        "a: 0777",
        "a: 12:30",
        "a: {b: c}",
        "a: |",
        'a: "b',
        "a: 'b'",
        "a: b\na: c",
        "a: [b",
        "a:\n  b: c\n c: d",
    ],
)
def test_reader_refuses_what_it_may_misread(text: str) -> None:
    """What another parser may see otherwise is an error here, so that the checks above are of what compose sees."""
    with pytest.raises(ValueError, match=r"^line \d+: "):
        compose_reader.load(text)


def test_reader_merges_as_yaml_does() -> None:
    """What a mapping says itself wins, then the first that is merged into it."""
    text = "a: &a\n  x: 1\n  y: 1\nb: &b\n  y: 2\n  z: 2\nc:\n  <<: [*a, *b]\n  x: 3 # not 1\n"
    assert compose_reader.load(text)["c"] == {"x": 3, "y": 1, "z": 2}


@pytest.mark.parametrize("text", ["${A}", "$A", "${A:-${B:-c}}", "${A-b}"])
def test_variable_without_a_plain_default_is_refused(text: str) -> None:
    """docker-compose 1.29 has no nested defaults, and `make up` has to work with nothing set."""
    with pytest.raises(ValueError, match="without a plain default"):
        compose_reader.expand({"a": [text]})
