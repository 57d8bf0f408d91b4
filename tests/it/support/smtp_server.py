"""A real SMTP server on loopback (aiosmtpd), for one test.

    smtp_server.py tls|starttls|none CERTIFICATE KEY [USERNAME PASSWORD]

Prints its port, then each message as a line of JSON. With a login, messages without it are refused. FAILURES=N refuses the first
N messages for now (451).
"""

import asyncio
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

MODE, CERTIFICATE, KEY, *LOGIN = sys.argv[1:]
failures = int(os.environ.get("FAILURES", "0"))


class Handler:
    async def handle_DATA(self, server, session, envelope):
        global failures
        if failures:
            failures -= 1
            return "451 try again later"
        message = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "encrypted": session.ssl is not None or MODE == "tls",
            "content": envelope.content.decode(),
        }
        print(json.dumps(message), flush=True)
        return "250 taken"


def authenticate(server, session, envelope, mechanism, login):
    return AuthResult(success=[login.login.decode(), login.password.decode()] == LOGIN)


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    options = {"require_starttls": True, "tls_context": context} if MODE == "starttls" else {}
    if LOGIN:
        options |= {"authenticator": authenticate, "auth_required": True, "auth_require_tls": MODE == "starttls"}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(Handler(), hostname="localhost", loop=loop, **options),
        "127.0.0.1",
        0,
        ssl=context if MODE == "tls" else None,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
