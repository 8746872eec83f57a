import os
import socket
import sys

from hfx_transfer.engine.side.host import serve

if __name__ == "__main__":
    status = serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    # Native threads are of no use any more, and daemon threads must not delay the end.
    os._exit(status)
