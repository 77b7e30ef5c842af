# SPDX-License-Identifier: Apache-2.0
"""Stands where a real model's server would (llama.cpp, vLLM and others speak the same), and is small enough for an
example: it counts which machines are not at 2.6. Says its port in model.port."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Model(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = json.loads(asked["messages"][-1]["content"].split("Known: ")[1].replace("'", '"'))
        old = sorted(name for name, version in known.items() if version != "2.6")
        message = {"role": "assistant", "content": f"Not at 2.6: {', '.join(old)}."}
        told = {
            "model": "small",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 30, "completion_tokens": 8, "total_tokens": 38},
        }
        text = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
with open("model.port", "w", encoding="utf-8") as port:
    port.write(f"{server.server_port}\n")
server.serve_forever()
