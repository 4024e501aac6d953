"""Runs what examples/ describes for containers and pods, and the system unit, before a Google on loopback.

Called by scripts/test-containers. Each part runs in namespaces of its own, beside the others.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import compose_spec
import kubernetes_validate
import trustme
import yaml
from crun import BUILD, CGROUPS, PYTHON, Container, Mount, base_root, until
from fleet_world import BUNDLE, NGINX_CLIENTS, NJS
from pace import lifetime
from system_unit import Machine, booted

from vx_token.emulator import Emulator, running

REPOSITORY = Path(__file__).resolve().parent.parent
COMPOSE = REPOSITORY / "examples/compose"
KUBERNETES = REPOSITORY / "examples/kubernetes"
ENVOY = REPOSITORY / "examples/envoy"
NGINX = REPOSITORY / "examples/nginx"
UNIT = REPOSITORY / "systemd/vx-token@.service"
WHEELS = REPOSITORY / ".containers/wheels"
VERSIONS = ("1.29.1", "1.33.1", "1.37.0")  # the first with native sidecars, and later ones
LIVES = 10
USER = 65532
NAMES = ("aiplatform.googleapis.com", "us-central1-aiplatform.googleapis.com", "metadata.google.internal")
NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def demand(condition: object, what: str) -> None:
    """Fail unless `condition` holds."""
    if not condition:
        raise AssertionError(what)


# --- The files ---


def check_files() -> None:
    """The Compose file follows the specification, and each manifest the strict schemas of Kubernetes."""
    text = (COMPOSE / "compose.yaml").read_text()
    compose_spec.PyCompose.from_yaml(text).validate()
    known = compose_spec.Service.model_fields.keys()
    for name, service in yaml.safe_load(text)["services"].items():
        demand(set(service) <= set(known), f"{name} has unknown keys: {set(service) - set(known)}")
    count = 0
    for path in sorted(KUBERNETES.glob("*/*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if path.name == "kustomization.yaml":
                missing = [each for each in document["resources"] if not (path.parent / each).is_file()]
                demand(not missing, f"{path}: {missing} do not exist")
                continue
            for version in VERSIONS:
                kubernetes_validate.validate(document, version, strict=True)
            count += 1
            if document["kind"] == "Deployment":
                _check_hardening(path, document["spec"]["template"]["spec"])
    say(f"files: compose.yaml and {count} manifests are valid, for Kubernetes {', '.join(VERSIONS)}")


def _check_hardening(path: Path, pod: dict[str, Any]) -> None:
    demand(pod["securityContext"]["runAsNonRoot"], f"{path}: runAsNonRoot")
    demand(pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, f"{path}: seccompProfile")
    demand(pod["automountServiceAccountToken"] is False, f"{path}: automountServiceAccountToken")
    for container in (*pod["initContainers"], *pod["containers"]):
        context = container["securityContext"]
        demand(context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"], f"{path}: {container}")
        demand(context["capabilities"] == {"drop": ["ALL"]}, f"{path}: {container['name']} keeps capabilities")
        demand("memory" in container["resources"]["limits"], f"{path}: {container['name']} has no memory limit")
        for name in ("livenessProbe", "startupProbe"):
            demand("status" not in json.dumps(container.get(name)), f"{path}: {name} depends on Google")


# --- The image ---


@dataclass
class Image:
    """An image that is built by the steps of a Containerfile; JSON in a file beside it passes it on to the parts."""

    root: str
    environ: dict[str, str] = field(default_factory=lambda: {"PATH": f"{PYTHON}/bin:/usr/local/bin:/usr/bin:/bin"})
    user: int = 0
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: str = ""
    mounts: list[Mount] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """Where a file of the image is on this machine."""
        return Path(self.root + name)


def instructions(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the instructions of a Containerfile with their arguments."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, rest = line.partition(" ")
        yield name, rest.strip()


def build(folder: Path) -> Image:
    """Do what the Containerfile says; the system's Python stands for the base image, and pip uses downloaded wheels."""
    stages: dict[str, Image] = {}
    image = Image(str(folder))
    for number, (name, rest) in enumerate(instructions(COMPOSE / "Containerfile")):
        words = shlex.split(rest) if name != "CMD" else []
        match name:
            case "FROM":
                image = Image(str(folder / f"stage-{number}"))
                base_root(image.path(""))
                stages[words[2] if len(words) == 3 else "last"] = image
            case "COPY" if words[0].startswith("--from="):
                source = stages[words[0].removeprefix("--from=")].path(words[1])
                subprocess.run(["cp", "-a", source, image.path(words[2])], check=True)
            case "COPY":
                _copy_checkout(image.path(words[1]))
            case "RUN":
                _run_step(image, rest, folder, f"step-{number}")
            case "ENV":
                image.environ |= dict(word.split("=", 1) for word in words)
            case "USER":
                image.user = int(rest.partition(":")[0])
            case "HEALTHCHECK":
                image.health = rest.partition(" CMD ")[2]
            case "ENTRYPOINT":
                image.entrypoint = json.loads(rest)
            case "CMD":
                image.command = json.loads(rest)
            case _:
                raise AssertionError(f"unknown instruction {name}")
    return image


def _copy_checkout(target: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, target / name)


def _run_step(image: Image, command: str, folder: Path, name: str) -> None:
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "1"}
    step = Container(
        name,
        folder,
        image.path(""),
        ["sh", "-ec", command],
        image.environ | offline,
        [Mount("/wheels", WHEELS, read_only=True)],
        uid=0,
        capabilities=BUILD,
        read_only=False,
    )
    with step.running():
        demand(step.wait(300) == 0, f"{command}: {step.log.read_text()}")


def build_and_measure(folder: Path) -> Image:
    """Build the image, and print the size of its own layers."""
    started = time.monotonic()
    image = build(folder)
    size = subprocess.run(["du", "-sb", image.path("/opt")], check=True, capture_output=True).stdout.split()[0]
    archive = subprocess.run(["tar", "-C", image.root, "-cz", "opt"], check=True, capture_output=True).stdout
    demand(image.user == USER, "the image has a user other than root")
    seconds = time.monotonic() - started
    say(f"image: built in {seconds:.0f} s; our layer {int(size) / 1e6:.0f} MB, {len(archive) / 1e6:.0f} MB compressed")
    return image


# --- Requests ---


def ask(port: int, path: str, key: str = "", body: object = None, host: str = "127.0.0.1") -> int:
    """Send a request to the gateway on loopback; return the HTTP status, 0 if no answer came."""
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=30)) as connection:
        try:
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except OSError:
            return 0


CHAT = {"model": "google/gemini-2.5-flash", "messages": [{"role": "user", "content": "hello"}]}


# --- Compose ---


def run_compose(image: Image, folder: Path) -> None:
    """The service vx-token of compose.yaml runs as written: healthy, private, read-only, and serving its neighbour."""
    service = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]["vx-token"]
    with running(lifetime=60.0) as google:
        config = folder / "config.toml"
        config.write_text((COMPOSE / "config.toml").read_text() + f'base_url = "{google.base_url()}"\n')
        secret = folder / "google.json"
        google.service_account(secret)
        for path, mode in ((config, 0o644), (secret, 0o400)):
            path.chmod(mode)
        os.chown(secret, USER, USER)  # as README.md says
        mounts = [_compose_mount(each, image, {"./config.toml": config}, folder) for each in service["volumes"]]
        mounts += [Mount(f"/run/secrets/{name}", secret, read_only=True) for name in service["secrets"]]
        mounts += [
            Mount(place, options=options) for place, options in (each.split(":", 1) for each in service["tmpfs"])
        ]
        container = Container(
            "compose",
            folder,
            image.path(""),
            [*image.entrypoint, *image.command],
            image.environ,
            mounts,
            image.user,
            memory=_bytes(service["mem_limit"]),
            processes=service["pids_limit"],
            read_only=service["read_only"],
        )
        with container.running():
            until(lambda: container.enter("sh", "-c", image.health).returncode == 0, "the health check succeeds", 120)
            key = container.enter("vx-token", "gateway", "key", "--name", "open-webui").stdout.strip()
            demand(ask(8490, "/v1/chat/completions", key, CHAT) == 200, "the neighbour on the same loopback is served")
            demand(ask(8490, "/v1/chat/completions", "wrong", CHAT) == 401, "without the key it is not")
            for name in ("/etc/x", "/opt/vx-token/x", "/etc/vx-token/config.toml", "/run/secrets/google.json"):
                done = container.enter("sh", "-c", f"echo >>{name}")
                demand(done.returncode != 0, f"{name} can be written")
            _check_process(container)
            done = container.enter("python3", "-c", "import socket as s; s.socket(s.AF_NETLINK, s.SOCK_RAW, 9)")
            demand("Invalid argument" in done.stderr, f"the seccomp filter refuses audit sockets: {done.stderr}")
            peak = container.peak() >> 20
            status = container.kill(signal.SIGTERM)
            demand(status == 0, f"it stops cleanly: {status}")
            say(f"compose: healthy, served its neighbour, read-only; {peak} MiB at most")


def _check_process(container: Container) -> None:
    """Its program has neither root's user nor capabilities, cannot gain any, and has a seccomp filter."""
    rows = [row.split() for row in Path(f"/proc/{container.pid}/status").read_text().splitlines()]
    facts = {row[0]: row[1] for row in rows if len(row) > 1}
    wanted = {"Uid:": str(USER), "CapEff:": "0" * 16, "CapBnd:": "0" * 16, "NoNewPrivs:": "1", "Seccomp:": "2"}
    demand(facts | wanted == facts, f"the process of {container.name}: {facts}")


def _compose_mount(text: str, image: Image, files: dict[str, Path], folder: Path) -> Mount:
    source, target, *options = text.split(":")
    if source in files:
        return Mount(target, files[source], read_only=options == ["ro"])
    volume = folder / f"volume-{source}"
    shutil.copytree(image.path(target), volume)  # a new volume gets content, owner and mode of the image
    status = image.path(target).stat()
    os.chown(volume, status.st_uid, status.st_gid)
    return Mount(target, volume)


def _bytes(text: str) -> int:
    units = {"k": 10, "Ki": 10, "m": 20, "Mi": 20, "g": 30, "Gi": 30}
    number = text.rstrip("kKmMgGi")
    return int(number) << units[text[len(number) :]]


# --- A bridge ---


def run_bridge(_: Image, folder: Path) -> None:
    """A client in another network namespace reaches the gateway at the bridge's address, and nothing else."""
    subprocess.run(["mount", "-t", "tmpfs", "netns", "/run"], check=True)  # where ip keeps the names of namespaces
    for words in (
        "link add vxbridge type bridge",
        "address add 172.31.255.1/24 dev vxbridge",
        "link set vxbridge up",
        "link add vxouter type bridge",
        "address add 172.31.254.1/24 dev vxouter",
        "link set vxouter up",
        "netns add there",
        "link add vxhost type veth peer name vxclient netns there",
        "link set vxhost master vxbridge up",
        "-n there link set lo up",
        "-n there address add 172.31.255.2/24 dev vxclient",
        "-n there link set vxclient up",
        "-n there route add default via 172.31.255.1",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    config, key_file = folder / "bridge.toml", folder / "bridge.json"
    with running() as google:
        google.service_account(key_file)
        config.write_text(
            f'[profiles.default]\nproject = "demo"\nbase_url = "{google.base_url()}"\ncredentials = "{key_file}"\n'
            '[gateway]\nlisten = ["127.0.0.1:8490", "172.31.255.1:8490"]\nallowed_hosts = ["host.docker.internal"]\n'
        )
        environ = {**os.environ, "VX_TOKEN_CONFIG": str(config), "VX_TOKEN_RUNTIME_DIR": str(folder / "bridge-run")}
        vx = [sys.executable, "-m", "vx_token"]
        key = subprocess.run(
            [*vx, "gateway", "key"], env=environ, check=True, capture_output=True, text=True
        ).stdout.strip()
        with subprocess.Popen([*vx, "gateway"], env=environ, stderr=subprocess.DEVNULL) as gateway:
            try:
                until(lambda: ask(8490, "/healthz") == 200, "the gateway answers")
                seen = [
                    _from_there(address, host, key if with_key else "")
                    for address, host, with_key in (
                        ("172.31.255.1", "host.docker.internal", True),
                        ("172.31.255.1", "host.docker.internal", False),
                        ("172.31.255.1", "evil.example", True),
                        ("172.31.254.1", "host.docker.internal", True),
                        ("127.0.0.1", "localhost", True),
                    )
                ]
            finally:
                gateway.terminate()
    demand(seen == ["200", "401", "403", "ConnectionRefusedError", "ConnectionRefusedError"], str(seen))
    say("bridge: the client's namespace reaches the bridge's address with key and host name, and no other address")


def _from_there(*arguments: str) -> str:
    command = ["ip", "netns", "exec", "there", sys.executable, "-c", CLIENT, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


CLIENT = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], 8490, timeout=20)
try:
    connection.request("GET", "/v1/models", headers={"Host": sys.argv[2], "Authorization": "Bearer " + sys.argv[3]})
    print(connection.getresponse().status)
except OSError as error:
    print(type(error).__name__)
"""


# --- Pods ---


class Pod:
    """The containers of a Deployment, started as a kubelet starts them; the caller's network namespace is the pod's.

    Attributes:
        spec: the pod's specification.
        volumes: its volumes, by name.
    """

    def __init__(
        self, manifest: Path, images: dict[str, Image], folder: Path, files: dict[str, dict[str, str]]
    ) -> None:
        documents = list(yaml.safe_load_all(manifest.read_text()))
        self.spec = next(each for each in documents if each["kind"] == "Deployment")["spec"]["template"]["spec"]
        self.images, self.folder = images, folder
        self.volumes = {each["name"]: self._volume(each, files) for each in self.spec["volumes"]}

    def _volume(self, volume: dict[str, Any], files: dict[str, dict[str, str]]) -> Path:
        place = self.folder / volume["name"]
        place.mkdir()
        if "emptyDir" in volume:
            demand(volume["emptyDir"]["medium"] == "Memory", f"{volume['name']} is in memory")
            size = _bytes(volume["emptyDir"]["sizeLimit"])
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=0777,size={size}", "tmpfs", str(place)], check=True)
            place.chmod(0o777)  # as a kubelet does, whatever the umask is
        else:
            place.chmod(0o755)
            self.update(place, files[volume["name"]])
        return place

    @staticmethod
    def update(place: Path, files: dict[str, str]) -> None:
        """Replace the content of a volume as a kubelet does: a new folder, then a renamed link to it."""
        data = place / f"..{time.monotonic_ns()}"
        data.mkdir()
        data.chmod(0o755)
        for name, text in files.items():
            (data / name).write_text(text)
            (data / name).chmod(0o640)  # a projected token with an fsGroup
            os.chown(data / name, 0, USER)
            if not (place / name).is_symlink():
                (place / name).symlink_to(f"..data/{name}")
        (place / "..data_tmp").symlink_to(data.name)
        (place / "..data_tmp").rename(place / "..data")

    def _described(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(
            each for each in (*self.spec["initContainers"], *self.spec["containers"]) if each["name"] == name
        )
        return found

    def _container(self, spec: dict[str, Any], program: list[str] | None) -> Container:
        image = self.images[spec["image"]]
        mounts = [
            Mount(each["mountPath"], self.volumes[each["name"]] / each.get("subPath", ""), each.get("readOnly", False))
            for each in spec["volumeMounts"]
        ]
        return Container(
            spec["name"],
            self.folder,
            image.path(""),
            program or spec.get("command") or [*image.entrypoint, *image.command],
            image.environ | {each["name"]: each["value"] for each in spec.get("env", ())},
            [*image.mounts, *mounts],
            self.spec["securityContext"]["runAsUser"],
            memory=_bytes(spec["resources"]["limits"]["memory"]),
        )

    @contextlib.contextmanager
    def running(self, programs: dict[str, list[str]]) -> Iterator[dict[str, Container]]:
        """Start the containers in a kubelet's order, each after the startup probe of the one before.

        Args:
            programs: replace the programs of containers.
        """
        containers = {}
        with contextlib.ExitStack() as stack:
            for spec in (*self.spec["initContainers"], *self.spec["containers"]):
                container = self._container(spec, programs.get(spec["name"]))
                stack.enter_context(container.running())
                if spec in self.spec["initContainers"] and spec.get("restartPolicy") != "Always":
                    demand(container.wait(60) == 0, f"{spec['name']}: {container.log.read_text()}")
                    continue
                containers[spec["name"]] = container
                self.started(container)
                _check_process(container)
            yield containers

    def started(self, container: Container) -> None:
        """Wait for the startup probe."""
        until(lambda: self.probe(container, "startupProbe"), f"the startup probe of {container.name} succeeds", 180)

    def probe(self, container: Container, kind: str) -> bool:
        """Run a probe of the manifest; without one the container is fine while it runs."""
        spec = self._described(container.name)
        probe = spec.get(kind)
        if container.returncode is not None:
            return False
        if probe is None:
            return True
        if "exec" in probe:
            return container.enter(*probe["exec"]["command"]).returncode == 0
        port = next(each["containerPort"] for each in spec["ports"] if each["name"] == probe["tcpSocket"]["port"])
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    def ready(self, containers: dict[str, Container]) -> bool:
        """Whether the pod gets traffic."""
        return all(self.probe(each, "readinessProbe") for each in containers.values())


# A client: one request after another, each on a new connection, until it gets SIGTERM; then it prints the counts.
CLIENT_PROGRAM = """
import collections, http.client, json, os, signal, sys, time
statuses, ended = collections.Counter(), []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
body = json.dumps({"model": "google/gemini-2.5-flash", "messages": [{"role": "user", "content": "hello"}]})
while not ended:
    end = time.monotonic() + 120
    while time.monotonic() < end:  # a sidecar that is being restarted refuses connections, so clients must retry
        connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
        try:
            headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", body, headers)
            answer = connection.getresponse()
            statuses[answer.status] += bool(answer.read())
            break
        except OSError:
            time.sleep(0.1)
            statuses["retries"] += 1
        finally:
            connection.close()
    else:
        statuses["lost"] += 1
    time.sleep(0.02)
print(json.dumps(statuses), flush=True)
"""


def _outlive(
    pod: Pod,
    google: Emulator,
    programs: dict[str, list[str]],
    client: Callable[[dict[str, Container]], "contextlib.AbstractContextManager[Callable[[], dict[str, int]]]"],
    rotate: Callable[[], None] = lambda: None,
    revoke: Callable[[], None] | None = None,
    profiles: int = 1,
) -> None:
    """Run a pod over ten token lives; its sidecar is killed, its login is rotated, and revoked at the end."""
    with pod.running(programs) as containers:
        sidecar = containers["vx-token"]
        until(lambda: pod.ready(containers), "the pod is ready", 180)
        with client(containers) as stop:
            first, started, cpu = len(google.issued), time.monotonic(), sidecar.seconds()
            patience, enough = 120 + LIVES * google.lifetime, LIVES * profiles
            until(lambda: len(google.issued) >= first + enough // 3, "a third of the token lives", patience)
            load = (sidecar.seconds() - cpu) / (time.monotonic() - started)
            sidecar.kill()  # and the kubelet starts it again
            sidecar.start()
            pod.started(sidecar)
            rotate()
            rotated = len(google.issued)
            until(lambda: len(google.issued) >= max(rotated + 2, first + enough), "all token lives", patience)
            statuses = stop()
        survivors = [each for each in containers.values() if each.returncode is None]
        lives = (len(google.issued) - first) // profiles
        demand(set(statuses) <= {"200", "retries"} and statuses["200"] > 50, f"the client's answers: {statuses}")
        memory = [f"{each.name} {each.resident() >> 20} MiB, {each.peak() >> 20} MiB at most" for each in survivors]
        if revoke:
            revoke()
            unready = "after a revoked login the pod is not ready"
            until(lambda: not pod.probe(sidecar, "readinessProbe"), unready, patience)
            demand(all(pod.probe(each, "livenessProbe") for each in survivors), "nothing is restarted")
        retries = statuses.get("retries", 0)
        say(f"{pod.folder.name}: {statuses['200']} requests answered 200, {retries} connections retried, {lives} lives")
        say(f"{pod.folder.name}: {'; '.join(memory)}; vx-token took {load * 1000:.0f}m CPU")


def _workload(google: Emulator, folder: Path, document: dict[str, Any]) -> tuple[Path, str]:
    """Return the file with the projected token, and the credential file of a workload that reads it."""
    subject, written = folder / "subject", folder / "written.json"
    google.external_account(written, subject)
    source = {"credential_source": document["credential_source"]}
    return subject, json.dumps(json.loads(written.read_text()) | source)


def _rotate(google: Emulator, pod: Pod, subject: Path) -> None:
    """Replace the projected service-account token; Google does not accept the old one any more."""
    google.replace_subject_token(subject)
    pod.update(pod.volumes["google-identity"], {"token": subject.read_text()})


def _revoke(google: Emulator) -> None:
    google.revoke_identity(google.issued[-1].identity)


@contextlib.contextmanager
def _app(containers: dict[str, Container]) -> Iterator[Callable[[], dict[str, int]]]:
    """The client is the pod's own app."""

    def stop() -> dict[str, int]:
        app = containers["app"]
        demand(app.kill(signal.SIGTERM) == 0, "the app ends")
        counts: dict[str, int] = json.loads(app.log.read_text().splitlines()[-1])
        return counts

    yield stop


def _program(folder: str) -> dict[str, list[str]]:
    """The app's command of the manifest, with our program."""
    documents = yaml.safe_load_all((KUBERNETES / folder / "deployment.yaml").read_text())
    spec = next(documents)["spec"]["template"]["spec"]["containers"][0]
    return {"app": [*spec["command"][:3], "python3", "-c", CLIENT_PROGRAM, "8490"]}


def run_workload_identity(image: Image, folder: Path) -> None:
    """A pod with Workload Identity Federation."""
    documents = yaml.safe_load((KUBERNETES / "workload-identity/configmap.yaml").read_text())["data"]
    with running(lifetime=lifetime(5.0)) as google:
        subject, google_json = _workload(google, folder, json.loads(documents["google.json"]))
        config = documents["config.toml"] + f'base_url = "{google.base_url()}"\n'
        files = {
            "config": {"config.toml": config, "google.json": google_json},
            "google-identity": {"token": subject.read_text()},
        }
        pod = Pod(KUBERNETES / "workload-identity/deployment.yaml", {"vx-token": image, "app": image}, folder, files)
        _outlive(
            pod,
            google,
            _program("workload-identity"),
            _app,
            lambda: _rotate(google, pod, subject),
            lambda: _revoke(google),
        )


def run_gke(image: Image, folder: Path) -> None:
    """A pod on Google Kubernetes Engine; the metadata server's name leads to the emulator."""
    documents = yaml.safe_load((KUBERNETES / "gke/configmap.yaml").read_text())["data"]
    with running(lifetime=lifetime(5.0), port=80) as google:
        config = documents["config.toml"] + f'base_url = "{google.base_url()}"\n'
        pod = Pod(
            KUBERNETES / "gke/deployment.yaml",
            {"vx-token": image, "app": image},
            folder,
            {"config": {"config.toml": config}},
        )
        _outlive(pod, google, _program("gke"), _app)


def run_fleet(image: Image, folder: Path) -> None:
    """Envoy with vx-token in one pod, with the files of examples/envoy; Google's names lead to the emulator."""
    authority = trustme.CA()
    bundle = folder / "ca-certificates.crt"
    authority.cert_pem.write_to_path(str(bundle))
    tls = _tls(authority)
    trusted = Mount("/etc/ssl/certs/ca-certificates.crt", bundle, read_only=True)
    binary = next((REPOSITORY / ".fleet").glob("lib/python3*/site-packages/envoy/_bin/envoy"))
    envoy_root = _new(folder / "envoy-image")
    base_root(envoy_root)
    envoy = Image(
        str(envoy_root),
        {"PATH": "/opt/envoy:/usr/bin:/bin"},
        mounts=[trusted, Mount("/opt/envoy", binary.parent, read_only=True)],
    )
    vx_token = dataclasses.replace(
        image, environ=image.environ | {"REQUESTS_CA_BUNDLE": trusted.target}, mounts=[trusted]
    )
    google_json = yaml.safe_load((KUBERNETES / "workload-identity/configmap.yaml").read_text())["data"]["google.json"]
    with running(lifetime=lifetime(5.0), port=443, tls=tls) as google:
        subject, credentials = _workload(google, folder, json.loads(google_json))
        files = {
            "config": {"config.toml": (ENVOY / "config.toml").read_text(), "key.json": credentials},
            "envoy": _envoy_files(folder),
            "google-identity": {"token": subject.read_text()},
        }
        pod = Pod(KUBERNETES / "fleet/deployment.yaml", {"vx-token": vx_token, "envoy": envoy}, folder, files)
        key = _client_key(files["envoy"]["clients.yaml"])

        @contextlib.contextmanager
        def client(_: dict[str, Container]) -> Iterator[Callable[[], dict[str, int]]]:
            command = [sys.executable, "-c", CLIENT_PROGRAM, "8491"]
            environ = {"OPENAI_API_KEY": key}
            with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
                try:

                    def stop() -> dict[str, int]:
                        process.terminate()
                        counts: dict[str, int] = json.loads(process.communicate()[0])
                        return counts

                    yield stop
                finally:
                    process.kill()

        _outlive(pod, google, {}, client, lambda: _rotate(google, pod, subject), lambda: _revoke(google), profiles=2)


def _envoy_files(folder: Path) -> dict[str, str]:
    """What the commands of the READMEs make: the listener at the pod's address, and the clients' keys."""
    change = next(row for row in (KUBERNETES / "README.md").read_text().splitlines() if row.startswith("sed "))
    subprocess.run(["sh", "-ec", change.replace(">envoy.yaml", f">{folder}/envoy.yaml")], cwd=KUBERNETES, check=True)
    block = (ENVOY / "README.md").read_text().split("```sh\n")[1].split("```")[0]
    create = "\n".join(row for row in block.splitlines() if not row.startswith("mkdir"))
    subprocess.run(["sh", "-euc", create.replace("/etc/envoy", str(folder))], check=True)
    made = {name: (folder / name).read_text() for name in ("envoy.yaml", "clients.yaml")}
    return made | {path.name: path.read_text() for path in ENVOY.glob("token-*.yaml")}


def _client_key(clients: str) -> str:
    """The key in a file of clients' keys."""
    return next(word for word in clients.replace('"', " ").split() if len(word) == 64)


def _tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*NAMES, "127.0.0.1").configure_cert(context)
    return context


def _hosts() -> str:
    return f"127.0.0.1 localhost {' '.join(NAMES)}\n"


# --- A machine account ---


ACCOUNT = "default"  # whose token file is the one that nginx reads for its profile `default`
NAME = f"vx-token@{ACCOUNT}.service"
TOKEN = f"/run/vx-token/{ACCOUNT}/token"
USERS = "u member -\nm member vx-token\nu stranger -\nu www-data -\n"
PYTHON_CONF = (
    f"[Service]\nEnvironment=LD_LIBRARY_PATH=/opt/python/lib REQUESTS_CA_BUNDLE={BUNDLE} SSL_CERT_FILE={BUNDLE}\n"
)
OWN_COMMAND = (
    "setpriv --reuid=vx-token --regid=vx-token --clear-groups env -u VX_TOKEN_CONFIG LD_LIBRARY_PATH=/opt/python/lib"
    f" XDG_CONFIG_HOME=/etc/vx-token/{ACCOUNT} XDG_STATE_HOME=/var/lib/vx-token/{ACCOUNT}"
    f" VX_TOKEN_RUNTIME_DIR=/run/vx-token/{ACCOUNT}/private /opt/vx-token/bin/vx-token"
)
NGINX_SERVICE = """
[Service]
ExecStart=/usr/sbin/nginx -e stderr -g "daemon off; user www-data;" -c /etc/nginx/vertex/njs.conf
RuntimeDirectory=nginx-vertex
StandardOutput=file:/run/nginx.log
"""


def run_unit(image: Image, folder: Path) -> None:
    """The system unit is valid, as hardened as docs/service.md says, and does what that page says, also for nginx."""
    with contextlib.ExitStack() as stack:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        google = stack.enter_context(running(lifetime=lifetime(5.0), port=443, tls=_tls(authority)))
        etc, program = _new(folder / "etc"), folder / "opt"
        (etc / ACCOUNT / "vx-token").mkdir(parents=True)
        google.service_account(etc / ACCOUNT / "google.json")
        (etc / ACCOUNT / "google.json").chmod(0o600)
        text = (REPOSITORY / "docs/service.md").read_text()  # the page's own configuration
        config = text.split("vx-token/NAME/vx-token/config.toml <<'END'\n")[1].split("END\n")[0]
        gateway = "[gateway]\n"  # which nginx asks after a 401
        (etc / ACCOUNT / "vx-token/config.toml").write_text(config.replace("NAME", ACCOUNT) + gateway)
        (folder / "users.conf").write_text(USERS)
        (folder / "python.conf").write_text(PYTHON_CONF)
        (folder / "nginx.service").write_text(NGINX_SERVICE)
        _relocate(image, program)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/opt"], check=True)  # systemd-analyze looks for the program
        Path("/opt/vx-token").symlink_to(program)
        exposure = _analyze()
        binds = {
            UNIT: "/etc/systemd/system/vx-token@.service",
            UNIT.with_name("vx-token.sysusers.conf"): "/etc/sysusers.d/vx-token.conf",
            folder / "users.conf": "/etc/sysusers.d/users.conf",
            folder / "python.conf": "/etc/systemd/system/vx-token@.service.d/python.conf",
            Path(PYTHON): "/opt/python",
            program: "/opt/vx-token",
            etc: "/etc/vx-token",
            folder / "nginx.service": "/etc/systemd/system/nginx.service",
            NGINX: "/opt/nginx",
            folder / "ca.pem": str(BUNDLE),
            Path("/etc/hosts"): "/etc/hosts",
        }
        machine = stack.enter_context(booted(binds, folder / "machine.log"))
        try:
            _check_unit(machine, google)
            _check_nginx(machine, google)
        except BaseException:
            say(machine.run("systemctl", "status", "--no-pager", "--lines=50", NAME).stdout)
            say(machine.run("journalctl", "--no-pager", "--lines=50").stdout)
            raise
        say(f"unit: valid, exposure {exposure}, run by a systemd of its own; a member of the group reads the token")
        say("unit: nginx beside it serves a client with the token as a member of the group, and answers 503 without it")


def _relocate(image: Image, program: Path) -> None:
    """Copy the image's environment; its Python is in /opt/python, because the unit sees no home folder."""
    subprocess.run(["cp", "-a", image.path("/opt/vx-token"), program], check=True)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for name in ("python", "python3", version):
        (program / "bin" / name).unlink()
        (program / "bin" / name).symlink_to(f"/opt/python/bin/{version}")
    lines = (program / "pyvenv.cfg").read_text().splitlines()
    (program / "pyvenv.cfg").write_text("\n".join(["home = /opt/python/bin", *lines[1:]]) + "\n")


def _analyze() -> str:
    """Check the unit's file, and return its exposure."""
    done = subprocess.run(["systemd-analyze", "verify", UNIT], capture_output=True, text=True, check=False)
    demand(done.returncode == 0 and not done.stderr, f"systemd-analyze verify: {done.stderr}")
    argv = ["systemd-analyze", "security", "--offline=yes", UNIT]
    report = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    exposure = report.split("exposure level for")[1].split(":")[1].split()[0]
    page = (REPOSITORY / "docs/service.md").read_text().split("## A machine account")[1]
    stated = page.split("reports an exposure of ")[1][:3]
    demand(exposure == stated, f"systemd-analyze security: {exposure}, and docs/service.md says {stated}")
    return exposure


def _check_unit(machine: Machine, google: Emulator) -> None:
    done = machine.run("systemctl", "start", NAME)
    demand(done.returncode == 0, f"the unit starts: {done.stderr}")
    private = f"/run/vx-token/{ACCOUNT}/private/default/token"
    until(lambda: machine.run("cat", TOKEN, user="member").stdout == google.issued[-1].value, "a member reads it")
    for user, path in (("stranger", TOKEN), ("member", private), ("vx-token", f"/etc/vx-token/{ACCOUNT}/google.json")):
        done = machine.run("cat", path, user=user)
        demand("Permission denied" in done.stderr, f"{user} reads {path}: {done}")
    _check_service(machine)
    issued = len(google.issued)
    machine.run("systemctl", "kill", "--signal=KILL", NAME)
    until(lambda: machine.property(NAME, "NRestarts") == "1", "systemd starts it again")
    until(lambda: len(google.issued) >= issued + 3, "tokens after a crash", 60 + 3 * google.lifetime)
    machine.run("systemctl", "reload", NAME)
    demand(machine.run("systemctl", "is-active", NAME).stdout == "active\n", "it is active after a reload")
    demand(machine.run("systemctl", "stop", NAME).returncode == 0, "it stops")
    demand(machine.property(NAME, "Result") == "success", "it stops cleanly")


def _check_service(machine: Machine) -> None:
    """Its process has the user, the limits and the mounts of the unit."""
    pid = machine.property(NAME, "MainPID")
    rows = [row.split() for row in machine.run("cat", f"/proc/{pid}/status").stdout.splitlines()]
    facts = {row[0]: row[1] for row in rows if len(row) > 1}
    user = machine.run("id", "-u", "vx-token").stdout.strip()
    wanted = {"Uid:": user, "CapEff:": "0" * 16, "CapBnd:": "0" * 16, "NoNewPrivs:": "1", "Seccomp:": "2"}
    demand(facts | wanted == facts, f"the service's process: {facts}")
    inside = ["nsenter", f"--target={pid}", "--mount", "--", "setpriv", "--reuid=vx-token", "--regid=vx-token"]

    def see(*argv: str) -> str:
        done = machine.run(*inside, "--clear-groups", *argv)
        return done.stdout + done.stderr

    for path in ("/etc/x", "/opt/x", "/var/lib/x"):
        demand("Read-only file system" in see("touch", path), f"{path} can be written")
    demand("Permission denied" in see("ls", "/home"), "it sees the home folders")
    credential = see("cat", f"/run/credentials/{NAME}/google.json")
    demand('"service_account"' in credential, f"systemd passes the key on: {credential}")
    limits = machine.run("cat", f"/proc/{pid}/limits").stdout
    demand("Max core file size        0                    0" in limits, f"limits: {limits}")


def _check_nginx(machine: Machine, google: Emulator) -> None:
    """examples/nginx with njs.conf serves clients while its user is in the group and the token is there."""

    def demand_run(*argv: str) -> str:
        done = machine.run(*argv)
        demand(done.returncode == 0, f"{argv}: {done.stderr}")
        return done.stdout

    def served(client: str) -> int:
        return ask(NJS.port, "/v1/chat/completions", client, CHAT)

    def restart_nginx() -> None:
        demand_run("systemctl", "restart", "nginx")
        until(lambda: served("unknown") == 401, "nginx listens")

    def check_refused(why: str) -> None:
        chats = google.count("chat")
        demand(served(key) == 503, f"nginx answers 503 {why}")
        demand(google.count("chat") == chats, f"Google gets no request {why}")

    def wait_for_tokens(count: int) -> None:
        enough = len(google.issued) + count
        until(lambda: len(google.issued) >= enough, "tokens", 60 + 3 * google.lifetime)
        until(lambda: demand_run("cat", TOKEN) == google.issued[-1].value, "the last token is in its file")

    demand_run("systemctl", "start", NAME)
    create = (NGINX / "README.md").read_text().split("```sh\n")[1].split("```")[0]
    create = create.replace("$(vx-token", f"$({OWN_COMMAND}")
    demand_run("sh", "-euc", f"cd /\nmkdir /etc/nginx\ncp -r /opt/nginx /etc/nginx/vertex\n{create}")
    key = _client_key(demand_run("cat", NGINX_CLIENTS))
    restart_nginx()
    wait_for_tokens(1)
    check_refused("outside the group")
    demand_run("usermod", "-aG", "vx-token", "www-data")
    restart_nginx()
    demand(served(key) == 200, "nginx serves as a member of the group")
    wait_for_tokens(2)
    demand(served(key) == 200 and google.count("chat", 401) == 0, "nginx serves with the later token")
    google.revoke(google.issued[-1].value)
    demand(served(key) == 200 and google.count("chat", 401) > 0, "the gateway serves what Google answered with 401")
    demand_run("systemctl", "stop", NAME)
    demand_run("rm", TOKEN)
    check_refused("without a token")


PARTS: dict[str, Callable[[Image, Path], None]] = {
    "compose": run_compose,
    "bridge": run_bridge,
    "workload-identity": run_workload_identity,
    "gke": run_gke,
    "fleet": run_fleet,
    "unit": run_unit,
}


def run_part(name: str, folder: Path) -> None:
    """Run a part in the namespaces that this process has been started in."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    hosts = folder / f"{name}.hosts"
    hosts.write_text(_hosts())
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    if (
        name != "unit" and (CGROUPS / "unified").is_mount()
    ):  # crun refuses the hybrid hierarchy, but accepts the first version
        subprocess.run(["umount", CGROUPS / "unified"], check=True)
    if name == "image":
        image = build_and_measure(_new(folder / name))
        (folder / "image.json").write_text(json.dumps(dataclasses.asdict(image)))
        return
    image = Image(**json.loads((folder / "image.json").read_text()))
    try:
        PARTS[name](image, _new(folder / name))
    except BaseException:
        for log in (folder / name).glob("*.log"):
            say(f"{log.name}:\n{log.read_text()[-2000:]}")
        raise


def main(names: list[str]) -> int:
    """Run the named parts, by default all."""
    if unknown := set(names) - {*PARTS, "files"}:
        say(f"unknown: {', '.join(sorted(unknown))}; known: files, {', '.join(PARTS)}")
        return 2
    started = time.monotonic()
    wanted = names or ["files", *PARTS]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="vx-containers-", dir="/tmp") as place, contextlib.ExitStack() as stack:
        Path(place).chmod(0o755)

        def begin(name: str) -> "subprocess.Popen[bytes]":
            process = subprocess.Popen([*NAMESPACES, sys.executable, __file__, "--part", name, place])
            stack.callback(process.kill)
            return process

        failed = []
        image = begin("image") if set(wanted) - {"files"} else None
        if "files" in wanted:
            check_files()
        if image is not None:
            if image.wait():
                return 1
            processes = {name: begin(name) for name in PARTS if name in wanted}
            failed = [name for name, process in processes.items() if process.wait()]
    say(f"failed: {', '.join(failed)}" if failed else f"{time.monotonic() - started:.0f} s")
    say(f"{len(wanted) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        run_part(sys.argv[2], Path(sys.argv[3]))
        sys.exit(0)
    sys.exit(main(sys.argv[1:]))
