"""tls.py CERT KEY HOST:PORT: speaks TLS on a free port of this machine, which it prints, and passes on
what it is told to HOST:PORT. For packaging/try."""

import socket
import ssl
import sys
import threading

cert, key, to = sys.argv[1:]
host, port = to.rsplit(":", 1)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(cert, key)


def pass_on(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(raw):
    try:
        client = context.wrap_socket(raw, server_side=True)
    except (ssl.SSLError, OSError):
        return
    api = socket.create_connection((host, int(port)))
    threading.Thread(target=pass_on, args=(api, client), daemon=True).start()
    pass_on(client, api)


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
