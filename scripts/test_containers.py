"""Runs what examples/ describes for containers and pods, as far as that goes without their engines.

Called by scripts/test-containers, in a network namespace of its own.
"""

import contextlib
import http.client
import json
import os
import shlex
import shutil
import signal
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
import yaml
from namespaces import PYTHON, Container, Mount, base_root, network, script, until

from vx_token.emulator import Emulator, running

REPOSITORY = Path(__file__).resolve().parent.parent
COMPOSE = REPOSITORY / "examples/compose"
KUBERNETES = REPOSITORY / "examples/kubernetes"
WHEELS = REPOSITORY / ".containers/wheels"
VERSIONS = ("1.29.1", "1.33.1", "1.37.0")  # the first with native sidecars, and later ones
LIFETIME, LIVES = 5.0, 10
USER = 65532


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
    """An image that is built by the steps of a Containerfile."""

    root: Path
    environ: dict[str, str] = field(default_factory=lambda: {"PATH": f"{PYTHON}/bin:/usr/local/bin:/usr/bin:/bin"})
    user: int = 0
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: str = ""


def instructions(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the instructions of a Containerfile with their arguments."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, rest = line.partition(" ")
        yield name, rest.strip()


def build(folder: Path) -> Image:
    """Do what the Containerfile says; the system's Python stands for the base image, and pip uses downloaded wheels."""
    stages: dict[str, Image] = {}
    image = Image(folder)
    for number, (name, rest) in enumerate(instructions(COMPOSE / "Containerfile")):
        words = shlex.split(rest) if name != "CMD" else []
        match name:
            case "FROM":
                image = Image(folder / f"stage-{number}")
                image.root.mkdir()
                base_root(image.root)
                stages[words[2] if len(words) == 3 else "last"] = image
            case "COPY" if words[0].startswith("--from="):
                source = stages[words[0].removeprefix("--from=")].root
                subprocess.run(["cp", "-a", f"{source}{words[1]}", f"{image.root}{words[2]}"], check=True)
            case "COPY":
                _copy_checkout(image.root / words[1].lstrip("/"))
            case "RUN":
                _run_step(image, rest)
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


def _run_step(image: Image, command: str) -> None:
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "1"}
    mounts = script(image.root, [Mount("/wheels", WHEELS, read_only=True)], read_only=False)
    environ = [f"{name}={value}" for name, value in {**image.environ, **offline}.items()]
    step = f"{mounts}\nexec env -i {shlex.join(environ)} sh -ec {shlex.quote(command)}\n"
    subprocess.run(["unshare", "--fork", "--pid", "--mount", "sh", "-c", step], check=True)
    (image.root / "wheels").rmdir()


def build_and_measure(folder: Path) -> Image:
    """Build the image, and print the size of its own layers."""
    started = time.monotonic()
    image = build(folder)
    size = int(subprocess.run(["du", "-sb", image.root / "opt"], check=True, capture_output=True).stdout.split()[0])
    archive = subprocess.run(["tar", "-C", image.root, "-cz", "opt"], check=True, capture_output=True).stdout
    demand(image.user == USER, "the image has a user other than root")
    seconds = time.monotonic() - started
    say(f"image: built in {seconds:.0f} s; our layer {size / 1e6:.0f} MB, {len(archive) / 1e6:.0f} MB compressed")
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
            image.root,
            [*image.entrypoint, *image.command],
            image.environ,
            folder / "compose.log",
            mounts,
            image.user,
            _bytes(service["mem_limit"]),
            service["read_only"],
        )
        with container.running():
            until(lambda: container.enter("sh", "-c", image.health).returncode == 0, "the health check succeeds", 120)
            key = container.enter("vx-token", "gateway", "key", "--name", "open-webui").stdout.strip()
            demand(ask(8490, "/v1/chat/completions", key, CHAT) == 200, "the neighbour on the same loopback is served")
            demand(ask(8490, "/v1/chat/completions", "wrong", CHAT) == 401, "without the key it is not")
            for name in ("/etc/x", "/opt/vx-token/x", "/etc/vx-token/config.toml", "/run/secrets/google.json"):
                done = container.enter("sh", "-c", f"echo >>{name}")
                demand(done.returncode != 0, f"{name} can be written")
            capabilities = container.enter(
                "grep", "-E", "^(CapEff|CapBnd|NoNewPrivs|Seccomp):", "/proc/self/status"
            ).stdout
            demand(capabilities.split()[1:6:2] == ["0" * 16, "0" * 16, "1"], f"no capabilities: {capabilities}")
            container.kill(signal.SIGTERM)
            demand(container.returncode == 0, f"it stops cleanly: {container.returncode}")
            say(f"compose: healthy, served its neighbour, read-only; {container.peak() / (1 << 20):.0f} MiB at most")


def _compose_mount(text: str, image: Image, files: dict[str, Path], folder: Path) -> Mount:
    source, target, *options = text.split(":")
    if source in files:
        return Mount(target, files[source], read_only=options == ["ro"])
    volume = folder / f"volume-{source}"
    shutil.copytree(image.root / target.lstrip("/"), volume)  # a new volume gets content, owner and mode of the image
    status = (image.root / target.lstrip("/")).stat()
    os.chown(volume, status.st_uid, status.st_gid)
    return Mount(target, volume)


def _bytes(text: str) -> int:
    units = {"k": 10, "Ki": 10, "m": 20, "Mi": 20, "g": 30, "Gi": 30}
    number = text.rstrip("kKmMgGi")
    return int(number) << units[text[len(number) :]]


# --- A bridge ---


def run_bridge(_: Image, folder: Path) -> None:
    """A client in another network namespace reaches the gateway at the bridge's address, and nothing else."""
    for words in (
        "link add vxbridge type bridge",
        "address add 172.31.255.1/24 dev vxbridge",
        "link set vxbridge up",
        "link add vxouter type bridge",
        "address add 172.31.254.1/24 dev vxouter",
        "link set vxouter up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    config = folder / "bridge.toml"
    with running() as google, network() as there:
        key_file = folder / "bridge.json"
        google.service_account(key_file)
        config.write_text(
            f'[profiles.default]\nproject = "demo"\nbase_url = "{google.base_url()}"\ncredentials = "{key_file}"\n'
            '[gateway]\nlisten = ["127.0.0.1:8490", "172.31.255.1:8490"]\nallowed_hosts = ["host.docker.internal"]\n'
        )
        for words in (
            f"link add vxhost type veth peer name vxclient netns {there.holder.pid}",
            "link set vxhost master vxbridge up",
        ):
            subprocess.run(["ip", *words.split()], check=True)
        there.run("ip", "address", "add", "172.31.255.2/24", "dev", "vxclient")
        there.run("ip", "link", "set", "vxclient", "up")
        there.run("ip", "route", "add", "default", "via", "172.31.255.1")
        environ = {**os.environ, "VX_TOKEN_CONFIG": str(config), "VX_TOKEN_RUNTIME_DIR": str(folder / "bridge-run")}
        vx = [sys.executable, "-m", "vx_token"]
        key = subprocess.run(
            [*vx, "gateway", "key"], env=environ, check=True, capture_output=True, text=True
        ).stdout.strip()
        with subprocess.Popen([*vx, "gateway"], env=environ, stderr=subprocess.DEVNULL) as gateway:
            try:
                until(lambda: ask(8490, "/healthz") == 200, "the gateway answers")
                seen = {
                    (address, host, bool(with_key)): there.run(
                        sys.executable, "-c", CLIENT, address, host, key if with_key else ""
                    ).strip()
                    for address, host, with_key in (
                        ("172.31.255.1", "host.docker.internal", True),
                        ("172.31.255.1", "host.docker.internal", False),
                        ("172.31.255.1", "evil.example", True),
                        ("172.31.254.1", "host.docker.internal", True),
                        ("127.0.0.1", "localhost", True),
                    )
                }
            finally:
                gateway.terminate()
    demand([*seen.values()] == ["200", "401", "403", "ConnectionRefusedError", "ConnectionRefusedError"], str(seen))
    say("bridge: the client's namespace reaches the bridge's address with key and host name, and no other address")


CLIENT = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], 8490, timeout=20)
try:
    connection.request("GET", "/v1/models", headers={"Host": sys.argv[2], "Authorization": "Bearer " + sys.argv[3]})
    print(connection.getresponse().status)
except OSError as error:
    print(type(error).__name__)
"""


# --- A pod ---


class Pod:
    """The containers of a Deployment, started as a kubelet starts them; the caller's network namespace is the pod's.

    Attributes:
        spec: the pod's specification.
        volumes: its volumes, by name.
    """

    def __init__(self, manifest: Path, image: Image, folder: Path, files: dict[str, dict[str, str]]) -> None:
        documents = list(yaml.safe_load_all(manifest.read_text()))
        self.spec = next(each for each in documents if each["kind"] == "Deployment")["spec"]["template"]["spec"]
        self.image, self.folder = image, folder
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

    def container(self, name: str, argv: list[str] | None = None, environ: dict[str, str] | None = None) -> Container:
        """Return a container of the pod; `argv` replaces its program."""
        spec = next(each for each in (*self.spec["initContainers"], *self.spec["containers"]) if each["name"] == name)
        variables = self.image.environ | {each["name"]: each["value"] for each in spec.get("env", ())} | (environ or {})
        mounts = [
            Mount(each["mountPath"], self.volumes[each["name"]] / each.get("subPath", ""), each.get("readOnly", False))
            for each in spec["volumeMounts"]
        ]
        program = argv or spec.get("command") or [*self.image.entrypoint, *self.image.command]
        limit = _bytes(spec["resources"]["limits"]["memory"])
        user = self.spec["securityContext"]["runAsUser"]
        log = self.folder / f"{name}.log"
        return Container(name, self.image.root, program, variables, log, mounts, user, limit)

    def probe(self, container: Container, kind: str) -> bool:
        """Run an exec probe of the manifest."""
        spec = next(each for each in self.spec["initContainers"] if each["name"] == container.name)
        command = spec[kind]["exec"]["command"]
        return container.pid != 0 and container.enter(*command, timeout=60).returncode == 0

    def close(self) -> None:
        for volume in self.spec["volumes"]:
            if "emptyDir" in volume:
                subprocess.run(["umount", "-l", str(self.volumes[volume["name"]])], check=True)


# The app: one request after another, each on a new connection, until the file exists; then it prints the counts.
APP = """
import collections, http.client, json, os, sys, time
statuses = collections.Counter()
body = json.dumps({"model": "google/gemini-2.5-flash", "messages": [{"role": "user", "content": "hello"}]})
while not os.path.exists("/run/vx-token/stop"):
    end = time.monotonic() + 120
    while time.monotonic() < end:  # a sidecar that is being restarted refuses connections, so clients must retry
        connection = http.client.HTTPConnection("127.0.0.1", 8490, timeout=30)
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


def run_pod(image: Image, folder: Path) -> None:
    """A pod outlives ten token lives, a killed sidecar and a rotated token; a revoked login restarts nothing."""
    documents = yaml.safe_load((KUBERNETES / "workload-identity/configmap.yaml").read_text())["data"]
    with running(lifetime=LIFETIME) as google:
        subject, written = folder / "subject", folder / "written.json"
        google.external_account(written, subject)
        source = json.loads(documents["google.json"])["credential_source"]
        google_json = json.loads(written.read_text()) | {"credential_source": source}
        config = documents["config.toml"] + f'base_url = "{google.base_url()}"\n'
        files = {
            "config": {"config.toml": config, "google.json": json.dumps(google_json)},
            "google-identity": {"token": subject.read_text()},
        }
        pod = Pod(KUBERNETES / "workload-identity/deployment.yaml", image, folder, files)
        try:
            _live_in_pod(pod, google, subject)
        finally:
            pod.close()


def _live_in_pod(pod: Pod, google: Emulator, subject: Path) -> None:
    with pod.container("folders").running() as folders:
        assert folders.process is not None
        demand(folders.process.wait(60) == 0, "the folders are made")
    sidecar = pod.container("vx-token")
    with sidecar.running(), contextlib.ExitStack() as stack:
        until(lambda: pod.probe(sidecar, "startupProbe"), "the startup probe succeeds")
        until(lambda: pod.probe(sidecar, "readinessProbe"), "the readiness probe succeeds")
        spec = next(each for each in pod.spec["containers"] if each["name"] == "app")
        program = [*spec["command"][:3], "python3", "-c", APP]  # as the manifest starts its own
        app = stack.enter_context(pod.container("app", program).running())
        first = len(google.issued)
        until(lambda: len(google.issued) >= first + LIVES // 3, "a third of the token lives", 180)
        sidecar.kill()  # and the kubelet starts it again
        demand(app.returncode is None, "the app runs on")
        sidecar.start()
        until(lambda: pod.probe(sidecar, "startupProbe"), "the startup probe succeeds again", 180)
        google.replace_subject_token(subject)  # the old one is not accepted any more
        pod.update(pod.volumes["google-identity"], {"token": subject.read_text()})
        rotated = len(google.issued)
        until(lambda: len(google.issued) >= rotated + 2, "tokens by the rotated service-account token", 180)
        until(lambda: len(google.issued) >= first + LIVES, "all token lives", 300)
        (pod.volumes["shared"] / "run/stop").touch()
        assert app.process is not None
        demand(app.process.wait(180) == 0, "the app ends")
        statuses = json.loads(app.log.read_text().splitlines()[-1])
        lives = len(google.issued) - first
        demand(set(statuses) <= {"200", "retries"} and statuses["200"] > 50, f"the app's answers: {statuses}")
        resident, peak = sidecar.resident() >> 20, sidecar.peak() >> 20
        google.heal()
        for each in google.issued[-1:]:
            google.revoke_identity(each.identity)
        until(lambda: not pod.probe(sidecar, "readinessProbe"), "after a revoked login the pod is not ready")
        demand(pod.probe(sidecar, "livenessProbe"), "and is not restarted")
        say(
            f"pod: {statuses['200']} requests answered 200 over {lives} tokens, a killed sidecar and a rotated"
            f" service-account token ({statuses.get('retries', 0)} connections retried);"
            f" sidecar {resident} MiB resident, {peak} MiB at most"
        )


# --- A machine account ---


def check_unit(image: Image) -> None:
    """The system unit is valid, and as hardened as docs/service.md says."""
    unit = REPOSITORY / "systemd/vx-token@.service"
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/opt"], check=True)  # in this mount namespace only
    Path("/opt/vx-token").mkdir()
    subprocess.run(["mount", "--bind", image.root / "opt/vx-token", "/opt/vx-token"], check=True)
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    demand(done.returncode == 0 and not done.stderr, f"systemd-analyze verify: {done.stderr}")
    argv = ["systemd-analyze", "security", "--offline=yes", unit]
    report = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    exposure = report.split("exposure level for")[1].split(":")[1].split()[0]
    demand(float(exposure) <= 1.5, f"systemd-analyze security: {exposure}")
    say(f"unit: vx-token@.service is valid, exposure {exposure}")


PARTS: dict[str, Callable[[Image, Path], None]] = {"compose": run_compose, "bridge": run_bridge, "pod": run_pod}


def main(names: list[str]) -> int:
    """Run the named parts, by default all."""
    if unknown := set(names) - {*PARTS, "files", "unit"}:
        say(f"unknown: {', '.join(sorted(unknown))}; known: files, {', '.join(PARTS)}, unit")
        return 2
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    wanted = names or ["files", *PARTS, "unit"]
    with tempfile.TemporaryDirectory(prefix="vx-containers-", dir="/tmp") as place:
        folder = Path(place)
        folder.chmod(0o755)
        if "files" in wanted:
            check_files()
        image = build_and_measure(_new(folder / "image")) if set(wanted) - {"files"} else Image(folder)
        for name, part in PARTS.items():
            if name in wanted:
                try:
                    part(image, _new(folder / name))
                except BaseException:
                    for log in (folder / name).glob("*.log"):
                        say(f"{log.name}:\n{log.read_text()[-2000:]}")
                    raise
        if "unit" in wanted:
            check_unit(image)
    return 0


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
