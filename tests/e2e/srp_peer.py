# SPDX-License-Identifier: Apache-2.0
"""A program that speaks SRP by itself, frame by frame, and can stop, die or lie at any of them.

It counts updates (POST /add/ID, GET /memory) as long as it owns the memory. What it does wrong stands in
the file PLAN as JSON: {"old": {"at": POINT, "do": DEED}, "new": {...}}. `POST /run` executes Python with
everything below in scope, for what no honest program does; the result is `answer`.
"""

from programs import program, service

# Points of the old revision, in their order. Up to "checkpoint" nobody else has its memory.
OLD_POINTS = ["export", "checkpoint", "half", "state", "acked", "release"]
# ... and of the new one.
NEW_POINTS = ["connected", "greeted", "load", "loaded", "confirmed"]

PEER = r"""
import array, binascii, fcntl, json, os, random, signal, socket, struct, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HELLO, STATE, STATE_BYTES, STATE_FD, LISTEN, EXPORT, RESUME, RELEASE, CHECKPOINT, LOAD, ERROR, ACK = (
    1, 2, 4, 5, 7, 0x10, 0x11, 0x12, 0x13, 0x14, 0xFE, 0xFF)
memory, changed, state = {"seen": {}}, threading.Condition(), "starting"
heard = False  # Aether has answered HELLO on `current`.

def frame(kind, payload=b"", flags=0):
    if isinstance(payload, dict): payload = json.dumps(payload).encode()
    return struct.pack(">IIBBH", 8 + len(payload), 0xAE7E2024, 1, kind, flags) + payload

def hello(**more):
    return frame(HELLO, {"role": "service", "instance": os.environ["AETHER_INSTANCE_ID"], "pid": os.getpid(),
                         "sdk": "peer", "capabilities": ["export", "shm", "resume", "crc32"], **more})

def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.environ["AETERNA_STATE_SOCK"])
    s.settimeout(30)
    return s

def exactly(s, size):
    data = b""
    while len(data) < size:
        piece = s.recv(size - len(data))
        if not piece: raise EOFError
        data += piece
    return data

def receive(s):
    length, magic, version, kind, flags = struct.unpack(">IIBBH", exactly(s, 12))
    assert magic == 0xAE7E2024 and version == 1
    return kind, exactly(s, length - 8)

def left(s):
    # What Aether still says, and that it has closed the connection.
    told = []
    try:
        while True: told.append(receive(s))
    except (EOFError, ConnectionError): pass
    return [[kind, payload.decode(errors="replace")] for kind, payload in told]

def plan(role, at):
    try: wish = json.load(open(os.environ["PLAN"])).get(role) or {}
    except OSError: return
    if wish.get("at") != at: return
    deed = wish["do"]
    if deed == "kill": os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)
    if deed == "stop": os.kill(os.getpid(), signal.SIGSTOP)
    if deed == "wait":
        open(os.environ["PLAN"] + ".reached", "w").close()
        while not os.path.exists(os.environ["PLAN"] + ".go"): time.sleep(0.01)
    if deed == "leave": raise EOFError
    if deed == "garbage":
        current.sendall(random.Random(1).randbytes(4096))
        raise EOFError
    if deed == "lie": return True

def become(what):
    global state
    with changed:
        state = what
        changed.notify_all()

def sum_of(data):
    return binascii.crc32(data)

def memfd(data):
    fd = os.memfd_create("context", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, 1033, 0xF)  # F_ADD_SEALS: all
    return fd

def give(s, about):
    plan("old", "export")
    become("quiesced")
    data = json.dumps(memory).encode()
    s.sendall(frame(CHECKPOINT, {"quiesce_ms": 0, "export_ms": 0}))
    plan("old", "checkpoint")
    if about["mechanism"] == "shm":
        fd = memfd(data)
        socket.send_fds(s, [frame(STATE_FD, {"name": "context", "size": len(data), "format": "json"})], [fd])
        os.close(fd)
    else:
        whole = frame(STATE, struct.pack(">I", sum_of(data)) + data, 2)
        s.sendall(whole[: len(whole) // 2])
        plan("old", "half")
        s.sendall(whole[len(whole) // 2 :])
    plan("old", "state")

def work(s):
    while True:
        kind, payload = receive(s)
        if kind == EXPORT: give(s, json.loads(payload))
        elif kind == ACK: plan("old", "acked")
        elif kind == RELEASE:
            plan("old", "release")
            become("released")
        elif kind == RESUME:
            become("open")
            s.sendall(frame(ACK, {"of": "resume"}))
        elif kind == STATE:  # before RESUME: what the next one made of it
            take(s, payload)
        elif kind == ERROR: become("open")

def take(s, payload):
    data = payload[4:]
    memory.clear()
    memory.update(json.loads(data))
    lie = plan("new", "loaded")
    s.sendall(frame(ACK, {"of": "state", "bytes": len(data), "crc32": sum_of(data) ^ bool(lie)}))

def load(s):
    s.sendall(frame(LOAD, {}))
    plan("new", "load")
    kind, payload = receive(s)
    while kind == CHECKPOINT: kind, payload = receive(s)
    if kind == STATE:
        take(s, payload)
        plan("new", "confirmed")
    elif kind == STATE_FD: raise SystemExit("this peer reads frames only")

def speak(first):
    global current, heard
    current = s = connect()
    waiting = False
    if first: plan("new", "connected")
    s.sendall(hello())
    kind, payload = receive(s)
    waiting = json.loads(payload).get("memory") == "waiting"
    heard = kind == ACK
    if first and waiting: plan("new", "greeted")
    if first and waiting: load(s)
    become("open")
    if first: threading.Thread(target=serve, daemon=True).start()
    work(s)

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def reply(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.reply({**memory, "pid": os.getpid(), "state": state})
    def do_POST(self):
        if self.path == "/run":
            scope = dict(globals())
            try: exec(self.rfile.read(int(self.headers["Content-Length"])).decode(), scope)
            except OSError: pass  # Its conversation was ended by what it did before.
            return self.reply(scope.get("answer"))
        with changed:
            changed.wait_for(lambda: state == "open")
            memory["seen"][self.path.rpartition("/")[2]] = os.getpid()
        self.reply({"pid": os.getpid()})

def serve():
    server = ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=3)
    server.socket.setblocking(True)
    server.serve_forever()

first = True
while True:
    try: speak(first)
    except (EOFError, OSError):
        if first and state == "starting": sys.exit(9)
    first = heard = False
    become("open")
    time.sleep(0.02)
"""


def peer_config(folder, mechanism="pipe", soak="0s", timeout="1s", **more):
    """A service of this program, with the file for its PLAN."""
    config = service(program(folder, "peer.py", PEER), name="peer", listen=["127.0.0.1:0"], soak=soak, **more)
    config["service"].setdefault("env", {})["PLAN"] = str(folder / "plan")
    config["orchestration"]["state_handoff"] = True
    config["orchestration"]["drain"] = {"timeout": "1s"}
    config["handoff"] = {"mechanism": mechanism, "timeout": timeout}
    return config
