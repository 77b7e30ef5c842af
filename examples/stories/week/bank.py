# SPDX-License-Identifier: Apache-2.0
"""The bank: outside of Aether, and it counts. Each refund that it is asked for is a line of bank.txt; it never asks
whether it has seen one before. Says its port in bank.port."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Bank(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open("bank.txt", "a", encoding="utf-8") as book:
            book.write(f"{asked['order']} {asked['amount']}\n")
        told = json.dumps({"receipt": f"R-{asked['order']}"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Bank)
with open("bank.port", "w", encoding="utf-8") as port:
    port.write(f"{server.server_port}\n")
server.serve_forever()
