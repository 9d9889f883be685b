"""Load on a gateway until a file is there: `load.py URL HOST TOKEN_FILE STOP_FILE`.

Half of the clients make a connection for each request, and the other half keep theirs, and look whether it was
closed before they use it again, as pools do. A request that met its end all the same, before any byte of a response, is
sent once more on a new one, and counted. What else fails is lost."""

import http.client
import select
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

url, host, token_file, stop_file = sys.argv[1:]
ADDRESS, STOP = urlsplit(url).netloc, Path(stop_file)
HEADERS = {"Host": host, "X-AUTH-TOKEN": Path(token_file).read_text().strip()}
counts, lost, lock = Counter(), [], threading.Lock()


def ask(connection):
    connection.request("GET", "/load", headers=HEADERS)
    response = connection.getresponse()
    response.read()
    return response.status


def is_closed(connection):
    return bool(connection.sock and select.select([connection.sock], [], [], 0)[0])


def client(keeps):
    connection = None
    while not STOP.exists():
        if connection and is_closed(connection):
            connection.close()
        is_kept = connection is not None and connection.sock is not None
        connection = connection or http.client.HTTPConnection(ADDRESS, timeout=30)
        try:
            result = ask(connection)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            result = f"{type(error).__name__}: {error}"
            if is_kept and isinstance(error, (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)):
                with lock:
                    counts["again"] += 1
                continue
        if not keeps:
            connection.close()
            connection = None
        with lock:
            counts["kept" if keeps else "new"] += 1
            if result != 200:
                lost.append(f"{time.strftime('%H:%M:%S')} {'kept' if keeps else 'new'}: {result}")
        time.sleep(0.02)


threads = [threading.Thread(target=client, args=(number % 2 == 0,)) for number in range(8)]
for thread in threads:
    thread.start()
time.sleep(2)
print("served so far:", sum(counts.values()), flush=True)
for thread in threads:
    thread.join()
print("\n".join(lost))
print(f"{counts['new']} requests on connections of their own, {counts['kept']} on kept ones, {counts['again']} sent again, {len(lost)} lost")
sys.exit(bool(lost) or not counts["new"] or not counts["kept"])
