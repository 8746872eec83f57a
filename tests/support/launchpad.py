"""Stand-ins for what a launcher starts: a server in plain Python, and a SGLang made of one."""

import io
import socket
import sys
import time
import uuid
from pathlib import Path

import psutil

from hfx_sgl.launch.plan import InstancePlan
from hfx_sgl.types import Role

SERVER = """\
import http.server, os, signal, sys, tempfile, time

def serve(host, port, behaviour):
    if behaviour == "crash":
        print("this server cannot start", flush=True)
        sys.exit(3)
    if behaviour == "litter":
        tempfile.mkstemp(prefix="litter")
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    # As SGLang's schedulers do, the helper stays in the server's process group.
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
        os._exit(0)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            is_ready = self.path == "/health" and behaviour != "never_ready"
            self.send_response(200 if is_ready else 503)
            self.end_headers()

        def log_message(self, *args):
            pass

    print("serving", flush=True)
    http.server.HTTPServer((host, port), Handler).serve_forever()

if __name__ == "__main__":
    serve("127.0.0.1", int(sys.argv[1]), sys.argv[2])
"""

FIRST_PORT = 24000
"""Below the ports that the kernel hands out, and away from those of other tests."""

FAKE_SGLANG = {
    "stand_in_server.py": SERVER,
    "torch.py": "def set_num_threads(count): pass\n",
    "sglang/__init__.py": "",
    "sglang/launch_server.py": """\
import multiprocessing, os, stand_in_server
def run_server(args):
    multiprocessing.set_start_method("spawn", force=True)
    print("start method", multiprocessing.get_start_method(), "of", os.environ["WHO"], flush=True)
    stand_in_server.serve(*args)
if __name__ == "__main__":
    import sys
    from sglang.srt.server_args import prepare_server_args
    run_server(prepare_server_args(sys.argv[1:]))
""",
    "sglang/srt/__init__.py": "",
    "sglang/srt/plugins.py": "def load_plugins(): print('plugins loaded', flush=True)\n",
    "sglang/srt/utils.py": "def kill_process_tree(pid, include_parent): pass\n",
    "sglang/srt/server_args.py": """\
def prepare_server_args(args):
    model_path = args[args.index("--model-path") + 1]
    return "127.0.0.1", int(args[args.index("--port") + 1]), model_path.rpartition("/")[2]
""",
    "sglang/srt/disaggregation/mooncake/conn.py": "",
    "sglang/srt/entrypoints/http_server.py": "",
    "sglang/srt/entrypoints/openai/serving_responses.py": "",
    "sglang/srt/managers/detokenizer_manager.py": "",
    "sglang/srt/managers/scheduler.py": "",
    "sglang/srt/models/registry.py": "",
}


class Launchpad:
    """Where one test starts its processes, and where it looks for what is left of them."""

    def __init__(self, folder: Path) -> None:
        for name, text in FAKE_SGLANG.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.log_dir = folder / "logs"
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.env = {"PYTHONPATH": str(folder), "HFX_TEST_MARK": self.mark, "WHO": "nobody"}
        self.stream = io.StringIO()
        self._num_planned = 0
        self._next_port = FIRST_PORT

    def server(self, behaviour: str = "ready", *, role: Role | None = Role.REGULAR) -> InstancePlan:
        """Plan a stand-in server that both kinds of spawner can start."""
        name = f"server-{self._num_planned}"
        self._num_planned += 1
        port = self._free_port()
        script = self.folder / "stand_in_server.py"
        # The fork server drops the first three words, as it would drop `-m sglang.launch_server`.
        argv: tuple[str, ...] = (sys.executable, "-m", "sglang.launch_server", "--port", str(port))
        argv += ("--model-path", behaviour)
        if role is None:
            argv = (sys.executable, str(script), str(port), behaviour)
        return InstancePlan(
            name=name,
            role=role,
            argv=argv,
            env={**self.env, "WHO": name},
            url=f"http://127.0.0.1:{port}",
            log_path=str(self.log_dir / f"{name}.log"),
        )

    def left_over(self) -> list[psutil.Process]:
        """Return the processes of this test that do not vanish within seconds."""
        return self.settle_at(0)

    def settle_at(self, count: int) -> list[psutil.Process]:
        """Return the processes of this test as soon as no more than `count` run, or after 5 s."""
        give_up_at_s = time.perf_counter() + 5.0
        while len(found := self.running()) > count and time.perf_counter() < give_up_at_s:
            time.sleep(0.02)
        return found

    def running(self) -> list[psutil.Process]:
        """Return the processes that carry this test's mark in their environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("HFX_TEST_MARK") == self.mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def _free_port(self) -> int:
        """Return a port that was free a moment ago, each time another."""
        while True:
            port = self._next_port
            self._next_port += 1
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port
