"""The gateway's addresses beyond its port on loopback: what may be named, and what is open there."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from gateways import alone, answers, configure, free_port, local_key
from sandbox import Box, until
from upstreams import Purse, front, settings_for
from vx_token.config.load import parse_config
from vx_token.config.model import Gateway
from vx_token.emulator import Emulator
from vx_token.errors import ConfigError
from vx_token.gateway.settings import Route

ROUTE = Route("p", "http://127.0.0.1:1")
BRIDGE = 'allowed_hosts = ["host.docker.internal"]\n'


def parsed(settings: str) -> Gateway:
    content = f"profiles.default.project = 'p'\n[gateway]\n{settings}\n"
    return parse_config(content, Path("/etc/vx/c"), {}, {}, Path("/")).gateway


@pytest.mark.parametrize(
    ("settings", "meant"),
    [
        ('listen = "127.0.0.1:9000"', Gateway(port=9000)),
        ('listen = "localhost:9000"', Gateway(port=9000)),
        ('listen = "[::1]:9000"', Gateway(host="::1", port=9000)),
        ('listen = "unix:/run/g.sock"', Gateway(unix_socket="/run/g.sock")),
        ('listen = ["unix:g.sock", "127.0.0.1:9000"]', Gateway(port=9000, unix_socket="/etc/vx/g.sock")),
        ('listen = ["127.0.0.1:9000", "[::1]:9000"]', Gateway(port=9000, listen=(("::1", 9000),))),
        (
            BRIDGE + 'listen = ["127.0.0.1:8490", "172.17.0.1:8490"]',
            Gateway(listen=(("172.17.0.1", 8490),), allowed_hosts=("host.docker.internal",)),
        ),
        (
            'allowed_hosts = ["Gate.Example", "[fd00::1]"]\nlisten = "[fd00::1]:81"',
            Gateway(listen=(("fd00::1", 81),), allowed_hosts=("gate.example", "[fd00::1]")),
        ),
    ],
)
def test_listen_names_loopback_addresses_one_socket_and_further_addresses(settings: str, meant: Gateway) -> None:
    assert parsed(settings) == Gateway(**{name: getattr(meant, name) for name in meant.__slots__} | {"enabled": True})


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ('listen = "0.0.0.0:8490"', "names 0.0.0.0, which means every interface"),
        ('listen = ["127.0.0.1:8490", "[::]:8490"]', "names ::, which means every interface"),
        ('listen = "[::ffff:0.0.0.0]:1"', "names ::ffff:0:0, an IPv4 address in IPv6 form"),
        ('listen = "8.8.8.8:1"', "names 8.8.8.8, a public address"),
        ('listen = "224.0.0.1:1"', "names 224.0.0.1, a public address"),
        ('listen = ["172.17.0.1:8490"]', "names 172.17.0.1, which is not loopback, and gateway.allowed_hosts is not"),
        ('listen = ["127.0.0.1:1", "127.0.0.1:1"]', "names an address twice"),
        ('listen = ["unix:/a", "unix:/b"]', "names two Unix sockets"),
        ('listen = "127.0.0.1"', "has an invalid address: '127.0.0.1'"),
        ('listen = "eth0:80"', "has an invalid address: 'eth0:80'"),
        ('listen = "unix:"', "has an invalid address: 'unix:'"),
        ('listen = "127.0.0.1:0"', "has a port out of range: '127.0.0.1:0'"),
        ('listen = "127.0.0.1:65536"', "has a port out of range"),
        ("listen = []", "must be an address or a list of addresses"),
        ("listen = 8490", "must be an address or a list of addresses"),
        ('port = 1\nlisten = "127.0.0.1:2"', "replaces gateway.port, and both are set"),
        ('unix_socket = "/a"\nlisten = "127.0.0.1:2"', "replaces gateway.unix_socket, and both are set"),
    ],
)  # fmt: skip
def test_an_address_that_is_open_to_everybody_or_unclear_is_refused(settings: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=r"^/etc/vx/c: gateway\.listen ") as caught:
        parsed((BRIDGE if "172.17" not in settings else "") + settings)
    assert problem in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", ["*", "a:80", ".example", "a b", "http://a", ""])
def test_an_allowed_host_is_a_plain_name(name: str) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.allowed_hosts has an invalid item"):
        parsed(f"allowed_hosts = [{name!r}]")


@pytest.mark.parametrize("place", ["0.0.0.0", "::", "8.8.8.8", "172.17.0.1"])
def test_the_gateway_itself_refuses_them_too(place: str) -> None:
    with pytest.raises(ConfigError, match="may not listen on"):
        settings_for(ROUTE, listen=((place, 1),), hosts=() if place == "172.17.0.1" else ("a",))


def test_allowed_hosts_are_accepted_in_the_host_header_and_others_are_not() -> None:
    with front(Purse(), ROUTE, hosts=("host.docker.internal",)) as proxy:

        def status(host: str) -> int:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)) as connection:
                connection.request("GET", "/healthz", headers={"Host": host})
                return connection.getresponse().status

        assert status("host.docker.internal") == status("Host.Docker.Internal:8490") == status("localhost") == 200
        assert status("docker.internal") == status("evil.host.docker.internal") == 403


def test_a_reload_adds_and_removes_an_address_and_the_first_one_stays(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    port, other = free_port(), free_port()

    def reachable() -> bool:
        try:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.2", other, timeout=10)) as connection:
                connection.request("GET", "/healthz")
                return connection.getresponse().status == 200
        except OSError:
            return False

    def listen(*places: str) -> None:
        configure(box, google, port)
        text = box.config.read_text().replace(f"port = {port}", f"listen = {json.dumps(places)}")
        box.config.write_text(text)

    listen(f"127.0.0.1:{port}", f"127.0.0.2:{other}")
    with box.daemon():
        until(lambda: answers(port) and reachable())
        listen(f"127.0.0.1:{port}")
        until(lambda: not reachable())
        assert answers(port)
        listen(f"127.0.0.1:{port}", f"127.0.0.2:{other}")
        until(reachable)
        assert box.vx("gateway", "keys").returncode == 0


IN_A_NAMESPACE = """
    import json, socket, subprocess, sys

    def run(*words):
        subprocess.run(words, check=True)

    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "vxtest0", "type", "bridge")
    run("ip", "address", "add", "172.31.255.1/24", "dev", "vxtest0")
    run("ip", "address", "add", "172.31.254.1/24", "dev", "vxtest0")
    run("ip", "link", "set", "vxtest0", "up")
    sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""

CLIENT = """
    import http.client, json, subprocess, sys, time

    def status(address, host, key, path="/v1/models"):
        connection = http.client.HTTPConnection(address, 8490, timeout=10)
        try:
            connection.request("GET", path, headers={"Host": host, "Authorization": "Bearer " + key})
            return connection.getresponse().status
        except OSError as error:
            return type(error).__name__

    key, command = sys.argv[1], sys.argv[2:]
    with subprocess.Popen([*command, "gateway"]) as gateway:
        end = time.monotonic() + 60
        while status("127.0.0.1", "localhost", key) != 200 and gateway.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        print(json.dumps({
            "bridge": status("172.31.255.1", "host.docker.internal", key),
            "without a key": status("172.31.255.1", "host.docker.internal", ""),
            "another host": status("172.31.255.1", "evil.example", key),
            "another address": status("172.31.254.1", "host.docker.internal", key),
            "metrics": status("172.31.255.1", "host.docker.internal", "", "/metrics"),
            "metrics on loopback": status("127.0.0.1", "localhost", "", "/metrics"),
        }))
        doctor = subprocess.run([*command, "doctor", "--json"], capture_output=True, text=True)
        print(json.dumps([each["detail"] for each in json.loads(doctor.stdout)["checks"] if each["name"] == "gateway"]))
        gateway.terminate()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a network namespace everywhere")
def test_a_bridge_gets_the_gateway_with_its_key_and_no_other_address_does(
    box: Box, google: Emulator, require: Callable[[str], str]
) -> None:
    require("ip")
    google.service_account(box.key)
    settings = 'listen = ["127.0.0.1:8490", "172.31.255.1:8490", "172.31.253.1:8490"]\nmetrics_open = true\n'
    box.config.write_text(f"[gateway]\n{BRIDGE}{settings}" + box.profile_text(url=google.base_url()))
    network = [require("unshare"), "--net", sys.executable, "-c", textwrap.dedent(IN_A_NAMESPACE)]
    client = [sys.executable, "-c", textwrap.dedent(CLIENT), local_key(box), *box.command()]
    done = subprocess.run(
        [*network, *client], env=box.environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    statuses, doctor = map(json.loads, done.stdout.splitlines())
    assert statuses == {
        "bridge": 200,
        "without a key": 401,
        "another host": 403,
        "another address": "ConnectionRefusedError",
        "metrics": 401,
        "metrics on loopback": 200,
    }
    assert doctor == [
        "accepts connections",
        "also listens at http://172.31.255.1:8490: unencrypted, for every program that reaches this address",
        "no interface has the address of 172.31.253.1:8490 in gateway.listen",
    ]


def test_alone_a_port_is_served_without_further_addresses(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    port, other = free_port(), free_port()
    settings = f'listen = ["127.0.0.1:{free_port()}", "127.0.0.2:{other}"]'
    box.config.write_text(f"[gateway]\n{settings}\n" + box.profile_text(url=google.base_url()))
    with alone(box, port, "--port", str(port)), pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection("127.0.0.2", other, timeout=10).connect()
