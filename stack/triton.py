"""The Triton server from the nvidia-pytriton wheel, with the Python backend only, on loopback gRPC."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from stack.canary import COUNT_SECONDS, Canary
from stack.home import remove_shared_memory, shm_prefix
from stack.ports import Ports
from stack.preflight import home_problem, libpython_folder
from stack.process import Child, OfOneChild, StackError
from stack.served import environment_of, exit_seconds, link, served, start_seconds

__all__ = ["Triton"]

_PROJECT = Path(__file__).resolve().parent.parent

# An ill server waits for requests that nobody will answer: it gets no more than this.
_ILL_SECONDS = 10
_READY_SECONDS = 3.0
# From the end of its own wait for requests until the server has left.
_LEAVING_SECONDS = 5

# What the Python models must not inherit: it would change which interpreter or packages the stub finds.
_PYTHON_VARIABLES = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PYTHONSTARTUP")


class Triton(OfOneChild):
    """A Triton server that serves the models of the given repositories (stack/served.py), its files in home/triton.

    The server comes from `environment` (made by `make setup`: numpy < 2, and this Python's version), where the models
    run too unless one needs another; EARFUL_HOME names the project, so that a model.py can import speech/ and sentiment/.
    """

    name = "triton"

    def __init__(
        self,
        home: Path,
        ports: Ports,
        model_repositories: Sequence[Path],
        *,
        environment: Path = _PROJECT / ".venv-triton",
        extra_env: dict[str, str] | None = None,
    ) -> None:
        self._home = home
        self._ports = ports
        self._repositories = [Path(path).resolve() for path in model_repositories]
        self._environment = environment
        self._extra_env = extra_env or {}
        self._child = Child(self.name, home=home, telling=r"^E\d{4} (?!.*Cuda)|^error|^\w+(Error|Exception): ")
        self._shm_prefix = shm_prefix(home)
        self._client: InferenceServerClient | None = None
        self._canaries: list[Canary] = []
        self._well = False

    @property
    def address(self) -> str:
        """host:port of the gRPC endpoint."""
        return f"127.0.0.1:{self._ports['triton']}"

    @property
    def metrics_url(self) -> str:
        """Where Prometheus reads the server's metrics."""
        return f"http://127.0.0.1:{self._ports['triton_metrics']}/metrics"

    @property
    def models(self) -> list[str]:
        """The names of the models served."""
        return [folder.name for folder in self._folders()]

    def start(self, seconds: float | None = None) -> None:
        """Starts and returns when every model has answered its canary. Raises StackError, also after so many seconds."""
        if unfit := home_problem(str(self._home)):
            raise StackError(unfit)
        self._ports.choose("triton", "triton_metrics")
        remove_shared_memory(self._home)
        backends = self._copy_backend()
        self._child.start(self._command(backends), env=self._env(), cwd=_PROJECT)
        self._canaries = [Canary.read(folder) for folder in self._folders()]
        try:
            self._child.wait_until(self.healthy, seconds=seconds or start_seconds(self._folders()))
        except StackError:
            self.stop()
            raise

    def stop(self) -> None:
        """TERM, KILL when it had time to answer what it has taken (10 s if it is ill); then its shared memory is removed."""
        self._forget_client()
        self._child.stop(exit_seconds(self._folders()) + _LEAVING_SECONDS if self._well else _ILL_SECONDS)
        self._well = False
        remove_shared_memory(self._home)

    def healthy(self) -> bool:
        """Whether every model answers a real inference, or has answered anybody since the last look.

        The second half matters under load: a canary that waits behind a full queue proves nothing bad.
        Live, ready and model-ready are not enough: they say OK while a Python stub is dead.
        """
        self._well = self._child.pid is not None and not self.failing()
        return self._well

    @property
    def check_seconds(self) -> float:
        """How long `healthy` may take."""
        return _READY_SECONDS + sum(canary.timeout_seconds + COUNT_SECONDS for canary in self._canaries)

    def failing(self) -> list[str]:
        """The models whose canary failed, and that answered nobody else since the last look."""
        try:
            if self._client is None:
                self._client = InferenceServerClient(self.address)
            if not self._client.is_server_ready(client_timeout=_READY_SECONDS):
                return self.models
            client = self._client
            return [canary.model for canary in self._canaries if not canary.sing(client)]
        except InferenceServerException:
            self._forget_client()  # a channel that failed once backs off for up to a minute
            return self.models

    def _folders(self) -> list[Path]:
        return served(self._repositories, os.environ | self._extra_env)

    def _forget_client(self) -> None:
        if self._client is not None:
            with contextlib.suppress(InferenceServerException):
                self._client.close()
        self._client = None

    def _command(self, backends: Path) -> list[str | Path]:
        return [
            self._packages() / "pytriton" / "tritonserver" / "bin" / "tritonserver",
            f"--model-repository={link(self._folders(), self._home / 'triton' / 'models')}",
            f"--backend-directory={backends}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            "--model-control-mode=none",
            "--allow-http=false",  # 1 MB of gzip over HTTP makes the server 2 GB large
            "--allow-grpc=true",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self._ports['triton']}",
            "--grpc-restricted-protocol=shared-memory,model-repository,logging,trace:earful-admin=none",
            "--allow-metrics=true",
            "--metrics-address=127.0.0.1",
            f"--metrics-port={self._ports['triton_metrics']}",
            "--metrics-config=summary_latencies=true",
            f"--exit-timeout-secs={exit_seconds(self._folders())}",
            "--log-verbose=0",  # verbose logging prints payloads
        ]

    def _env(self) -> dict[str, str]:
        env = {key: value for key, value in os.environ.items() if key not in _PYTHON_VARIABLES}
        libraries = [str(self._packages() / "nvidia_pytriton.libs"), libpython_folder() or ""]
        if env.get("LD_LIBRARY_PATH"):
            libraries.append(env["LD_LIBRARY_PATH"])
        python = environment_of(self._folders(), _PROJECT, self._environment)
        return {
            # numpy's BLAS splits Whisper's features by cores, and a word that is cut off is heard otherwise; its threads spin, too.
            "OPENBLAS_NUM_THREADS": "1",
            **env,
            # The stub takes the first python3 on PATH for its prefix, and so for its packages.
            "PATH": f"{python / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}",
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "EARFUL_HOME": str(_PROJECT),
            "PYTHONDONTWRITEBYTECODE": "1",  # nothing is written into the model repository
            **self._extra_env,
        }

    def _packages(self) -> Path:
        folder = self._environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        if not (folder / "pytriton").exists():
            raise StackError(f"triton: {folder} does not hold the server; run `make setup` with this Python")
        return folder

    def _copy_backend(self) -> Path:
        """The wheel keeps the stubs apart, one per Python version; the server wants one beside the backend."""
        wheel = self._packages() / "pytriton" / "tritonserver"
        backends = self._home / "triton" / "backends"
        python = backends / "python"
        shutil.rmtree(backends, ignore_errors=True)
        shutil.copytree(wheel / "backends" / "python", python, ignore=shutil.ignore_patterns("__pycache__"))
        stub = "triton_python_backend_stub"
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        shutil.copy(wheel / "python_backend_stubs" / version / stub, python / stub)
        (python / stub).chmod((python / stub).stat().st_mode | stat.S_IXUSR)
        return backends
