"""An identity provider on loopback, and one token that lasts as long as a run. Run as a program of its own.

Its first line of output is the issuer, the second the token (RS256).
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

from joserfc import jwt
from joserfc.jwk import RSAKey

AUDIENCE = "api://keyrelay"
SUBJECT = "bench"
_HOURS = 12


def main() -> None:
    key = RSAKey.generate_key(2048, {"kid": "bench", "use": "sig", "alg": "RS256"})
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    issuer = f"http://127.0.0.1:{server.server_port}"
    documents = {
        "/.well-known/openid-configuration": {"issuer": issuer, "jwks_uri": f"{issuer}/keys"},
        "/keys": {"keys": [key.as_dict(private=False)]},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(documents.get(self.path, {})).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server.RequestHandlerClass = Handler
    now = int(time.time())
    claims = {"iss": issuer, "aud": AUDIENCE, "sub": SUBJECT, "iat": now, "exp": now + _HOURS * 3600}
    print(issuer, jwt.encode({"alg": "RS256", "kid": "bench"}, claims, key), sep="\n", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
